//! Pooling over the windows that DenseNet and its like use. candle's own pools either refuse a backward pass (windows
//! that overlap) or get it wrong (a side that the window does not divide).

mod average;
mod max;

use candle_core::{Result, Tensor, bail};

use crate::kernel::host;
use crate::reference;

/// Mean of each 2 x 2 block: [batch, channels, height, width] gives [batch, channels, height / 2, width / 2], rounded
/// down. An odd last row or column is left out.
///
/// # Errors
/// If `x` does not have four dimensions.
pub fn avg_pool_2x2(x: &Tensor) -> Result<Tensor> {
    x.dims4()?;
    if !host::is_fused(&[x]) {
        return reference::avg_pool_2x2(x);
    }
    x.contiguous()?.apply_op1(average::AveragePool)
}

/// Largest value of each 3 x 3 window around every second place, of which those beyond the edge count for nothing:
/// [batch, channels, height, width] gives [batch, channels, height / 2, width / 2], rounded up. PyTorch's
/// `max_pool2d(x, 3, 2, 1)`. The gradient goes to the first of several largest values.
///
/// # Errors
/// If `x` does not have four dimensions, or no height or width.
pub fn max_pool_3x3(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if height == 0 || width == 0 {
        bail!("max_pool_3x3: a picture of {height} x {width} has no largest value")
    }
    if !host::is_fused(&[x]) {
        return reference::max_pool_3x3(x);
    }
    x.contiguous()?.apply_op1(max::MaxPool)
}
