//! Stage `transformer`: how it is trained, and the networks.

use std::path::PathBuf;

use raygen_model::transformer::{Activation, TextNorm};
use serde::{Deserialize, Serialize};

use super::{Cadence, OnFailure, OptimiserConfig, Safety, defaults, is_default};

/// Stage `transformer`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerStageConfig {
    /// Steps in all.
    pub steps: u64,
    /// Films at once: what is in memory together.
    pub batch: usize,
    /// Batches a step: their gradients are added up before the weights move, so that a step is of `batch * accumulate` films.
    /// Every masked token of the step counts alike: two batches of 8 do what one of 16 does, up to rounding.
    #[serde(default = "defaults::accumulate", skip_serializing_if = "defaults::is_accumulate")]
    pub accumulate: usize,
    /// What networks compute in while they train. Weights, moments, average and the sum of gradients are f32 either way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dtype: ComputeType,
    /// A bundle, relative to the configuration file, that this stage starts from: its transformer, and its text encoder with its
    /// word pieces unless `text.start_from` names another. Sizes must be those below, and the codebook the tokenizer's of this run:
    /// set `tokenizer.start_from` to the same bundle and `tokenizer.steps` to 0. `start_from_codebook` does nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Parts that stay as they are in the bundle, byte for byte, without moments or average: `text` (`text.embeddings`,
    /// `text.layers`, `text.layers.N`), `text_projector`, `embedding` (of tokens and positions), `view`, `local_in`, `merge`,
    /// `layers`, `layers.N` (from 0), `norm`, `local_out`, `head`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
    /// How far films are drawn evenly over classes, from 0 (each film once an epoch) to 1 (each of the manifest's classes, and
    /// films without any, as often as another). A film of `n` classes stands in each; one that nobody labelled keeps its weight.
    /// An epoch stays as many films as there are: rare ones come several times, common ones not in every epoch.
    #[serde(default, skip_serializing_if = "is_default")]
    pub class_balance: f64,
    /// Share of films whose hidden tokens are one to three rectangles instead of scattered ones: what editing a part asks for.
    #[serde(default, skip_serializing_if = "is_default")]
    pub region_masks: f64,
    /// Share of films whose impression is replaced by the empty text.
    #[serde(default = "defaults::condition_dropout")]
    pub condition_dropout: f64,
    /// Label smoothing of the cross-entropy.
    #[serde(default = "defaults::label_smoothing")]
    pub label_smoothing: f64,
    /// Share of the target that goes to codes which lie near the right one in the codebook, the nearest most: near-duplicates
    /// need not be told apart, and no patch of quite another kind is made likelier, as label smoothing does.
    #[serde(default)]
    pub code_smoothing: f64,
    /// Share of the attention probabilities that fall out in training, the others growing to keep the mean.
    #[serde(default, skip_serializing_if = "is_default")]
    pub attention_dropout: f64,
    /// How a share of masked tokens becomes a number of them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mask_count: MaskCount,
    /// Start embedding and head from the codebook's geometry, so that near-duplicate codes start alike.
    #[serde(default = "defaults::yes")]
    pub start_from_codebook: bool,
    /// Measuring and saving.
    #[serde(default)]
    pub cadence: Cadence,
    /// Where the loss or the gradient is no number, or the loss explodes: `stop`, or `roll_back` to the last checkpoint and go on
    /// with half the learning rate, at most three times.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// A loss above so many times the median of the hundred steps before it counts as exploded. Left out, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explode_factor: Option<f64>,
    /// How many checkpoints are kept: the newest.
    #[serde(default = "defaults::keep", skip_serializing_if = "defaults::is_keep")]
    pub keep: usize,
    /// Keep the checkpoint of the best validation (the lowest nll) too, as `best.*`. With `export.best` it is what goes into the bundle;
    /// without, that is the last step's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_best: bool,
    /// The network.
    pub model: TransformerModel,
    /// The text encoder.
    pub text: TextModel,
}

impl TransformerStageConfig {
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

    /// Films between two updates of the weights.
    #[must_use]
    pub fn films_a_step(&self) -> usize {
        self.batch * self.accumulate
    }

    /// The settings that decide what the stage's weights are: the number of steps may grow later, where the run starts from
    /// counts by its contents, and cadence and safety change no weight.
    #[must_use]
    pub fn identity(&self) -> Self {
        let Safety { on_failure, explode_factor, keep, keep_best } = Safety::default();
        let text = TextModel { start_from: None, ..self.text.clone() };
        Self {
            steps: 0,
            cadence: Cadence::default(),
            on_failure,
            explode_factor,
            keep,
            keep_best,
            text,
            start_from: None,
            ..self.clone()
        }
    }
}

/// The masked transformer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerModel {
    /// Which architecture it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub variant: Variant,
    /// Width of the trunk.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the gated feed-forward.
    pub feed_forward: usize,
    /// Variant `raygen`: 2 joins 2x2 blocks of tokens in the trunk: a quarter of the positions; 1 joins none.
    #[serde(default = "defaults::token_merge")]
    pub token_merge: usize,
    /// Variant `raygen`: residual blocks of convolutions over the tokens before the trunk, and as many after it.
    #[serde(default)]
    pub local_blocks: usize,
    /// Variant `raygen`: the model is told the view of a film (AP, PA, lateral, or frontal where that is all that is known), and can
    /// be asked for one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub views: bool,
    /// Variant `published`: where its code surprises. Left out, all are as in the published code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quirks: Option<Quirks>,
}

/// Precision of forward and backward passes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeType {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16 copies of the weights, made anew each step: faster on CUDA, much slower on a CPU.
    Bf16,
}

/// Architecture of the masked transformer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// Ours.
    #[default]
    Raygen,
    /// The published code's.
    Published,
}

/// What the published code does and a reader would not expect; each as its own switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// `token_axis`: every feature of a text has unit L2 norm over its tokens, pads included.
    pub text_norm: TextNorm,
    /// Whether the pads of a text are left out of attention.
    pub pad_mask: bool,
    /// Whether each layer has two norms that are never used.
    pub unused_attention_norms: bool,
    /// What stands between the two dense layers of a feed-forward block.
    pub activation: Activation,
}

impl Default for Quirks {
    fn default() -> Self {
        Self {
            text_norm: TextNorm::TokenAxis,
            pad_mask: false,
            unused_attention_norms: true,
            activation: Activation::Geglu,
        }
    }
}

/// How a share of masked tokens becomes a number of them; at least one is masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskCount {
    /// To the nearest whole number: what the published code does.
    #[default]
    Round,
    /// Up: what the paper says.
    Ceil,
}

impl MaskCount {
    /// How many of `positions` are masked at `ratio`.
    #[must_use]
    pub fn of(self, positions: usize, ratio: f64) -> usize {
        let exact = positions as f64 * ratio;
        let count = match self {
            Self::Round => exact.round(),
            Self::Ceil => exact.ceil(),
        };
        (count as usize).clamp(1, positions.max(1))
    }
}

/// Sizes of the text encoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextModel {
    /// Width.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Longest impression, in text tokens.
    pub max_tokens: usize,
    /// A bundle, relative to the configuration file, whose text encoder and word pieces this one starts from; its width,
    /// layers and heads must be those above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Whether the text encoder stays as it is in `start_from`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub frozen: bool,
    /// What is done to the impressions of the films, in training only, before they are read like any request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cleaning: TextCleaning,
}

/// What is done to the impressions of the films.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextCleaning {
    /// Nothing.
    #[default]
    None,
    /// Only the letters A to Z and blanks stay, in lower case: what the published code does. Line breaks go too, so that
    /// the words around them are joined.
    Letters,
}

impl TextCleaning {
    /// The cleaned text.
    #[must_use]
    pub fn apply(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Letters => {
                let kept = text.chars().filter(|c| c.is_ascii_alphabetic() || *c == ' ').collect::<String>();
                kept.to_ascii_lowercase().trim().to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_came_later_are_no_part_of_a_run_that_does_not_set_them() {
        let text = "steps = 5\nbatch = 3\noptimiser = { learning_rate = 1e-3 }\n\
                    model = { width = 16, layers = 1, heads = 2, feed_forward = 16 }\n\
                    text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }\n";
        let config: TransformerStageConfig = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        let identity = toml::Table::try_from(config.identity()).unwrap_or_default();
        let keys: Vec<&str> = identity.keys().map(String::as_str).collect();
        let before = [
            "batch",
            "cadence",
            "code_smoothing",
            "condition_dropout",
            "label_smoothing",
            "model",
            "optimiser",
            "start_from_codebook",
            "steps",
            "text",
        ];
        assert_eq!(keys, before);
        let model: Vec<&str> =
            identity["model"].as_table().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert_eq!(model, ["feed_forward", "heads", "layers", "local_blocks", "token_merge", "width"]);
    }

    #[test]
    fn letters_are_what_stays_and_words_across_a_line_break_are_joined() {
        let cleaned = TextCleaning::Letters.apply(" 1. No acute\ndisease;  2-cm NODULE (RUL).");
        assert_eq!(cleaned, "no acutedisease  cm nodule rul");
        assert_eq!(TextCleaning::None.apply(" A, b.\n"), " A, b.\n");
    }

    #[test]
    fn the_code_rounds_and_the_paper_takes_the_ceiling_and_one_token_is_always_masked() {
        assert_eq!((MaskCount::Round.of(1024, 0.2504), MaskCount::Ceil.of(1024, 0.2504)), (256, 257));
        assert_eq!((MaskCount::Round.of(1024, 0.2), MaskCount::Ceil.of(1024, 0.2)), (205, 205));
        assert_eq!((MaskCount::Round.of(1024, 0.0), MaskCount::Ceil.of(1024, 0.0)), (1, 1));
        assert_eq!(MaskCount::Ceil.of(1024, 1.0), 1024);
    }
}
