//! One TOML file describes a run; every key is documented here, unknown keys are refused by name.

mod classifier;
mod decoder;
mod defaults;
mod films;
mod optimiser;
mod picture_losses;
mod safety;
mod transformer;
mod validate;
mod views;

use std::path::{Path, PathBuf};

use raygen_model::sampler::SamplingParams;
use serde::{Deserialize, Serialize};

pub use self::classifier::{ClassifierConfig, ClassifierModel, UncertainPolicy, UnlabelledPolicy};
pub use self::decoder::DecoderConfig;
pub use self::films::DataConfig;
pub use self::optimiser::{OptimiserConfig, PlateauConfig, PlateauMasks};
pub use self::picture_losses::{AdversarialConfig, PerceptualConfig};
pub use self::safety::{OnFailure, Safety};
pub use self::transformer::{
    ComputeType, MaskCount, Quirks, TextCleaning, TextModel, TransformerModel, TransformerStageConfig, Variant,
};
pub use self::views::ViewChoice;

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
    /// Stage `tokenizer`: the VQ-GAN. A run makes pictures, with this section and `transformer`; or it has neither, and trains
    /// a classifier only: then both are their `Default`, zeros that no stage reads (see
    /// [`makes_pictures`](Self::makes_pictures)).
    #[serde(default, skip_serializing_if = "is_default")]
    pub tokenizer: TokenizerConfig,
    /// Stage `encode`: the token cache.
    #[serde(default)]
    pub encode: EncodeConfig,
    /// Stage `transformer`: the masked transformer and its text encoder.
    #[serde(default, skip_serializing_if = "is_default")]
    pub transformer: TransformerStageConfig,
    /// Stage `decoder`: fine-tuning of the tokenizer's decoder on grids that the transformer made. Left out, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<DecoderConfig>,
    /// Stage `classifier`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classifier: Option<ClassifierConfig>,
    /// Stage `export`: the bundle.
    #[serde(default)]
    pub export: ExportConfig,
    /// The folder of the file that this was read from: what the manifest's path is relative to.
    #[serde(skip)]
    folder: PathBuf,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// A loss by what a trained network sees; without one the structure loss stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualConfig>,
    /// A loss by a discriminator that is trained along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialConfig>,
    /// Decay of the codebook's moving averages.
    #[serde(default = "defaults::codebook_decay")]
    pub codebook_decay: f64,
    /// A code used less often than this a step, on average, is restarted from a latent of the batch.
    #[serde(default = "defaults::restart_below")]
    pub restart_below: f64,
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
    /// Keep the checkpoint of the best validation (the highest PSNR) too, as `best.*`. With `export.best` it is what goes on and into the
    /// bundle; without, that is the last step's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_best: bool,
    /// The network.
    pub model: TokenizerModel,
}

/// Sizes of the VQ-GAN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// Channels of a picture: 1, or 3 alike as in the published tokenizer, which is of colour pictures.
    #[serde(default = "defaults::image_channels", skip_serializing_if = "defaults::is_image_channels")]
    pub image_channels: usize,
    /// Sides, in pixels, of the levels with attention; one that no level has matches nothing, as in the published file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention_resolutions: Vec<usize>,
}

impl TokenizerConfig {
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

    /// The settings that decide what the stage's weights are: the number of steps may grow later, files count by their
    /// contents, and cadence and safety change no weight.
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
            start_from: None,
            perceptual: self.perceptual.as_ref().map(PerceptualConfig::identity),
            ..self.clone()
        }
    }
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

/// Stage `export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportConfig {
    /// Storage of the weights.
    pub dtype: StorageType,
    /// Licence of the weights.
    pub licence: String,
    /// Findings that the model is said to know, for people.
    pub supported_terms: Vec<String>,
    /// What the model card should say beside what the trainer knows, in Markdown.
    pub notes: String,
    /// Of each stage with `keep_best`, hand on the checkpoint of its best validation instead of the last one: to the later stages and
    /// to the bundle.
    #[serde(skip_serializing_if = "is_default")]
    pub best: bool,
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
            best: false,
            sampling: SamplingParams::default(),
        }
    }
}

/// Keys that came later are left out where they say nothing, so that the fingerprints of older runs stay.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

    /// Whether it has the stages that pictures need: tokenizer, encode and transformer.
    #[must_use]
    pub fn makes_pictures(&self) -> bool {
        !is_default(&self.tokenizer) && !is_default(&self.transformer)
    }

    /// Where the bundle lies that the tokenizer starts from, if it does.
    #[must_use]
    pub fn tokenizer_start(&self) -> Option<PathBuf> {
        self.tokenizer.start_from.as_ref().map(|bundle| self.folder.join(bundle))
    }

    /// The tokenizer's perceptual loss with its files where they lie, if it has one.
    #[must_use]
    pub fn tokenizer_perceptual(&self) -> Option<PerceptualConfig> {
        self.tokenizer.perceptual.as_ref().map(|perceptual| perceptual.within(&self.folder))
    }

    /// The same of the stage `decoder`.
    #[must_use]
    pub fn decoder_perceptual(&self) -> Option<PerceptualConfig> {
        self.decoder.as_ref()?.perceptual.as_ref().map(|perceptual| perceptual.within(&self.folder))
    }

    /// Where the bundle lies that the transformer starts from, if it does.
    #[must_use]
    pub fn transformer_start(&self) -> Option<PathBuf> {
        self.transformer.start_from.as_ref().map(|bundle| self.folder.join(bundle))
    }

    /// Where the bundle lies whose text encoder the transformer's starts from, if it does: one of its own, or the transformer's.
    #[must_use]
    pub fn text_start(&self) -> Option<PathBuf> {
        let own = self.transformer.text.start_from.as_ref().map(|bundle| self.folder.join(bundle));
        own.or_else(|| self.transformer_start())
    }

    /// The key that names the bundle of the text encoder.
    #[must_use]
    pub fn text_start_key(&self) -> &'static str {
        match &self.transformer.text.start_from {
            Some(_) => "transformer.text.start_from",
            None => "transformer.start_from",
        }
    }

    /// Where the bundle lies that the classifier starts from, if it does.
    #[must_use]
    pub fn classifier_start(&self) -> Option<PathBuf> {
        self.classifier.as_ref()?.start_from.as_ref().map(|bundle| self.folder.join(bundle))
    }

    /// Names every file and bundle that the run starts from by its path from the root of the file system.
    ///
    /// # Errors
    /// Where the system cannot tell the working directory.
    pub(crate) fn make_files_absolute(&mut self) -> std::io::Result<()> {
        let folder = self.folder.clone();
        let perceptual =
            [self.tokenizer.perceptual.as_mut(), self.decoder.as_mut().and_then(|decoder| decoder.perceptual.as_mut())];
        let files = perceptual.into_iter().flatten().flat_map(|loss| [Some(&mut loss.features), loss.linear.as_mut()]);
        let bundles = [
            self.tokenizer.start_from.as_mut(),
            self.transformer.start_from.as_mut(),
            self.transformer.text.start_from.as_mut(),
            self.classifier.as_mut().and_then(|classifier| classifier.start_from.as_mut()),
        ];
        for path in files.chain(bundles).flatten() {
            *path = std::path::absolute(folder.join(&*path))?;
        }
        Ok(())
    }

    /// Files and bundles that a later stage reads, each with its key: what is not there should be told before the first stage.
    pub(crate) fn files_of_later_stages(&self) -> Vec<(&'static str, PathBuf)> {
        let mut files: Vec<(&'static str, Option<PathBuf>)> = vec![
            ("transformer.start_from", self.transformer_start()),
            (
                "transformer.text.start_from",
                self.transformer.text.start_from.as_ref().map(|path| self.folder.join(path)),
            ),
            ("classifier.start_from", self.classifier_start()),
        ];
        if let Some(perceptual) = self.decoder_perceptual() {
            files.push(("decoder.perceptual.features", Some(perceptual.features)));
            files.push(("decoder.perceptual.linear", perceptual.linear));
        }
        files.into_iter().filter_map(|(key, path)| Some((key, path?))).collect()
    }

    /// Where the manifest lies.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.join(&self.data.manifest)
    }
}
