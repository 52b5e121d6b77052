//! Two-dimensional convolution, square kernels, any stride, any padding on each side.

mod backward;
mod forward;
mod im2col;

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::kernel::{host, sums};
use crate::reference;

/// Zeros added around a picture, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Above the first row.
    pub top: usize,
    /// Below the last row.
    pub bottom: usize,
    /// Before the first column.
    pub left: usize,
    /// After the last column.
    pub right: usize,
}

impl Padding {
    /// The same number of pixels on all four sides.
    pub const fn all(pixels: usize) -> Self {
        Self { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }
}

/// How the kernel of a convolution moves over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Pixels between two positions of the kernel, in both directions.
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: Padding,
}

impl ConvGeometry {
    /// Stride 1 and the padding that keeps the size of the picture under an odd kernel of `size` pixels.
    pub const fn same(size: usize) -> Self {
        Self { stride: 1, padding: Padding::all(size / 2) }
    }
}

/// Convolution (cross-correlation, as in PyTorch): `x` [batch, in, height, width], `weight` [out, in, k, k], `bias`
/// [out]; gives [batch, out, (height + padding - k) / stride + 1, the same of the width].
///
/// # Errors
/// If the shapes do not fit, the stride is 0 or the kernel is larger than the padded picture.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, geometry: &ConvGeometry) -> Result<Tensor> {
    let plan = Plan::new(x, weight, geometry)?;
    if let Some(bias) = bias
        && bias.dims() != [plan.out_channels]
    {
        bail!("conv2d: the bias has shape {:?}; [{}] was expected", bias.shape(), plan.out_channels)
    }
    match bias {
        Some(bias) if host::is_fused(&[x, weight, bias]) => {
            x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, Conv2d { plan })
        }
        None if host::is_fused(&[x, weight]) => x.contiguous()?.apply_op2(&weight.contiguous()?, Conv2d { plan }),
        _ => reference::conv2d(x, weight, bias, geometry),
    }
}

/// All extents of one convolution, checked.
#[derive(Clone, Copy, Debug)]
struct Plan {
    batch: usize,
    in_channels: usize,
    height: usize,
    width: usize,
    out_channels: usize,
    out_height: usize,
    out_width: usize,
    kernel: usize,
    geometry: ConvGeometry,
}

impl Plan {
    fn new(x: &Tensor, weight: &Tensor, geometry: &ConvGeometry) -> Result<Self> {
        let (batch, in_channels, height, width) = x.dims4()?;
        let (out_channels, weight_channels, kernel, kernel_width) = weight.dims4()?;
        if weight_channels != in_channels || kernel != kernel_width || kernel == 0 {
            bail!(
                "conv2d: the weight has shape {:?}; [out, {in_channels}, k, k] was expected for an input of {:?}",
                weight.shape(),
                x.shape()
            )
        }
        let ConvGeometry { stride, padding } = *geometry;
        let padded_height = height + padding.top + padding.bottom;
        let padded_width = width + padding.left + padding.right;
        if stride == 0 || padded_height < kernel || padded_width < kernel {
            bail!(
                "conv2d: a kernel of {kernel} with stride {stride} does not fit a padded picture of {padded_height} x {padded_width}"
            )
        }
        Ok(Self {
            batch,
            in_channels,
            height,
            width,
            out_channels,
            out_height: (padded_height - kernel) / stride + 1,
            out_width: (padded_width - kernel) / stride + 1,
            kernel,
            geometry: *geometry,
        })
    }

    /// Values of the input under one position of the kernel.
    fn patch(&self) -> usize {
        self.in_channels * self.kernel * self.kernel
    }

    /// Values of one item of the input.
    fn in_item(&self) -> usize {
        self.in_channels * self.height * self.width
    }

    /// Pixels of the output.
    fn out_area(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Values of one item of the output.
    fn out_item(&self) -> usize {
        self.out_channels * self.out_area()
    }

    /// Whether the input itself is the matrix of patches.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.geometry == ConvGeometry::same(1)
    }

    /// Rows of the output computed together. Depends on the extents of one item only.
    fn tile_rows(&self) -> usize {
        /// Values of a matrix of patches that stay in a second-level cache (1 MiB).
        const PATCHES: usize = 1 << 18;
        /// Pixels below which a product would mostly wait for the weights.
        const PIXELS: usize = 192;
        let in_cache = PATCHES / (self.patch() * self.out_width);
        let efficient = PIXELS.div_ceil(self.out_width);
        let rows = in_cache.max(efficient).clamp(1, self.out_height);
        // As many tiles, but of equal size.
        self.out_height.div_ceil(self.out_height.div_ceil(rows))
    }

    /// The tiles of one item, each as its first row and its number of rows.
    fn tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, height) = (self.tile_rows(), self.out_height);
        (0..height).step_by(rows).map(move |first| (first, rows.min(height - first)))
    }

    /// Values of the largest matrix of patches of a tile, 0 where none is needed.
    fn patches_length(&self) -> usize {
        if self.is_pointwise() { 0 } else { self.patch() * self.tile_rows() * self.out_width }
    }
}

struct Conv2d {
    plan: Plan,
}

impl Conv2d {
    fn run(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let plan = &self.plan;
        let out = forward::forward(plan, x, weight, bias);
        let shape = (plan.batch, plan.out_channels, plan.out_height, plan.out_width);
        host::output(out, shape)
    }

    /// Gradients of the input and of the weight, each where it is wanted.
    fn gradients(&self, x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let readers = [x, weight, gradient].map(host::Reader::new);
        let [x_values, weight_values, gradient] = &readers;
        let gradient = gradient.values()?;
        let dx = if x.track_op() {
            let dx = backward::input_gradient(&self.plan, weight_values.values()?, gradient);
            Some(host::tensor(dx, x.shape())?)
        } else {
            None
        };
        let d_weight = if weight.track_op() {
            let d_weight = backward::weight_gradient(&self.plan, x_values.values()?, gradient);
            Some(host::tensor(d_weight, weight.shape())?)
        } else {
            None
        };
        Ok((dx, d_weight))
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = host::slice(weight, weight_layout)?;
        Ok(self.run(host::slice(x, x_layout)?, weight, None))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &gradient.contiguous()?)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = host::slice(weight, weight_layout)?;
        let bias = host::slice(bias, bias_layout)?;
        Ok(self.run(host::slice(x, x_layout)?, weight, Some(bias)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let (dx, d_weight) = self.gradients(x, weight, &gradient)?;
        let d_bias = if bias.track_op() {
            let area = self.plan.out_area().max(1);
            let gradient = host::Reader::new(&gradient);
            let planes: Vec<f32> = gradient.values()?.chunks_exact(area).map(sums::sum).collect();
            let total = sums::columns(&planes, self.plan.out_channels);
            Some(host::tensor(total, bias.shape())?)
        } else {
            None
        };
        Ok((dx, d_weight, d_bias))
    }
}
