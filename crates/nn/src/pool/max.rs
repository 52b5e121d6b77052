//! Largest values of overlapping 3 x 3 windows at every second place.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::kernel::host;

pub(super) struct MaxPool;

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool-3x3"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = host::slice(storage, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
        let mut out = vec![0.0; batch * channels * out_height * out_width];
        let planes = out.par_chunks_mut(out_height * out_width).zip(x.par_chunks(height * width));
        planes.for_each(|(out, x)| {
            for (row, out) in out.chunks_exact_mut(out_width).enumerate() {
                let rows = window(row, height);
                for (column, out) in out.iter_mut().enumerate() {
                    *out = x[largest(x, width, rows.clone(), window(column, width))];
                }
            }
        });
        Ok(host::output(out, (batch, channels, out_height, out_width)))
    }

    fn bwd(&self, x: &Tensor, _out: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, height, width) = x.dims4()?;
        let (out_height, out_width) = (height.div_ceil(2), width.div_ceil(2));
        let gradient = gradient.contiguous()?;
        let (x_reader, gradient) = (host::Reader::new(x), host::Reader::new(&gradient));
        let (x_values, gradient) = (x_reader.values()?, gradient.values()?);
        let mut dx = vec![0.0; x_values.len()];
        dx.par_chunks_mut(height * width)
            .zip(x_values.par_chunks(height * width))
            .zip(gradient.par_chunks(out_height * out_width))
            .for_each(|((dx, x), gradient)| {
                for (row, gradient) in gradient.chunks_exact(out_width).enumerate() {
                    let rows = window(row, height);
                    for (column, gradient) in gradient.iter().enumerate() {
                        dx[largest(x, width, rows.clone(), window(column, width))] += gradient;
                    }
                }
            });
        host::tensor(dx, x.shape()).map(Some)
    }
}

/// Rows or columns of the window around place `2 * index`, of `size` in all.
fn window(index: usize, size: usize) -> Range<usize> {
    (2 * index).saturating_sub(1)..(2 * index + 2).min(size)
}

/// Place of the first of the largest values; of a NaN, if there is one.
fn largest(x: &[f32], width: usize, rows: Range<usize>, columns: Range<usize>) -> usize {
    let mut place = rows.start * width + columns.start;
    for row in rows {
        for index in row * width + columns.start..row * width + columns.end {
            if x[index] > x[place] || x[index].is_nan() {
                place = index;
            }
        }
    }
    place
}
