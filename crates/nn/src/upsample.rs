//! Nearest-neighbour upsampling by two.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::host;
use crate::reference;

/// Repeats every value in a 2 x 2 block: [batch, channels, height, width] gives [batch, channels, 2 height, 2 width].
///
/// # Errors
/// If `x` does not have four dimensions.
pub fn upsample_nearest_2x(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    if !host::is_fused(&[x]) {
        return reference::upsample_nearest_2x(x);
    }
    x.contiguous()?.apply_op1(Upsample)
}

struct Upsample;

impl CustomOp1 for Upsample {
    fn name(&self) -> &'static str {
        "upsample-nearest-2x"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let mut out = vec![0.0; x.len() * 4];
        if !x.is_empty() {
            out.par_chunks_mut(4 * width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(out, x)| {
                let (upper, lower) = out.split_at_mut(2 * width);
                for (pair, x) in upper.chunks_exact_mut(2).zip(x) {
                    pair[0] = *x;
                    pair[1] = *x;
                }
                lower.copy_from_slice(upper);
            });
        }
        Ok(host::output(out, (batch, channels, 2 * height, 2 * width)))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let width = x.dim(3)?;
        let gradient = gradient.contiguous()?;
        let gradient = host::Reader::new(&gradient);
        let gradient = gradient.values()?;
        let mut dx = vec![0.0; gradient.len() / 4];
        if !dx.is_empty() {
            dx.par_chunks_mut(width).zip(gradient.par_chunks(4 * width)).with_min_len(16).for_each(|(dx, gradient)| {
                let (upper, lower) = gradient.split_at(2 * width);
                let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                for (dx, (upper, lower)) in dx.iter_mut().zip(pairs) {
                    *dx = upper[0] + upper[1] + lower[0] + lower[1];
                }
            });
        }
        host::tensor(dx, x.shape()).map(Some)
    }
}
