//! What the two batch norms of a DenseNet have in common: their tensors, and how a network calls them.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// Added to the variance; PyTorch's default, which every published file was trained with.
pub(super) const EPS: f64 = 1e-5;

const RUNNING_MEAN: &str = "running_mean";
const RUNNING_VAR: &str = "running_var";

/// Whether a tensor of a DenseNet is a running statistic: it follows batches, and no gradient.
pub fn is_running(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last == RUNNING_MEAN || last == RUNNING_VAR)
}

/// A norm of the channels of [batch, channels, height, width].
pub(super) trait Norm: Sized {
    /// What a pass through the network brings to light, in the order of its norms.
    type Seen: Default;

    /// Reads the norm's four tensors.
    fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self>;

    fn forward(&self, x: &Tensor, seen: &mut Self::Seen) -> Result<Tensor>;

    /// The norm followed by max(·, 0).
    fn forward_relu(&self, x: &Tensor, seen: &mut Self::Seen) -> Result<Tensor>;
}

/// The tensors of a batch norm, each [channels].
pub(super) struct NormTensors {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    pub(super) running_mean: Tensor,
    pub(super) running_var: Tensor,
}

impl NormTensors {
    pub(super) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let get = |name: &str, initial: f64| vb.get_with_hints(channels, name, Init::Const(initial));
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: get(RUNNING_MEAN, 0.0)?,
            running_var: get(RUNNING_VAR, 1.0)?,
        })
    }

    /// Names of the running mean and variance of the norm at `prefix`.
    pub(super) fn running_names(prefix: &str) -> (String, String) {
        (format!("{prefix}.{RUNNING_MEAN}"), format!("{prefix}.{RUNNING_VAR}"))
    }
}
