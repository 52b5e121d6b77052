//! Stage `decoder`: how the tokenizer's decoder is fine-tuned on grids that the transformer made.

use serde::{Deserialize, Serialize};

use super::{AdversarialConfig, Cadence, OnFailure, OptimiserConfig, PerceptualConfig, Safety, defaults, is_default};

/// Stage `decoder`: the paper's future work. A share of each film's tokens is hidden and filled in by the transformer; the
/// decoder learns to make the film of that. Encoder and codes stay, so that the transformer stays right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Steps in all.
    pub steps: u64,
    /// Films a step.
    pub batch: usize,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
    /// Share of a film's tokens that the transformer fills in. Those that stay hold the picture to its film.
    #[serde(default = "defaults::decoder_masked")]
    pub masked: f64,
    /// Grids made of each film.
    #[serde(default = "defaults::one")]
    pub grids: u32,
    /// Steps of sampling that fill a grid; what else is sampled by stands in `export.sampling`.
    #[serde(default = "defaults::decoder_sampling_steps")]
    pub sampling_steps: u32,
    /// Weight of the multi-scale structure loss.
    #[serde(default = "defaults::structure")]
    pub structure: f64,
    /// A loss by what a trained network sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualConfig>,
    /// A loss by a discriminator that is trained along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialConfig>,
    /// Measuring and saving.
    #[serde(default)]
    pub cadence: Cadence,
    /// As the tokenizer's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// As the tokenizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explode_factor: Option<f64>,
    /// How many checkpoints are kept: the newest.
    #[serde(default = "defaults::keep", skip_serializing_if = "defaults::is_keep")]
    pub keep: usize,
    /// Keep the checkpoint of the best validation (the highest PSNR of generated grids) too, as `best.*`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_best: bool,
}

impl DecoderConfig {
    /// What the stage keeps, and what it does where training fails.
    #[must_use]
    pub fn safety(&self) -> Safety {
        Safety {
            on_failure: self.on_failure,
            explode_factor: self.explode_factor,
            keep: self.keep,
            keep_best: self.keep_best,
        }
    }

    /// The settings that decide what the stage's weights are; see `TokenizerConfig::identity`.
    #[must_use]
    pub fn identity(&self) -> Self {
        let Safety { on_failure, explode_factor, keep, keep_best } = Safety::default();
        Self {
            steps: 0,
            cadence: Cadence::default(),
            on_failure,
            explode_factor,
            keep,
            keep_best,
            perceptual: self.perceptual.as_ref().map(PerceptualConfig::identity),
            ..self.clone()
        }
    }
}
