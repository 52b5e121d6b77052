//! Group normalisation (Wu and He, 2018), with SiLU in the same pass where wanted.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, math, sums};

/// Extents of one call. A group is the run of `group_channels * area` values that share a mean and a variance.
#[derive(Clone, Copy)]
pub(super) struct GroupNorm {
    groups: usize,
    /// Channels of one group.
    group_channels: usize,
    /// Values of one channel.
    area: usize,
    eps: f32,
    silu: bool,
}

impl GroupNorm {
    pub(super) fn new(x: &Tensor, groups: usize, eps: f64, silu: bool) -> Result<Self> {
        let dims = x.dims();
        if dims.len() < 2 {
            bail!("group_norm: the input has shape {dims:?}; [batch, channels, ..] was expected")
        }
        if groups == 0 || !dims[1].is_multiple_of(groups) {
            bail!("group_norm: {} channels cannot be cut into {groups} groups", dims[1])
        }
        Ok(Self { groups, group_channels: dims[1] / groups, area: dims[2..].iter().product(), eps: eps as f32, silu })
    }

    fn channels(&self) -> usize {
        self.groups * self.group_channels
    }

    fn group_length(&self) -> usize {
        self.group_channels * self.area
    }

    /// The part of a per-channel parameter that belongs to the group with this index over the whole batch.
    fn parameters<'a>(&self, values: &'a [f32], index: usize) -> &'a [f32] {
        &values[(index % self.groups) * self.group_channels..][..self.group_channels]
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
        beta: &CpuStorage,
        beta_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(x, layout)?;
        let gamma = host::slice(gamma, gamma_layout)?;
        let beta = host::slice(beta, beta_layout)?;
        let length = self.group_length().max(1);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(length).zip(x.par_chunks(length)).enumerate().for_each(|(index, (out, x))| {
            let (mean, inverse) = moments(x, self.eps);
            let (gamma, beta) = (self.parameters(gamma, index), self.parameters(beta, index));
            let channels = out.chunks_mut(self.area).zip(x.chunks(self.area));
            for ((out, x), (gamma, beta)) in channels.zip(gamma.iter().zip(beta)) {
                let scale = inverse * gamma;
                if self.silu {
                    affine_silu(out, x, mean, scale, *beta);
                } else {
                    affine(out, x, mean, scale, *beta);
                }
            }
        });
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let readers = [x, gamma, beta, &gradient].map(host::Reader::new);
        let [x_values, gamma_values, beta_values, gradient] = &readers;
        let (x_values, gradient) = (x_values.values()?, gradient.values()?);
        let (gamma_values, beta_values) = (gamma_values.values()?, beta_values.values()?);
        let length = self.group_length().max(1);
        let mut dx = vec![0.0; x_values.len()];
        // Sums of each channel of each item, added over the batch in order below.
        let items = x_values.len() / (self.channels() * self.area).max(1);
        let mut d_gamma = vec![0.0; items * self.channels()];
        let mut d_beta = vec![0.0; items * self.channels()];
        let per_group = self.group_channels.max(1);
        dx.par_chunks_mut(length)
            .zip(x_values.par_chunks(length))
            .zip(gradient.par_chunks(length))
            .zip(d_gamma.par_chunks_mut(per_group))
            .zip(d_beta.par_chunks_mut(per_group))
            .enumerate()
            .for_each(|(index, ((((dx, x), gradient), d_gamma), d_beta))| {
                let group = Group {
                    x,
                    gradient,
                    gamma: self.parameters(gamma_values, index),
                    beta: self.parameters(beta_values, index),
                };
                self.backward_group(&group, dx, d_gamma, d_beta);
            });
        let total = |parts: &[f32]| sums::columns(parts, self.channels());
        Ok((
            Some(host::tensor(dx, x.shape())?),
            Some(host::tensor(total(&d_gamma), gamma.shape())?),
            Some(host::tensor(total(&d_beta), gamma.shape())?),
        ))
    }
}

/// What the backward pass of one group reads.
struct Group<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
}

impl GroupNorm {
    fn backward_group(&self, group: &Group<'_>, dx: &mut [f32], d_gamma: &mut [f32], d_beta: &mut [f32]) {
        let area = self.area;
        let (mean, inverse) = moments(group.x, self.eps);
        // With d the gradient of the affine map's result and xh the normalised value, `dx` first holds d.
        let (mut sum_d, mut sum_d_xh) = (0f64, 0f64);
        for channel in 0..self.group_channels {
            let range = channel * area..(channel + 1) * area;
            let (x, gradient) = (&group.x[range.clone()], &group.gradient[range.clone()]);
            let d = &mut dx[range];
            let (gamma, beta) = (group.gamma[channel], group.beta[channel]);
            if self.silu {
                affine_silu_backward(d, x, gradient, mean, inverse * gamma, beta);
            } else {
                d.copy_from_slice(gradient);
            }
            d_beta[channel] = sums::sum(d);
            d_gamma[channel] = sums::centred_dot(d, x, mean) * inverse;
            sum_d += f64::from(d_beta[channel] * gamma);
            sum_d_xh += f64::from(d_gamma[channel] * gamma);
        }
        let count = group.x.len() as f64;
        let (mean_d, mean_d_xh) = ((sum_d / count) as f32, (sum_d_xh / count) as f32);
        let channels = dx.chunks_mut(area).zip(group.x.chunks(area));
        for ((dx, x), gamma) in channels.zip(group.gamma) {
            normalise_backward(dx, x, mean, inverse, *gamma, mean_d, mean_d_xh);
        }
    }
}

vectorised! {
    fn moments(x: &[f32], eps: f32) -> (f32, f32) {
        sums::moments(x, eps)
    }

    fn affine(out: &mut [f32], x: &[f32], mean: f32, scale: f32, shift: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - mean) * scale + shift;
        }
    }

    fn affine_silu(out: &mut [f32], x: &[f32], mean: f32, scale: f32, shift: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = math::silu((x - mean) * scale + shift);
        }
    }

    fn affine_silu_backward(d: &mut [f32], x: &[f32], gradient: &[f32], mean: f32, scale: f32, shift: f32) {
        for ((d, x), gradient) in d.iter_mut().zip(x).zip(gradient) {
            *d = gradient * math::silu_derivative((x - mean) * scale + shift);
        }
    }

    /// `dx = (d gamma - mean_d - xh mean_d_xh) / std`, where `dx` holds d.
    fn normalise_backward(
        dx: &mut [f32],
        x: &[f32],
        mean: f32,
        inverse: f32,
        gamma: f32,
        mean_d: f32,
        mean_d_xh: f32,
    ) {
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = inverse * (*dx * gamma - mean_d - (x - mean) * inverse * mean_d_xh);
        }
    }
}
