//! The optimiser of a stage, and what moves its learning rate.

use serde::{Deserialize, Serialize};

use super::defaults;

/// AdamW with warm-up and cosine decay to `final_ratio`, or the plateau rule. Without weight decay it is Adam.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    #[serde(default = "defaults::beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "defaults::beta2")]
    pub beta2: f64,
    /// Decoupled weight decay, on matrices and kernels only (never on biases, gains or embeddings).
    #[serde(default)]
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    #[serde(default = "defaults::warm_up_steps")]
    pub warm_up_steps: u64,
    /// Largest global gradient norm; larger ones are scaled down to it. `inf` scales none.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: f64,
    /// Learning rate at the last step, as a share of the peak.
    #[serde(default = "defaults::final_ratio")]
    pub final_ratio: f64,
    /// Decay of the exponential moving average of the weights; 0 turns it off.
    #[serde(default)]
    pub ema_decay: f64,
    /// Lower the learning rate where the validation loss stands still, instead of by a cosine. Stage `transformer` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<PlateauConfig>,
}

/// PyTorch's `ReduceLROnPlateau` with its modes `min` and `rel`, once an epoch on the validation loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlateauConfig {
    /// What the learning rate is multiplied by.
    pub factor: f64,
    /// Epochs without a better loss that are borne; the one after them lowers the learning rate.
    pub patience: u64,
    /// The learning rate is never lowered below this.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// A loss is better if it is below `1 - threshold` times the best one.
    #[serde(default = "defaults::plateau_threshold")]
    pub threshold: f64,
    /// Epochs after a lowering in which bad ones don't count.
    #[serde(default)]
    pub cooldown: u64,
    /// A lowering by no more than this is not made.
    #[serde(default = "defaults::plateau_smallest_change")]
    pub smallest_change: f64,
    /// Masks of the validation films.
    #[serde(default)]
    pub masks: PlateauMasks,
}

/// Masks under which the validation loss of the plateau rule is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlateauMasks {
    /// Others in each epoch, drawn as in training: what the published code does, and a noisy signal.
    Fresh,
    /// The same in each epoch.
    #[default]
    Fixed,
}
