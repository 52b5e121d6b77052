//! How the published model normalises text states before it projects them.

use candle_core::{D, DType, Result, Tensor};

use super::config::TextNorm;

/// PyTorch's `F.normalize` never divides by less than this.
const SMALLEST_NORM: f64 = 1e-12;

/// Features [batch, tokens, width] with unit L2 norm over the axis that `norm` names.
///
/// # Errors
/// Features of another rank.
pub fn normalise_text(features: &Tensor, norm: TextNorm) -> Result<Tensor> {
    let axis = match norm {
        TextNorm::TokenAxis => D::Minus2,
        TextNorm::FeatureAxis => D::Minus1,
        TextNorm::None => return Ok(features.clone()),
    };
    // The smallest norm is 0 in f16, and a sum in half precision is off by percents.
    let wide = match features.dtype() {
        DType::F16 | DType::BF16 => features.to_dtype(DType::F32)?,
        _ => features.clone(),
    };
    let length = wide.sqr()?.sum_keepdim(axis)?.sqrt()?;
    wide.broadcast_div(&length.maximum(SMALLEST_NORM)?)?.to_dtype(features.dtype())
}
