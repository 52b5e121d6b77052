//! Convolution forward: patches of a few output rows at a time, multiplied straight into the output.

use rayon::prelude::*;

use super::{Plan, im2col};
use crate::kernel::matmul::{Matrix, SharedSlice, Threads, Write, multiply};

/// `weight` is [out, in, k, k]; gives [batch, out, out_height, out_width].
pub(super) fn forward(plan: &Plan, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    let (patch, area) = (plan.patch(), plan.out_area());
    let mut out = vec![0.0; plan.batch * plan.out_item()];
    if out.is_empty() {
        return out;
    }
    let weight = Matrix::new(weight, plan.out_channels, patch);
    let shared = SharedSlice::new(&mut out);
    let tiles: Vec<(usize, (usize, usize))> =
        (0..plan.batch).flat_map(|item| plan.tiles().map(move |tile| (item, tile))).collect();
    let threads = if tiles.len() < rayon::current_num_threads() { Threads::All } else { Threads::One };
    tiles.into_par_iter().for_each_init(
        || vec![0.0; plan.patches_length()],
        |patches, (item, (first, rows))| {
            let pixels = rows * plan.out_width;
            let start = first * plan.out_width;
            let x = &x[item * plan.in_item()..][..plan.in_item()];
            // SAFETY: tiles are disjoint: each is the rows `first..first + rows` of all channels of one item, and
            // `Plan::tiles` cuts the rows of an item without overlap.
            let mut into = unsafe { shared.tile(item * plan.out_item() + start, plan.out_channels, pixels, area) };
            let write = match bias {
                Some(bias) => {
                    for (channel, bias) in bias.iter().enumerate() {
                        into.fill_row(channel, *bias);
                    }
                    Write::Add
                }
                None => Write::Overwrite,
            };
            let patches = if plan.is_pointwise() {
                Matrix::strided(&x[start..], patch, pixels, area)
            } else {
                im2col::gather(plan, x, first, rows, patches);
                Matrix::new(patches, patch, pixels)
            };
            multiply(into, write, weight, patches, threads);
        },
    );
    out
}
