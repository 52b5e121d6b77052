//! The same functions as compositions of candle primitives: for other types and devices, and to test the kernels
//! against.
//!
//! Only primitives whose gradients are right are used. Avoided: `candle_nn::ops::{layer_norm, rms_norm,
//! softmax_last_dim}` (no gradient) and `upsample_nearest2d` (its backward overwrites other contributions).
//! Arguments and results are those of the functions of the same name in the crate root, which check the shapes.
//! In half precision, means, variances and exponentials are taken in f32: candle sums a bf16 tensor in bf16, which
//! loses a fifth of a network's output within a few layers. In training the same holds for gradients that are sums over a
//! batch: those of biases, of rows of a table and of convolutions are added up in f32.

use candle_core::{D, DType, Result, Tensor};

use crate::attention::Dropout;
use crate::conv2d::ConvGeometry;
use crate::norm::BatchStatistics;

/// See [`linear`](crate::linear).
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (out_width, in_width) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    if let Some(width) = dims.last_mut() {
        *width = out_width;
    }
    let rows = x.elem_count() / in_width.max(1);
    let out = x.reshape((rows, in_width))?.matmul(&weight.t()?)?;
    let out = match bias {
        Some(bias) if is_half(bias) && bias.track_op() => add_bias(&out, bias)?,
        Some(bias) => out.broadcast_add(bias)?,
        None => out,
    };
    out.reshape(dims)
}

/// Rows whose gradients of a bias are added up in half precision; sums of these are taken in f32.
const ROWS_IN_HALF: usize = 16;

/// `x + bias` for `x` [rows, width] in a half precision, so that the gradient of the bias is a sum of few terms in it.
fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    // The largest number of rows that divides all of them; copies of the bias are the rest, far fewer than x has rows.
    let together = (1..=ROWS_IN_HALF).rev().find(|count| rows % count == 0).unwrap_or(1);
    let copies = bias.to_dtype(DType::F32)?.broadcast_as((rows / together, width))?.to_dtype(x.dtype())?;
    let copies = copies.reshape((rows / together, 1, width))?;
    x.reshape((rows / together, together, width))?.broadcast_add(&copies)?.reshape((rows, width))
}

fn is_half(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::F16 | DType::BF16)
}

/// See [`conv2d`](crate::conv2d).
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: &ConvGeometry) -> Result<Tensor> {
    if is_half(x) && (x.track_op() || weight.track_op()) {
        let bias = bias.map(widened).transpose()?;
        return conv2d(&widened(x)?, &widened(weight)?, bias.as_ref(), geometry)?.to_dtype(x.dtype());
    }
    let (padding, kernel) = (geometry.padding, weight.dim(2)?);
    // Rows and columns that no position of the kernel reaches are cut off: candle's backward pass is only right
    // where none, or as many of each, are left over.
    let reached = |size: usize| size - (size - kernel) % geometry.stride;
    let padded = x.pad_with_zeros(2, padding.top, padding.bottom)?.pad_with_zeros(3, padding.left, padding.right)?;
    let out = padded
        .narrow(2, 0, reached(padded.dim(2)?))?
        .narrow(3, 0, reached(padded.dim(3)?))?
        .contiguous()?
        .conv2d(weight, 0, geometry.stride, 1, 1)?;
    match bias {
        Some(bias) => out.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?),
        None => Ok(out),
    }
}

/// See [`layer_norm`](crate::layer_norm).
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    let normal = standardised(&widened(x)?, eps)?;
    normal.broadcast_mul(&widened(gamma)?)?.broadcast_add(&widened(beta)?)?.to_dtype(x.dtype())
}

/// See [`rms_norm`](crate::rms_norm).
pub fn rms_norm(x: &Tensor, gamma: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = widened(x)?;
    let squares = wide.sqr()?.mean_keepdim(D::Minus1)?;
    wide.broadcast_div(&(squares + eps)?.sqrt()?)?.broadcast_mul(&widened(gamma)?)?.to_dtype(x.dtype())
}

/// See [`group_norm`](crate::group_norm).
pub fn group_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    group_norm_wide(x, gamma, beta, groups, eps)?.to_dtype(x.dtype())
}

/// See [`group_norm_silu`](crate::group_norm_silu).
pub fn group_norm_silu(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    silu(&group_norm_wide(x, gamma, beta, groups, eps)?)?.to_dtype(x.dtype())
}

/// [`group_norm`] before it is rounded to a half precision.
fn group_norm_wide(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize, eps: f64) -> Result<Tensor> {
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let length = x.elem_count() / (batch * groups).max(1);
    let normal = standardised(&widened(x)?.reshape((batch, groups, length))?, eps)?.reshape(x.shape())?;
    let mut per_channel = vec![1; x.rank()];
    per_channel[1] = channels;
    let (gamma, beta) = (widened(gamma)?.reshape(per_channel.clone())?, widened(beta)?.reshape(per_channel)?);
    normal.broadcast_mul(&gamma)?.broadcast_add(&beta)
}

/// See [`batch_norm`](crate::batch_norm).
pub fn batch_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    let (normal, statistics) = batch_norm_wide(x, gamma, beta, eps)?;
    Ok((normal.to_dtype(x.dtype())?, statistics))
}

/// See [`batch_norm_relu`](crate::batch_norm_relu).
pub fn batch_norm_relu(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    let (normal, statistics) = batch_norm_wide(x, gamma, beta, eps)?;
    Ok((relu(&normal)?.to_dtype(x.dtype())?, statistics))
}

/// [`batch_norm`] before it is rounded to a half precision.
fn batch_norm_wide(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    let (batch, channels) = (x.dim(0)?, x.dim(1)?);
    let count = x.elem_count() / channels.max(1);
    let planes = widened(x)?.reshape((batch, channels, count / batch.max(1)))?;
    let mean = planes.mean_keepdim((0, 2))?;
    let centred = planes.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean_keepdim((0, 2))?;
    let per_channel = |values: &Tensor| widened(values)?.reshape((1, channels, 1));
    let normal = centred
        .broadcast_div(&(&variance + eps)?.sqrt()?)?
        .broadcast_mul(&per_channel(gamma)?)?
        .broadcast_add(&per_channel(beta)?)?
        .reshape(x.shape())?;
    let detached = |values: Tensor| values.detach().reshape(channels);
    Ok((normal, BatchStatistics { mean: detached(mean)?, variance: detached(variance)?, count }))
}

/// The same values in at least f32.
fn widened(x: &Tensor) -> Result<Tensor> {
    if is_half(x) { x.to_dtype(DType::F32) } else { Ok(x.clone()) }
}

/// `(x - mean) / sqrt(variance + eps)` over the last dimension.
fn standardised(x: &Tensor, eps: f64) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    centred.broadcast_div(&(variance + eps)?.sqrt()?)
}

/// See [`softmax`](crate::softmax).
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The largest value cancels, so it needs no gradient.
    let wide = widened(x)?;
    let exponentials = wide.broadcast_sub(&wide.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)?.to_dtype(x.dtype())
}

/// See [`gelu`](crate::gelu).
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    let wide = widened(x)?;
    let distribution = (((&wide / std::f64::consts::SQRT_2)?.erf()? + 1.0)? * 0.5)?;
    (wide * distribution)?.to_dtype(x.dtype())
}

/// See [`silu`](crate::silu).
pub fn silu(x: &Tensor) -> Result<Tensor> {
    let wide = widened(x)?;
    (&wide / (wide.neg()?.exp()? + 1.0)?)?.to_dtype(x.dtype())
}

/// See [`relu`](crate::relu). candle's own turns NaN into 0, and has the gradient 1 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.gt(&x.zeros_like()?)?.where_cond(x, &(x * 0.0)?)
}

/// See [`geglu`](crate::geglu).
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let gate = x.narrow(D::Minus1, 0, half)?;
    gelu(&gate)? * x.narrow(D::Minus1, half, half)?
}

/// See [`attention`](crate::attention).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, key_mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    attention_probabilities(q, k, key_mask, scale)?.matmul(&v.contiguous()?)
}

/// See [`attention_with_dropout`](crate::attention_with_dropout). The factors are made on the CPU.
pub fn attention_with_dropout(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
    scale: f64,
    dropout: &Dropout,
) -> Result<Tensor> {
    let probabilities = attention_probabilities(q, k, key_mask, scale)?;
    let factors = dropout.factors(q.dim(1)?, q.dim(2)?, k.dim(2)?)?;
    let factors = factors.to_device(q.device())?.to_dtype(probabilities.dtype())?;
    (probabilities * factors)?.matmul(&v.contiguous()?)
}

/// [batch, heads, queries, keys].
fn attention_probabilities(q: &Tensor, k: &Tensor, key_mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * scale)?;
    let scores = match key_mask {
        Some(mask) => {
            let mask = mask.detach().to_dtype(scores.dtype())?;
            scores.broadcast_add(&mask.unsqueeze(1)?.unsqueeze(1)?)?
        }
        None => scores,
    };
    softmax(&scores)
}

/// See [`upsample_nearest_2x`](crate::upsample_nearest_2x).
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    x.reshape((batch, channels, height, 1, width, 1))?.broadcast_as((batch, channels, height, 2, width, 2))?.reshape((
        batch,
        channels,
        2 * height,
        2 * width,
    ))
}

/// See [`avg_pool_2x2`](crate::avg_pool_2x2).
pub fn avg_pool_2x2(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (height, width) = (height / 2, width / 2);
    widened(x)?
        .narrow(2, 0, 2 * height)?
        .narrow(3, 0, 2 * width)?
        .reshape((batch, channels, height, 2, width, 2))?
        .mean((3, 5))?
        .to_dtype(x.dtype())
}

/// See [`max_pool_3x3`](crate::max_pool_3x3).
pub fn max_pool_3x3(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
    // The edge once more on each side: a window that reaches over it holds that value already.
    let padded = x
        .pad_with_same(2, 1, 2 * out_height + 1 - height)?
        .pad_with_same(3, 1, 2 * out_width + 1 - width)?
        .contiguous()?;
    let every_second = |x: &Tensor, dim: usize, first: usize, count: usize| {
        let mut dims = x.dims().to_vec();
        dims[dim] = count;
        dims.insert(dim + 1, 2);
        x.narrow(dim, first, 2 * count)?.contiguous()?.reshape(dims)?.narrow(dim + 1, 0, 1)?.squeeze(dim + 1)
    };
    let mut taps = Vec::with_capacity(9);
    for row in 0..3 {
        let rows = every_second(&padded, 2, row, out_height)?;
        for column in 0..3 {
            taps.push(every_second(&rows, 3, column, out_width)?.reshape((batch, channels, out_height * out_width))?);
        }
    }
    let taps = Tensor::stack(&taps, D::Minus1)?;
    let place = taps.detach().argmax_keepdim(D::Minus1)?;
    // A NaN is never the largest; it shows all the same.
    let broken = (taps.detach().sum(D::Minus1)? * 0.0)?;
    (taps.gather(&place, D::Minus1)?.squeeze(D::Minus1)? + broken)?.reshape((batch, channels, out_height, out_width))
}

/// See [`binary_cross_entropy`](crate::binary_cross_entropy). The half precisions are widened to f32.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let logits = widened(logits)?;
    let targets = targets.detach().to_dtype(logits.dtype())?;
    // log(1 + e^x) = x / 2 + |x| / 2 + log(1 + e^-|x|), whose part in |x| is smooth at 0.
    let size = logits.abs()?;
    let even = ((&size * 0.5)? + (size.neg()?.exp()? + 1.0)?.log()?)?;
    weighted_mean(&((logits * (0.5 - targets)?)? + even)?, weights)
}

/// See [`cross_entropy`](crate::cross_entropy). The half precisions are widened to f32.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let log_probabilities = log_softmax(logits)?;
    let of_target = log_probabilities.gather(&targets.unsqueeze(1)?, 1)?.squeeze(1)?;
    let of_all = log_probabilities.mean(D::Minus1)?;
    weighted_mean(&((of_target * (label_smoothing - 1.0))? - (of_all * label_smoothing)?)?, weights)
}

/// See [`cross_entropy_of_likeness`](crate::cross_entropy_of_likeness). The half precisions are widened to f32.
pub fn cross_entropy_of_likeness(
    logits: &Tensor,
    targets: &Tensor,
    weights: &Tensor,
    likeness: &Tensor,
) -> Result<Tensor> {
    let log_probabilities = log_softmax(logits)?;
    let aims = likeness.detach().to_dtype(log_probabilities.dtype())?.index_select(targets, 0)?;
    weighted_mean(&(log_probabilities * aims)?.sum(D::Minus1)?.neg()?, weights)
}

fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let logits = widened(logits)?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&log_sum)
}

fn weighted_mean(per_row: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let weights = weights.detach().to_dtype(per_row.dtype())?;
    // Without any weight the numerator is 0, and so is the loss.
    let total = weights.sum_all()?.maximum(1e-30)?;
    (per_row * weights)?.sum_all()? / total
}

/// See [`embedding`](crate::embedding).
pub fn embedding(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let mut dims = ids.dims().to_vec();
    dims.push(table.dim(1)?);
    if is_half(table) && table.track_op() {
        return widened(table)?.index_select(&ids.flatten_all()?, 0)?.reshape(dims)?.to_dtype(table.dtype());
    }
    table.index_select(&ids.flatten_all()?, 0)?.reshape(dims)
}

/// See [`straight_through`](crate::straight_through); here the value is that of `quantised` up to one rounding.
pub fn straight_through(latent: &Tensor, quantised: &Tensor) -> Result<Tensor> {
    let step = (quantised - latent)?.detach();
    latent + step
}
