//! Convolution backward: the gradients of the input and of the weight.

use rayon::prelude::*;

use super::{ConvGeometry, Padding, Plan, forward, im2col};
use crate::kernel::matmul::{Matrix, MatrixMut, Threads, Write, multiply};
use crate::kernel::sums;

/// Gradient of the input [batch, in, height, width] from that of the output.
pub(super) fn input_gradient(plan: &Plan, weight: &[f32], gradient: &[f32]) -> Vec<f32> {
    match transposed(plan) {
        Some(mirror) => forward::forward(&mirror, gradient, &flipped(plan, weight), None),
        None => scattered_gradient(plan, weight, gradient),
    }
}

/// With stride 1 the gradient of the input is itself a convolution, of the gradient with the flipped kernel.
fn transposed(plan: &Plan) -> Option<Plan> {
    if plan.geometry.stride != 1 {
        return None;
    }
    let reach = plan.kernel - 1;
    let padding = plan.geometry.padding;
    let padding = Padding {
        top: reach.checked_sub(padding.top)?,
        bottom: reach.checked_sub(padding.bottom)?,
        left: reach.checked_sub(padding.left)?,
        right: reach.checked_sub(padding.right)?,
    };
    Some(Plan {
        batch: plan.batch,
        in_channels: plan.out_channels,
        height: plan.out_height,
        width: plan.out_width,
        out_channels: plan.in_channels,
        out_height: plan.height,
        out_width: plan.width,
        kernel: plan.kernel,
        geometry: ConvGeometry { stride: 1, padding },
    })
}

/// [out, in, k, k] to [in, out, k, k] with both directions of the kernel reversed.
fn flipped(plan: &Plan, weight: &[f32]) -> Vec<f32> {
    let size = plan.kernel * plan.kernel;
    let mut result = vec![0.0; weight.len()];
    for (index, kernel) in weight.chunks_exact(size).enumerate() {
        let (out, channel) = (index / plan.in_channels, index % plan.in_channels);
        let target = &mut result[(channel * plan.out_channels + out) * size..][..size];
        for (target, value) in target.iter_mut().zip(kernel.iter().rev()) {
            *target = *value;
        }
    }
    result
}

/// For any stride: the gradient of the patches, added back to the pixels; one thread to an item.
fn scattered_gradient(plan: &Plan, weight: &[f32], gradient: &[f32]) -> Vec<f32> {
    let (patch, area) = (plan.patch(), plan.out_area());
    let mut dx = vec![0.0; plan.batch * plan.in_item()];
    if dx.is_empty() || gradient.is_empty() {
        return dx;
    }
    let weight = Matrix::new(weight, plan.out_channels, patch).transposed();
    dx.par_chunks_mut(plan.in_item()).zip(gradient.par_chunks(plan.out_item())).for_each_init(
        || vec![0.0; patch * plan.tile_rows() * plan.out_width],
        |patches, (dx, gradient)| {
            for (first, rows) in plan.tiles() {
                let pixels = rows * plan.out_width;
                let gradient = &gradient[first * plan.out_width..];
                multiply(
                    MatrixMut::new(patches, patch, pixels),
                    Write::Overwrite,
                    weight,
                    Matrix::strided(gradient, plan.out_channels, pixels, area),
                    Threads::One,
                );
                im2col::scatter(plan, dx, first, rows, patches);
            }
        },
    );
    dx
}

/// Gradient of the weight [out, in, k, k]. The tiles of the batch are cut into a number of parts that depends on the
/// extents only; a part adds its tiles in order, and the parts are added in order.
pub(super) fn weight_gradient(plan: &Plan, x: &[f32], gradient: &[f32]) -> Vec<f32> {
    /// Values that all partial results together may hold (64 MiB).
    const PARTIAL: usize = 1 << 24;
    let (patch, area) = (plan.patch(), plan.out_area());
    let length = plan.out_channels * patch;
    let tiles: Vec<(usize, (usize, usize))> =
        (0..plan.batch).flat_map(|item| plan.tiles().map(move |tile| (item, tile))).collect();
    let parts = (PARTIAL / length.max(1)).clamp(2, 16);
    let parts: Vec<Vec<f32>> = tiles
        .par_chunks(tiles.len().div_ceil(parts).max(1))
        .map(|tiles| {
            let mut total = vec![0.0; length];
            let mut patches = vec![0.0; plan.patches_length()];
            for (item, (first, rows)) in tiles.iter().copied() {
                let pixels = rows * plan.out_width;
                let start = first * plan.out_width;
                let x = &x[item * plan.in_item()..][..plan.in_item()];
                let gradient = &gradient[item * plan.out_item() + start..];
                let patches = if plan.is_pointwise() {
                    Matrix::strided(&x[start..], patch, pixels, area)
                } else {
                    im2col::gather(plan, x, first, rows, &mut patches);
                    Matrix::new(&patches, patch, pixels)
                };
                multiply(
                    MatrixMut::new(&mut total, plan.out_channels, patch),
                    Write::Add,
                    Matrix::strided(gradient, plan.out_channels, pixels, area),
                    patches.transposed(),
                    Threads::One,
                );
            }
            total
        })
        .collect();
    sums::in_order(parts, length)
}
