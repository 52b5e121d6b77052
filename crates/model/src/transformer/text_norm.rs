//! How the published model normalises text states before it projects them.

use candle_core::{D, Result, Tensor};

use super::config::TextNorm;

/// PyTorch's `F.normalize` never divides by less than this.
const SMALLEST_NORM: f64 = 1e-12;

/// Features [batch, tokens, width] with unit L2 norm over the axis that `norm` names.
///
/// # Errors
/// Features of another rank.
pub fn normalise_text(features: &Tensor, norm: TextNorm) -> Result<Tensor> {
    let length = match norm {
        TextNorm::TokenAxis => features.sqr()?.sum_keepdim(1)?.sqrt()?,
        TextNorm::FeatureAxis => features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?,
        TextNorm::None => return Ok(features.clone()),
    };
    features.broadcast_div(&length.maximum(SMALLEST_NORM)?)
}
