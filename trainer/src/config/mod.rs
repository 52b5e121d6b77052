//! One TOML file describes a run; every key is documented here, unknown keys are refused by name.

mod defaults;
mod validate;

use std::path::{Path, PathBuf};

use raygen_model::sampler::SamplingParams;
use serde::{Deserialize, Serialize};

/// What went wrong with a run's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the TOML that a run needs; the message names the key and line.
    #[error("{path} is not a valid run configuration: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// toml's message, with the line and key.
        message: String,
    },
    /// A value is out of range.
    #[error("{path}: `{key}` {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key, dotted.
        key: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run and of the model it makes.
    pub name: String,
    /// Seed of all randomness of the run.
    #[serde(default)]
    pub seed: u64,
    /// The films.
    pub data: DataConfig,
    /// Stage `tokenizer`: the VQ-GAN.
    pub tokenizer: TokenizerConfig,
    /// Stage `encode`: the token cache.
    #[serde(default)]
    pub encode: EncodeConfig,
    /// Stage `transformer`: the masked transformer and its text encoder.
    pub transformer: TransformerStageConfig,
    /// Stage `export`: the bundle.
    #[serde(default)]
    pub export: ExportConfig,
    /// The folder of the file that this was read from: what the manifest's path is relative to.
    #[serde(skip)]
    folder: PathBuf,
}

/// The films.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Manifest, relative to the configuration file.
    pub manifest: PathBuf,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
}

/// AdamW with warm-up and cosine decay to `final_ratio`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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
    /// Largest global gradient norm; larger ones are scaled down to it.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: f64,
    /// Learning rate at the last step, as a share of the peak.
    #[serde(default = "defaults::final_ratio")]
    pub final_ratio: f64,
    /// Decay of the exponential moving average of the weights; 0 turns it off.
    #[serde(default)]
    pub ema_decay: f64,
}

/// How often a stage measures, draws and saves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cadence {
    /// Steps between validations, each with a sample sheet.
    pub validate_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Cadence {
    fn default() -> Self {
        Self { validate_every: 200, checkpoint_every: 100 }
    }
}

/// Stage `tokenizer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerConfig {
    /// A bundle, relative to the configuration file, whose tokenizer this one starts from; its shape must be `model`'s. With 0
    /// steps it is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Steps in all.
    pub steps: u64,
    /// Films a step.
    pub batch: usize,
    /// Largest random shift of a film, in pixels.
    #[serde(default)]
    pub shift: usize,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
    /// Weight of the commitment loss.
    #[serde(default = "defaults::commitment")]
    pub commitment: f64,
    /// Weight of the multi-scale structure loss.
    #[serde(default = "defaults::structure")]
    pub structure: f64,
    /// Decay of the codebook's moving averages.
    #[serde(default = "defaults::codebook_decay")]
    pub codebook_decay: f64,
    /// A code used less often than this a step, on average, is restarted from a latent of the batch.
    #[serde(default = "defaults::restart_below")]
    pub restart_below: f64,
    /// Measuring and saving.
    #[serde(default)]
    pub cadence: Cadence,
    /// The network.
    pub model: TokenizerModel,
}

/// Sizes of the VQ-GAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerModel {
    /// Channels at full resolution.
    pub channels: usize,
    /// Multiplier of each level, full resolution first; n levels reduce the side by 2^(n-1).
    pub channel_multipliers: Vec<usize>,
    /// Residual blocks a level (the decoder has one more).
    pub residual_blocks: usize,
    /// Channels of the latent before quantising.
    pub z_channels: usize,
    /// Width of a code.
    pub embed_dim: usize,
    /// Number of codes.
    pub codebook_size: usize,
    /// Groups of each group norm.
    pub norm_groups: usize,
}

/// Stage `encode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodeConfig {
    /// Views of each film: the first as it is, the others shifted.
    pub views: usize,
    /// Largest shift of a view, in pixels.
    pub shift: usize,
}

impl Default for EncodeConfig {
    fn default() -> Self {
        Self { views: 4, shift: 6 }
    }
}

/// Stage `transformer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerStageConfig {
    /// Steps in all.
    pub steps: u64,
    /// Films a step.
    pub batch: usize,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
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
    /// Start embedding and head from the codebook's geometry, so that near-duplicate codes start alike.
    #[serde(default = "defaults::yes")]
    pub start_from_codebook: bool,
    /// Measuring and saving.
    #[serde(default)]
    pub cadence: Cadence,
    /// The network.
    pub model: TransformerModel,
    /// The text encoder.
    pub text: TextModel,
}

/// Sizes of the masked transformer (variant `raygen`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerModel {
    /// Width of the trunk.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the gated feed-forward.
    pub feed_forward: usize,
    /// 2 joins 2x2 blocks of tokens in the trunk: a quarter of the positions; 1 joins none.
    #[serde(default = "defaults::token_merge")]
    pub token_merge: usize,
    /// Residual blocks of convolutions over the tokens before the trunk, and as many after it.
    #[serde(default)]
    pub local_blocks: usize,
}

/// Sizes of the text encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

/// Stage `export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportConfig {
    /// Storage of the weights.
    pub dtype: StorageType,
    /// Licence of the weights.
    pub licence: String,
    /// Findings that the model is said to know, for people.
    pub supported_terms: Vec<String>,
    /// What the model card should say beside what the trainer knows, in Markdown.
    pub notes: String,
    /// Defaults of sampling.
    pub sampling: SamplingParams,
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            dtype: StorageType::F16,
            licence: String::new(),
            supported_terms: Vec::new(),
            notes: String::new(),
            sampling: SamplingParams::default(),
        }
    }
}

/// How weights are stored in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// 32-bit.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

impl RunConfig {
    /// Reads and validates `path`.
    ///
    /// # Errors
    /// Names the file, and the key or line that is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), message: error.to_string() })?;
        validate::validate(&config).map_err(|(key, problem)| ConfigError::Value {
            path: path.to_owned(),
            key,
            problem,
        })?;
        path.parent().unwrap_or_else(|| Path::new("")).clone_into(&mut config.folder);
        Ok(config)
    }

    /// Where the bundle lies that the tokenizer starts from, if it does.
    #[must_use]
    pub fn tokenizer_start(&self) -> Option<PathBuf> {
        self.tokenizer.start_from.as_ref().map(|bundle| self.folder.join(bundle))
    }

    /// Where the manifest lies.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.join(&self.data.manifest)
    }
}
