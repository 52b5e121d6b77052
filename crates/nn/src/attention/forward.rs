//! Attention forward: a tile of queries at a time, so that the scores never leave the cache.

use rayon::prelude::*;

use super::{Attention, QUERIES};
use crate::kernel::matmul::{Matrix, MatrixMut, Threads, Write, multiply};
use crate::softmax::softmax_row;

impl Attention {
    pub(super) fn forward(&self, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f32> {
        let (queries, keys, width) = (self.extents.queries, self.extents.keys, self.extents.width);
        let mut out = vec![0.0; q.len()];
        if out.is_empty() {
            return out;
        }
        let tile = QUERIES.min(queries);
        // Each head's queries are cut alike, so that a tile has the same extents in every batch.
        let tiles: Vec<(usize, usize, &mut [f32], &[f32])> = out
            .chunks_exact_mut(queries * width)
            .zip(q.chunks_exact(queries * width))
            .enumerate()
            .flat_map(|(head, (out, q))| {
                let pairs = out.chunks_mut(tile * width).zip(q.chunks(tile * width)).enumerate();
                pairs.map(move |(index, (out, q))| (head, index * tile, out, q))
            })
            .collect();
        tiles.into_par_iter().for_each_init(
            || (vec![0.0; tile * keys], self.spare(tile * keys)),
            |(scores, factors), (head, first, out, q)| {
                let rows = q.len() / width;
                let range = head * keys * width..(head + 1) * keys * width;
                let scores = &mut scores[..rows * keys];
                self.probabilities(scores, q, &k[range.clone()], head);
                if let Some(dropout) = &self.dropout {
                    let factors = &mut factors[..rows * keys];
                    dropout.fill(factors, self.extents, head, first);
                    multiply_each(scores, factors);
                }
                multiply(
                    MatrixMut::new(out, rows, width),
                    Write::Overwrite,
                    Matrix::new(scores, rows, keys),
                    Matrix::new(&v[range], keys, width),
                    Threads::One,
                );
            },
        );
        out
    }

    /// `scores = softmax(q k^T * scale + mask)` for the `q.len() / width` queries of one tile.
    pub(super) fn probabilities(&self, scores: &mut [f32], q: &[f32], k: &[f32], head: usize) {
        let (keys, width) = (self.extents.keys, self.extents.width);
        let rows = scores.len() / keys;
        multiply(
            MatrixMut::new(scores, rows, keys),
            Write::Overwrite,
            Matrix::new(q, rows, width),
            Matrix::new(k, keys, width).transposed(),
            Threads::One,
        );
        let mask = self.mask(head);
        for row in scores.chunks_exact_mut(keys) {
            softmax_row(row, self.scale, mask);
        }
    }
}

/// `values *= factors`.
pub(super) fn multiply_each(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}
