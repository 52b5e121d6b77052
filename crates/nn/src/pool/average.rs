//! Means of 2 x 2 blocks.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::host;

pub(super) struct AveragePool;

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "avg-pool-2x2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let (out_height, out_width) = (height / 2, width / 2);
        let mut out = vec![0.0; batch * channels * out_height * out_width];
        if !out.is_empty() {
            let planes = out.par_chunks_mut(out_height * out_width).zip(x.par_chunks(height * width));
            planes.for_each(|(out, x)| {
                for (out, rows) in out.chunks_exact_mut(out_width).zip(x.chunks_exact(2 * width)) {
                    let (upper, lower) = rows.split_at(width);
                    let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
                    for (out, (upper, lower)) in out.iter_mut().zip(pairs) {
                        *out = (upper[0] + upper[1] + lower[0] + lower[1]) * 0.25;
                    }
                }
            });
        }
        Ok(host::output(out, (batch, channels, out_height, out_width)))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, height, width) = x.dims4()?;
        let (out_height, out_width) = (height / 2, width / 2);
        let gradient = gradient.contiguous()?;
        let gradient = host::Reader::new(&gradient);
        let gradient = gradient.values()?;
        // What no block holds keeps a gradient of 0.
        let mut dx = vec![0.0; x.elem_count()];
        if !gradient.is_empty() {
            let planes = dx.par_chunks_mut(height * width).zip(gradient.par_chunks(out_height * out_width));
            planes.for_each(|(dx, gradient)| {
                for (rows, gradient) in dx.chunks_exact_mut(2 * width).zip(gradient.chunks_exact(out_width)) {
                    for row in rows.chunks_exact_mut(width) {
                        for (pair, gradient) in row.chunks_exact_mut(2).zip(gradient) {
                            pair.fill(gradient * 0.25);
                        }
                    }
                }
            });
        }
        host::tensor(dx, x.shape()).map(Some)
    }
}
