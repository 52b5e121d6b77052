//! Layer, root-mean-square, group and batch normalisation.

mod batch;
mod group;
mod row;

use candle_core::{D, Result, Tensor, bail};

use crate::kernel::host;
use crate::reference;

pub use batch::BatchStatistics;

/// `(x - mean) / sqrt(variance + eps) * gamma + beta` over the last dimension: [.., width] gives [.., width];
/// `gamma` and `beta` are [width].
///
/// # Errors
/// If the shapes do not fit.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    check("layer_norm: gamma", gamma, width)?;
    check("layer_norm: beta", beta, width)?;
    if !host::is_fused(&[x, gamma, beta]) {
        return reference::layer_norm(x, gamma, beta, eps);
    }
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, row::LayerNorm { eps: eps as f32 })
}

/// `x / sqrt(mean of squares + eps) * gamma` over the last dimension: [.., width] gives [.., width]; `gamma` is
/// [width].
///
/// # Errors
/// If the shapes do not fit.
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    check("rms_norm: gamma", gamma, x.dim(D::Minus1)?)?;
    if !host::is_fused(&[x, gamma]) {
        return reference::rms_norm(x, gamma, eps);
    }
    x.contiguous()?.apply_op2(&gamma.contiguous()?, row::RmsNorm { eps: eps as f32 })
}

/// Normalises each group of channels of each item: [batch, channels, ..] gives the same shape; `gamma` and `beta`
/// are [channels]; the channels are cut into `groups` equal runs.
///
/// # Errors
/// If the shapes do not fit or `groups` does not divide the channels.
pub fn group_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let op = group::GroupNorm::new(x, groups, eps, false)?;
    check("group_norm: gamma", gamma, x.dim(1)?)?;
    check("group_norm: beta", beta, x.dim(1)?)?;
    if !host::is_fused(&[x, gamma, beta]) {
        return reference::group_norm(x, gamma, beta, groups, eps);
    }
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)
}

/// [`group_norm`] followed by [`silu`](crate::silu), in one pass.
///
/// # Errors
/// As [`group_norm`].
pub fn group_norm_silu(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let op = group::GroupNorm::new(x, groups, eps, true)?;
    check("group_norm_silu: gamma", gamma, x.dim(1)?)?;
    check("group_norm_silu: beta", beta, x.dim(1)?)?;
    if !host::is_fused(&[x, gamma, beta]) {
        return reference::group_norm_silu(x, gamma, beta, groups, eps);
    }
    x.contiguous()?.apply_op3(&gamma.contiguous()?, &beta.contiguous()?, op)
}

/// Normalises each channel over the whole batch: [batch, channels, ..] gives the same shape; `gamma` and `beta` are
/// [channels]. It is the norm of training: a row depends on its neighbours. The statistics are those of this batch.
///
/// # Errors
/// If the shapes do not fit, or there are not two values of each channel.
pub fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    batch::check(x)?;
    check("batch_norm: gamma", gamma, x.dim(1)?)?;
    check("batch_norm: beta", beta, x.dim(1)?)?;
    if !host::is_fused(&[x, gamma, beta]) {
        return reference::batch_norm(x, gamma, beta, eps);
    }
    batch::fused(x, gamma, beta, eps, false)
}

/// [`batch_norm`] followed by [`relu`](crate::relu), in one pass.
///
/// # Errors
/// As [`batch_norm`].
pub fn batch_norm_relu(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    batch::check(x)?;
    check("batch_norm_relu: gamma", gamma, x.dim(1)?)?;
    check("batch_norm_relu: beta", beta, x.dim(1)?)?;
    if !host::is_fused(&[x, gamma, beta]) {
        return reference::batch_norm_relu(x, gamma, beta, eps);
    }
    batch::fused(x, gamma, beta, eps, true)
}

fn check(what: &str, tensor: &Tensor, width: usize) -> Result<()> {
    if tensor.dims() != [width] {
        bail!("{what} has shape {:?}; [{width}] was expected", tensor.shape())
    }
    Ok(())
}
