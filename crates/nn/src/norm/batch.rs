//! Batch normalisation by the statistics of the batch (Ioffe and Szegedy, 2015), with ReLU in the same pass where
//! wanted.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, sums};

/// Mean and variance of each channel of a batch: what running statistics follow. They carry no gradient.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// [channels].
    pub mean: Tensor,
    /// [channels]: mean square of the deviations, by which the batch was normalised.
    pub variance: Tensor,
    /// Values of each channel.
    pub count: usize,
}

impl BatchStatistics {
    /// Running mean and variance, both [channels], after this batch: `(1 - momentum) * running + momentum * batch`. As
    /// in PyTorch the variance that counts here is the unbiased one, of `count - 1` degrees of freedom.
    ///
    /// # Errors
    /// If the running statistics are of other channels.
    pub fn blended(&self, running_mean: &Tensor, running_variance: &Tensor, momentum: f64) -> Result<(Tensor, Tensor)> {
        let blend = |running: &Tensor, batch: &Tensor, factor: f64| {
            let batch = (batch.to_dtype(running.dtype())? * (momentum * factor))?;
            (running * (1.0 - momentum))? + batch
        };
        let unbiased = self.count as f64 / (self.count as f64 - 1.0);
        Ok((blend(running_mean, &self.mean, 1.0)?, blend(running_variance, &self.variance, unbiased)?))
    }
}

/// Extents of one call: [items, channels, area].
#[derive(Clone, Copy)]
struct Extents {
    channels: usize,
    /// Values of one channel of one item: a plane.
    area: usize,
    /// Values of one channel of all items.
    count: usize,
}

impl Extents {
    fn new(x: &Tensor) -> Result<Self> {
        let dims = x.dims();
        if dims.len() < 2 {
            bail!("batch_norm: the input has shape {dims:?}; [batch, channels, ..] was expected")
        }
        let area = dims[2..].iter().product();
        let count = dims[0] * area;
        if count < 2 {
            bail!("batch_norm: an input of shape {dims:?} has {count} values a channel; a variance needs two")
        }
        Ok(Self { channels: dims[1], area, count })
    }

    /// Sums over the batch of one number for each plane, in order.
    fn channel_sums(&self, planes: &[f32]) -> Vec<f64> {
        let mut sums = vec![0f64; self.channels];
        for item in planes.chunks_exact(self.channels.max(1)) {
            sums.iter_mut().zip(item).for_each(|(sum, plane)| *sum += f64::from(*plane));
        }
        sums
    }

    /// Sums over the batch of one number for each plane with its channel.
    fn sums_of(&self, x: &[f32], of: impl Fn(&[f32], usize) -> f32 + Sync) -> Vec<f64> {
        let planes: Vec<f32> =
            x.par_chunks(self.area).enumerate().map(|(index, plane)| of(plane, index % self.channels)).collect();
        self.channel_sums(&planes)
    }
}

/// Whether the shapes can be normalised.
pub(super) fn check(x: &Tensor) -> Result<()> {
    Extents::new(x).map(drop)
}

/// The kernel over contiguous f32 on the CPU: [batch, channels, ..] to the same shape.
pub(super) fn fused(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    relu: bool,
) -> Result<(Tensor, BatchStatistics)> {
    let extents = Extents::new(x)?;
    let x = x.contiguous()?;
    let (mean, variance) = {
        let x = host::Reader::new(&x);
        moments(extents, x.values()?)
    };
    let inverse = variance.iter().map(|variance| 1.0 / (variance + eps as f32).sqrt()).collect();
    let statistics = BatchStatistics {
        mean: host::tensor(mean.clone(), &extents.channels.into())?,
        variance: host::tensor(variance, &extents.channels.into())?,
        count: extents.count,
    };
    let op = BatchNorm { extents, mean, inverse, relu };
    Ok((x.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)?, statistics))
}

/// Mean and variance of each channel, in two passes so that a large mean costs no accuracy.
fn moments(extents: Extents, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let count = extents.count as f64;
    let mean: Vec<f32> =
        extents.sums_of(x, |plane, _| sums::sum(plane)).into_iter().map(|sum| (sum / count) as f32).collect();
    let squares = extents.sums_of(x, |plane, channel| squared_deviations(plane, mean[channel]));
    let variance = squares.into_iter().map(|sum| (sum / count) as f32).collect();
    (mean, variance)
}

/// The normalisation with the statistics of its own input, through which its gradient goes too.
struct BatchNorm {
    extents: Extents,
    mean: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    inverse: Vec<f32>,
    relu: bool,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch-norm"
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
        let Extents { channels, area, .. } = self.extents;
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(area).zip(x.par_chunks(area)).enumerate().for_each(|(index, (out, x))| {
            let channel = index % channels;
            let scale = self.inverse[channel] * gamma[channel];
            if self.relu {
                affine_relu(out, x, self.mean[channel], scale, beta[channel]);
            } else {
                affine(out, x, self.mean[channel], scale, beta[channel]);
            }
        });
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let readers = [x, gamma, out, &gradient].map(host::Reader::new);
        let [x_values, gamma_values, out_values, gradient] = &readers;
        let (x_values, gamma_values) = (x_values.values()?, gamma_values.values()?);
        let (out_values, gradient) = (out_values.values()?, gradient.values()?);
        let Extents { channels, area, count } = self.extents;
        // With d the gradient of the affine map's result and xh the normalised value, `dx` first holds d.
        let mut dx = gradient.to_vec();
        if self.relu {
            dx.par_chunks_mut(area).zip(out_values.par_chunks(area)).for_each(|(d, out)| where_positive(d, out));
        }
        let d_beta = self.extents.sums_of(&dx, |d, _| sums::sum(d));
        let products: Vec<f32> = dx
            .par_chunks(area)
            .zip(x_values.par_chunks(area))
            .enumerate()
            .map(|(index, (d, x))| sums::centred_dot(d, x, self.mean[index % channels]))
            .collect();
        let mut d_gamma = self.extents.channel_sums(&products);
        d_gamma.iter_mut().zip(&self.inverse).for_each(|(d_gamma, inverse)| *d_gamma *= f64::from(*inverse));
        dx.par_chunks_mut(area).zip(x_values.par_chunks(area)).enumerate().for_each(|(index, (dx, x))| {
            let channel = index % channels;
            let mean_d = (d_beta[channel] / count as f64) as f32;
            let mean_d_xh = (d_gamma[channel] / count as f64) as f32;
            let inverse = self.inverse[channel];
            through_statistics(dx, x, self.mean[channel], inverse, inverse * gamma_values[channel], mean_d, mean_d_xh);
        });
        let narrowed = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Ok((
            Some(host::tensor(dx, x.shape())?),
            Some(host::tensor(narrowed(d_gamma), gamma.shape())?),
            Some(host::tensor(narrowed(d_beta), gamma.shape())?),
        ))
    }
}

vectorised! {
    /// `sum of (x - mean)^2`.
    fn squared_deviations(x: &[f32], mean: f32) -> f32 {
        sums::blocks(x, x, |x, _| (x - mean) * (x - mean))
    }

    fn affine(out: &mut [f32], x: &[f32], mean: f32, scale: f32, shift: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            *out = (x - mean) * scale + shift;
        }
    }

    /// NaN stays NaN.
    fn affine_relu(out: &mut [f32], x: &[f32], mean: f32, scale: f32, shift: f32) {
        for (out, x) in out.iter_mut().zip(x) {
            let y = (x - mean) * scale + shift;
            *out = if y < 0.0 { 0.0 } else { y };
        }
    }

    /// The gradient of max(·, 0), by its result.
    fn where_positive(d: &mut [f32], out: &[f32]) {
        for (d, out) in d.iter_mut().zip(out) {
            *d = if *out > 0.0 { *d } else { 0.0 };
        }
    }

    /// `dx = scale (d - mean_d - xh mean_d_xh)`, where `dx` holds d.
    fn through_statistics(
        dx: &mut [f32],
        x: &[f32],
        mean: f32,
        inverse: f32,
        scale: f32,
        mean_d: f32,
        mean_d_xh: f32,
    ) {
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = scale * (*dx - mean_d - (x - mean) * inverse * mean_d_xh);
        }
    }
}
