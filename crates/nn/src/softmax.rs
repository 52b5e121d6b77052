//! Softmax along the last dimension.

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::dispatch::vectorised;
use crate::kernel::{host, math, sums};
use crate::reference;

const LANES: usize = 16;
/// Values that a parallel task works on at least.
const TASK: usize = 16_384;

/// Softmax along the last dimension: [.., n] gives [.., n], every row with sum 1.
///
/// # Errors
/// If `x` is a scalar.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    let _has_rows = x.dim(D::Minus1)?;
    if !host::is_fused(&[x]) {
        return reference::softmax(x);
    }
    x.contiguous()?.apply_op1(Softmax)
}

struct Softmax;

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = host::slice(storage, layout)?.to_vec();
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        out.par_chunks_mut(width).with_min_len((TASK / width).max(1)).for_each(|row| softmax_row(row, 1.0, &[]));
        Ok(host::output(out, layout.shape()))
    }

    fn bwd(&self, _x: &Tensor, out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = out.dim(D::Minus1)?.max(1);
        let gradient = gradient.contiguous()?;
        let (out_reader, gradient) = (host::Reader::new(out), host::Reader::new(&gradient));
        let mut dx = gradient.values()?.to_vec();
        dx.par_chunks_mut(width)
            .zip(out_reader.values()?.par_chunks(width))
            .with_min_len((TASK / width).max(1))
            .for_each(|(dx, probabilities)| softmax_backward_row(dx, probabilities, 1.0));
        host::tensor(dx, out.shape()).map(Some)
    }
}

vectorised! {
    /// `row = softmax(row * scale + mask)`; an empty mask is no mask.
    pub(crate) fn softmax_row(row: &mut [f32], scale: f32, mask: &[f32]) {
        if mask.is_empty() {
            for x in row.iter_mut() {
                *x *= scale;
            }
        } else {
            for (x, mask) in row.iter_mut().zip(mask) {
                *x = *x * scale + mask;
            }
        }
        let largest = maximum(row);
        let mut lanes = [0f32; LANES];
        let (chunks, rest) = row.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                let e = math::exp(chunk[i] - largest);
                chunk[i] = e;
                lanes[i] += e;
            }
        }
        let mut sum = 0.0;
        for lane in lanes {
            sum += lane;
        }
        for x in rest {
            *x = math::exp(*x - largest);
            sum += *x;
        }
        let inverse = 1.0 / sum;
        for x in row.iter_mut() {
            *x *= inverse;
        }
    }

    /// Turns the gradient of the probabilities, in `gradient`, into that of the logits before `scale`.
    pub(crate) fn softmax_backward_row(gradient: &mut [f32], probabilities: &[f32], scale: f32) {
        let dot = sums::lanes(gradient, probabilities, |gradient, p| gradient * p);
        for (gradient, p) in gradient.iter_mut().zip(probabilities) {
            *gradient = p * (*gradient - dot) * scale;
        }
    }

    /// The logarithm of the sum of exponentials of a row, and the plain sum of the row.
    pub(crate) fn log_sum_exp(row: &[f32]) -> (f32, f32) {
        let largest = maximum(row);
        let sum = sums::lanes(row, row, |x, _| math::exp(x - largest));
        (largest + sum.ln(), sums::lanes(row, row, |x, _| x))
    }
}

/// The largest value. A NaN is passed over: it shows in the sum of exponentials.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
}
