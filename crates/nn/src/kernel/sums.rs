//! Reductions over slices in a fixed order: sixteen running sums, so that they vectorise and never depend on threads.

use crate::kernel::dispatch::vectorised;

/// Values summed in f32 before the result is added to an f64 total.
const BLOCK: usize = 4096;
const LANES: usize = 16;

/// `sum of f(a, b)` over one block, sixteen lanes wide. Inlined into a vectorised caller.
#[inline(always)]
pub(crate) fn lanes(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            sums[i] += f(a[i], b[i]);
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += sum;
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        total += f(*a, *b);
    }
    total
}

/// `sum of f(a, b)`, each block of [`BLOCK`] values in f32 and the blocks in f64.
#[inline(always)]
pub(crate) fn blocks(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Copy) -> f32 {
    let mut total = 0f64;
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        total += f64::from(lanes(a, b, f));
    }
    total as f32
}

vectorised! {
    /// `sum of a`.
    pub(crate) fn sum(a: &[f32]) -> f32 {
        blocks(a, a, |a, _| a)
    }

    /// `sum of a * (b - centre)`.
    pub(crate) fn centred_dot(a: &[f32], b: &[f32], centre: f32) -> f32 {
        blocks(a, b, |a, b| a * (b - centre))
    }

    /// `into += values`.
    pub(crate) fn add(into: &mut [f32], values: &[f32]) {
        for (into, value) in into.iter_mut().zip(values) {
            *into += value;
        }
    }
}

/// Mean and `1 / sqrt(variance + eps)` of a slice, in two passes so that a large mean costs no accuracy.
#[inline(always)]
pub(crate) fn moments(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = blocks(x, x, |x, _| x) / count;
    let variance = blocks(x, x, |x, _| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Sum of each column of row-major `values` with `columns` columns; rows are added in order within fixed chunks,
/// and the chunks in order.
pub(crate) fn columns(values: &[f32], columns: usize) -> Vec<f32> {
    use rayon::prelude::*;

    const ROWS: usize = 512;
    if columns == 0 {
        return Vec::new();
    }
    let parts: Vec<Vec<f32>> = values
        .par_chunks(ROWS * columns)
        .map(|chunk| {
            let mut total = vec![0.0; columns];
            for row in chunk.chunks_exact(columns) {
                add(&mut total, row);
            }
            total
        })
        .collect();
    in_order(parts, columns)
}

/// Adds equally long partial results in the order given.
pub(crate) fn in_order(parts: Vec<Vec<f32>>, length: usize) -> Vec<f32> {
    parts
        .into_iter()
        .reduce(|mut total, part| {
            add(&mut total, &part);
            total
        })
        .unwrap_or_else(|| vec![0.0; length])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_costs_no_accuracy() {
        let x: Vec<f32> = (0..1000).map(|i| 10_000.0 + (i % 2) as f32).collect();
        let (mean, inverse) = moments(&x, 0.0);
        assert_eq!(mean, 10_000.5);
        assert!((inverse - 2.0).abs() < 1e-6);
    }

    #[test]
    fn column_sums_cover_every_row() {
        let values: Vec<f32> = (0..3 * 1100).map(|i| (i % 3) as f32).collect();
        assert_eq!(columns(&values, 3), [0.0, 1100.0, 2200.0]);
    }
}
