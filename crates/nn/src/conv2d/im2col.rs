//! The matrix of patches of a tile of output rows, and its transpose operation.

use super::Plan;

/// Writes the patches under output rows `first..first + rows` of one item `x` [in, height, width] to `patches`
/// [in * k * k, rows * out_width]: row (c, ky, kx) holds, for each output pixel, the input value that this element
/// of the kernel meets.
pub(super) fn gather(plan: &Plan, x: &[f32], first: usize, rows: usize, patches: &mut [f32]) {
    let padding = plan.geometry.padding;
    for_each_line(plan, first, rows, |line| {
        let out = &mut patches[line.patch_start..][..plan.out_width];
        let Some(source) = line.source_start else {
            out.fill(0.0);
            return;
        };
        let source = &x[source..][..plan.width];
        let inside = line.inside;
        let (from, to) = (inside.start, inside.end);
        out[..from].fill(0.0);
        out[to..].fill(0.0);
        if from == to {
            return;
        }
        let stride = plan.geometry.stride;
        let source = &source[from * stride + line.kx - padding.left..];
        if stride == 1 {
            out[from..to].copy_from_slice(&source[..to - from]);
        } else {
            for (out, value) in out[from..to].iter_mut().zip(source.iter().step_by(stride)) {
                *out = *value;
            }
        }
    });
}

/// Adds every value of `patches`, laid out as by [`gather`], to the pixel of `x` that it came from.
pub(super) fn scatter(plan: &Plan, x: &mut [f32], first: usize, rows: usize, patches: &[f32]) {
    let padding = plan.geometry.padding;
    for_each_line(plan, first, rows, |line| {
        let Some(target) = line.source_start else {
            return;
        };
        let (from, to) = (line.inside.start, line.inside.end);
        if from == to {
            return;
        }
        let values = &patches[line.patch_start..][..plan.out_width];
        let stride = plan.geometry.stride;
        let target = &mut x[target..][..plan.width];
        let target = &mut target[from * stride + line.kx - padding.left..];
        for (pixel, value) in target.iter_mut().step_by(stride).zip(&values[from..to]) {
            *pixel += value;
        }
    });
}

/// One run of the matrix of patches: an element of the kernel over one row of the output.
struct Line {
    /// Where the run starts in the matrix of patches.
    patch_start: usize,
    /// Where the input row that it reads starts; `None` where that row is padding.
    source_start: Option<usize>,
    /// Column of the kernel's element.
    kx: usize,
    /// Output columns for which the element meets the picture and not the padding.
    inside: std::ops::Range<usize>,
}

fn for_each_line(plan: &Plan, first: usize, rows: usize, mut f: impl FnMut(Line)) {
    let padding = plan.geometry.padding;
    let mut patch_start = 0;
    for channel in 0..plan.in_channels {
        for ky in 0..plan.kernel {
            for kx in 0..plan.kernel {
                let inside = inside(plan, kx);
                for row in first..first + rows {
                    let y = row * plan.geometry.stride + ky;
                    let is_picture = y >= padding.top && y < padding.top + plan.height;
                    f(Line {
                        patch_start,
                        source_start: is_picture.then(|| (channel * plan.height + y - padding.top) * plan.width),
                        kx,
                        inside: inside.clone(),
                    });
                    patch_start += plan.out_width;
                }
            }
        }
    }
}

/// Output columns x with `0 <= x * stride + kx - left < width`.
fn inside(plan: &Plan, kx: usize) -> std::ops::Range<usize> {
    let (stride, left) = (plan.geometry.stride, plan.geometry.padding.left);
    let from = left.saturating_sub(kx).div_ceil(stride).min(plan.out_width);
    let to = (plan.width + left).saturating_sub(kx).div_ceil(stride).min(plan.out_width);
    from..to.max(from)
}
