//! Attention backward: the probabilities are computed again from q and k, a tile of queries at a time.

use rayon::prelude::*;

use super::forward::multiply_each;
use super::{Attention, QUERIES};
use crate::kernel::matmul::{Matrix, MatrixMut, Threads, Write, multiply};
use crate::softmax::softmax_backward_row;

impl Attention {
    /// Gradients of q, k and v. One thread does all of a head, its tiles in order.
    pub(super) fn backward(&self, q: &[f32], k: &[f32], v: &[f32], gradient: &[f32]) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let (queries, keys, width) = (self.extents.queries, self.extents.keys, self.extents.width);
        let mut dq = vec![0.0; q.len()];
        let mut dk = vec![0.0; k.len()];
        let mut dv = vec![0.0; v.len()];
        if q.is_empty() {
            return (dq, dk, dv);
        }
        let tile = QUERIES.min(queries);
        let (q_head, k_head) = (queries * width, keys * width);
        dq.par_chunks_mut(q_head)
            .zip(dk.par_chunks_mut(k_head))
            .zip(dv.par_chunks_mut(k_head))
            .enumerate()
            .for_each_init(
                || (vec![0.0; tile * keys], vec![0.0; tile * keys], self.spare(tile * keys)),
                |(probabilities, d_scores, factors), (head, ((dq, dk), dv))| {
                    let k = &k[head * k_head..][..k_head];
                    let v = &v[head * k_head..][..k_head];
                    let tiles = dq
                        .chunks_mut(tile * width)
                        .zip(q[head * q_head..][..q_head].chunks(tile * width))
                        .zip(gradient[head * q_head..][..q_head].chunks(tile * width));
                    for (index, ((dq, q), gradient)) in tiles.enumerate() {
                        let rows = q.len() / width;
                        let probabilities = &mut probabilities[..rows * keys];
                        let d_scores = &mut d_scores[..rows * keys];
                        self.probabilities(probabilities, q, k, head);

                        // dp = gradient v^T; dv += p^T gradient; with dropout both see the probabilities times its factors.
                        let gradient = Matrix::new(gradient, rows, width);
                        multiply(
                            MatrixMut::new(d_scores, rows, keys),
                            Write::Overwrite,
                            gradient,
                            Matrix::new(v, keys, width).transposed(),
                            Threads::One,
                        );
                        let mixed = match &self.dropout {
                            Some(dropout) => {
                                let factors = &mut factors[..rows * keys];
                                dropout.fill(factors, self.extents, head, index * tile);
                                multiply_each(d_scores, factors);
                                multiply_each(factors, probabilities);
                                &*factors
                            }
                            None => &*probabilities,
                        };
                        multiply(
                            MatrixMut::new(dv, keys, width),
                            Write::Add,
                            Matrix::new(mixed, rows, keys).transposed(),
                            gradient,
                            Threads::One,
                        );
                        for (d, p) in d_scores.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys)) {
                            softmax_backward_row(d, p, self.scale);
                        }

                        // dq = ds k; dk += ds^T q.
                        multiply(
                            MatrixMut::new(dq, rows, width),
                            Write::Overwrite,
                            Matrix::new(d_scores, rows, keys),
                            Matrix::new(k, keys, width),
                            Threads::One,
                        );
                        multiply(
                            MatrixMut::new(dk, keys, width),
                            Write::Add,
                            Matrix::new(d_scores, rows, keys).transposed(),
                            Matrix::new(q, rows, width),
                            Threads::One,
                        );
                    }
                },
            );
        (dq, dk, dv)
    }
}
