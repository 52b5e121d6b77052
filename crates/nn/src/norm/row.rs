//! Normalisation of the last dimension: layer norm and root-mean-square norm.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, sums};

/// Values that a parallel task works on at least.
const TASK: usize = 16_384;
/// Parts into which the rows are cut for the gradients of gamma and beta. Fixed, so that the order of additions is.
const PARTS: usize = 64;

pub(super) struct LayerNorm {
    pub(super) eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let width = gamma.len().max(1);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width)
            .zip(x.par_chunks(width))
            .with_min_len((TASK / width).max(1))
            .for_each(|(out, x)| layer_norm_row(out, x, gamma, beta, self.eps));
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let width = gamma.elem_count();
        let rows = backward(x, gamma, gradient, 2 * width, |row, totals| {
            layer_norm_backward_row(row, totals, self.eps);
        })?;
        let (d_gamma, d_beta) = rows.totals.split_at(width);
        Ok((
            Some(rows.dx),
            Some(host::tensor(d_gamma.to_vec(), gamma.shape())?),
            Some(host::tensor(d_beta.to_vec(), gamma.shape())?),
        ))
    }
}

pub(super) struct RmsNorm {
    pub(super) eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gamma: &CpuStorage,
        gamma_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(x, layout)?;
        let gamma = host::slice(gamma, gamma_layout)?;
        let width = gamma.len().max(1);
        let mut out = vec![0.0; x.len()];
        out.par_chunks_mut(width)
            .zip(x.par_chunks(width))
            .with_min_len((TASK / width).max(1))
            .for_each(|(out, x)| rms_norm_row(out, x, gamma, self.eps));
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let width = gamma.elem_count();
        let rows = backward(x, gamma, gradient, width, |row, totals| {
            rms_norm_backward_row(row, totals, self.eps);
        })?;
        let d_gamma = host::tensor(rows.totals, gamma.shape())?;
        Ok((Some(rows.dx), Some(d_gamma)))
    }
}

/// One row of a backward pass.
struct Row<'a> {
    dx: &'a mut [f32],
    x: &'a [f32],
    gradient: &'a [f32],
    gamma: &'a [f32],
}

struct Gradients {
    dx: Tensor,
    /// Sums over all rows: the gradient of gamma, then that of beta where there is one.
    totals: Vec<f32>,
}

/// Runs `kernel` on every row; each part of the rows has `totals` of its own, added up in order at the end.
fn backward(
    x: &Tensor,
    gamma: &Tensor,
    gradient: &Tensor,
    total_length: usize,
    kernel: impl Fn(Row<'_>, &mut [f32]) + Sync,
) -> Result<Gradients> {
    let gradient = gradient.contiguous()?;
    let (x_reader, gamma_reader) = (host::Reader::new(x), host::Reader::new(gamma));
    let gradient_reader = host::Reader::new(&gradient);
    let (x_values, gamma) = (x_reader.values()?, gamma_reader.values()?);
    let gradient = gradient_reader.values()?;
    let width = gamma.len().max(1);
    let part = (x_values.len() / width).div_ceil(PARTS).max(1) * width;
    let mut dx = vec![0.0; x_values.len()];
    let parts: Vec<Vec<f32>> = dx
        .par_chunks_mut(part)
        .zip(x_values.par_chunks(part))
        .zip(gradient.par_chunks(part))
        .map(|((dx, x), gradient)| {
            let mut totals = vec![0.0; total_length];
            let rows = dx.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gradient.chunks_exact(width));
            for ((dx, x), gradient) in rows {
                let row = Row { dx, x, gradient, gamma };
                kernel(row, &mut totals);
            }
            totals
        })
        .collect();
    Ok(Gradients { dx: host::tensor(dx, x.shape())?, totals: sums::in_order(parts, total_length) })
}

vectorised! {
    fn layer_norm_row(out: &mut [f32], x: &[f32], gamma: &[f32], beta: &[f32], eps: f32) {
        let (mean, inverse) = sums::moments(x, eps);
        for ((out, x), (gamma, beta)) in out.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
            *out = (x - mean) * inverse * gamma + beta;
        }
    }

    fn layer_norm_backward_row(row: Row<'_>, totals: &mut [f32], eps: f32) {
        let Row { dx, x, gradient, gamma } = row;
        let (mean, inverse) = sums::moments(x, eps);
        let (d_gamma, d_beta) = totals.split_at_mut(gamma.len());
        for ((d_gamma, d_beta), (x, gradient)) in
            d_gamma.iter_mut().zip(d_beta).zip(x.iter().zip(gradient))
        {
            *d_gamma += gradient * (x - mean) * inverse;
            *d_beta += gradient;
        }
        // With xh the normalised row and d = gradient * gamma: dx = (d - mean(d) - xh mean(d xh)) / std.
        for ((dx, gradient), gamma) in dx.iter_mut().zip(gradient).zip(gamma) {
            *dx = gradient * gamma;
        }
        let count = x.len() as f32;
        let mean_d = sums::lanes(dx, dx, |d, _| d) / count;
        let mean_dx = sums::lanes(dx, x, |d, x| d * (x - mean)) * inverse / count;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = inverse * (*dx - mean_d - (x - mean) * inverse * mean_dx);
        }
    }

    fn rms_norm_row(out: &mut [f32], x: &[f32], gamma: &[f32], eps: f32) {
        let squares = sums::lanes(x, x, |x, _| x * x) / x.len() as f32;
        let inverse = 1.0 / (squares + eps).sqrt();
        for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
            *out = x * inverse * gamma;
        }
    }

    fn rms_norm_backward_row(row: Row<'_>, totals: &mut [f32], eps: f32) {
        let Row { dx, x, gradient, gamma } = row;
        let count = x.len() as f32;
        let squares = sums::lanes(x, x, |x, _| x * x) / count;
        let inverse = 1.0 / (squares + eps).sqrt();
        for ((total, x), gradient) in totals.iter_mut().zip(x).zip(gradient) {
            *total += gradient * x * inverse;
        }
        for ((dx, gradient), gamma) in dx.iter_mut().zip(gradient).zip(gamma) {
            *dx = gradient * gamma;
        }
        let mean_dx = sums::lanes(dx, x, |d, x| d * x) * inverse / count;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = inverse * (*dx - x * inverse * mean_dx);
        }
    }
}
