//! The loss of findings that can be present together: each a question of its own.

use candle_core::{Result, Tensor, bail};

use crate::reference;

/// Mean over all answers of `-target * log(p) - (1 - target) * log(1 - p)` with `p = sigmoid(logit)`, each counted by its
/// weight: an answer of weight 0 counts for nothing, and without any weight the loss is 0. Stable for logits of any
/// size.
///
/// `logits`, `targets` (in [0, 1]) and `weights` (0 or more) all have the shape [rows, classes]; targets and weights
/// carry no gradient. It is a composition on every device: there are only a few answers for each film.
///
/// # Errors
/// If the shapes differ.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor, weights: &Tensor) -> Result<Tensor> {
    logits.dims2()?;
    for (what, tensor) in [("targets", targets), ("weights", weights)] {
        if tensor.dims() != logits.dims() {
            bail!("binary_cross_entropy: the {what} have shape {:?}; {:?} was expected", tensor.shape(), logits.shape())
        }
    }
    reference::binary_cross_entropy(logits, targets, weights)
}
