//! Stage `classifier`: a DenseNet that says which findings a film shows.

use std::path::PathBuf;

use raygen_manifest::CLASSES;
use raygen_model::densenet::{DENSENET_121, DenseNetConfig, Fit, Head, PixelScale};
use serde::{Deserialize, Serialize};

use super::{Cadence, OnFailure, OptimiserConfig, Safety, defaults, is_default};

/// Stage `classifier`. Left out of a run, there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// A bundle, relative to the configuration file, whose classifier this one starts from, such as an imported CheXNet; its
    /// shape must be `model`'s. Its head is taken too where it has the same classes, else a fresh one. With 0 steps the
    /// classifier is taken as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_from: Option<PathBuf>,
    /// Steps in all.
    pub steps: u64,
    /// Films a step, at least 2: a film is normalised by its neighbours in training.
    pub batch: usize,
    /// Side of the films that it sees, in pixels, at most `data.image_size`; left out, it is that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// What it looks for, in the order of its outputs: some of the contract's ten classes; left out, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
    /// Largest random shift of a film, in pixels of `data.image_size`.
    #[serde(default)]
    pub shift: usize,
    /// Mirror half of the films. Off, because a mirrored chest has its heart on the wrong side, and a left effusion is called a
    /// left one. On is for comparison with others' recipes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flip: bool,
    /// What an answer counts for that nobody can give (the manifest's column `uncertain_labels`).
    #[serde(default)]
    pub uncertain: UncertainPolicy,
    /// What the answers count for that nobody gave (an empty `labels`).
    #[serde(default)]
    pub unlabelled: UnlabelledPolicy,
    /// A positive answer counts as often as there are negatives to a positive of its class, but never more often than this.
    /// Left out, every answer counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive_weight_cap: Option<f64>,
    /// What is taken off a sure answer: 0.1 makes 0 and 1 to 0.05 and 0.95.
    #[serde(default, skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// A class with fewer positive films to learn from is trained all the same, and named in a notice.
    #[serde(default = "defaults::min_positives")]
    pub min_positives: usize,
    /// The share by which the running statistics of the norms move towards those of each batch.
    #[serde(default = "defaults::norm_momentum")]
    pub norm_momentum: f64,
    /// The optimiser.
    pub optimiser: OptimiserConfig,
    /// Measuring and saving.
    #[serde(default)]
    pub cadence: Cadence,
    /// As of the stage `tokenizer`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// As of the stage `tokenizer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explode_factor: Option<f64>,
    /// How many checkpoints are kept: the newest.
    #[serde(default = "defaults::keep", skip_serializing_if = "defaults::is_keep")]
    pub keep: usize,
    /// Keep the checkpoint of the best validation (the highest mean AUROC) too, as `best.*`. With `export.best` it is what goes into the
    /// bundle; without, that is the last step's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub keep_best: bool,
    /// The network.
    #[serde(default)]
    pub model: ClassifierModel,
}

/// What an uncertain answer counts for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UncertainPolicy {
    /// Nothing: it is left out of the loss, and the film's other answers count.
    #[default]
    Ignore,
    /// The film is taken not to show the finding.
    Negative,
    /// The film is taken to show it.
    Positive,
}

/// What the answers of an unlabelled film count for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnlabelledPolicy {
    /// Nothing.
    #[default]
    LeaveOut,
    /// The film is taken to show none of the findings.
    Negative,
}

/// Sizes of the DenseNet; those of DenseNet-121 unless others are given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifierModel {
    /// Feature maps that every dense layer adds.
    pub growth_rate: usize,
    /// Dense layers of every block.
    pub block_layers: Vec<usize>,
    /// Feature maps of the first convolution.
    pub initial_features: usize,
    /// A layer's first convolution gives this many times the growth rate.
    pub bottleneck: usize,
    /// Channels of a film: 1, or 3 alike as in the networks that began with coloured pictures.
    pub in_channels: usize,
    /// How a pixel becomes a number: `unit`, `imagenet` or `torchxrayvision`.
    pub scale: PixelScale,
}

impl Default for ClassifierModel {
    fn default() -> Self {
        let published = DenseNetConfig::published(DENSENET_121, Vec::new());
        Self {
            growth_rate: published.growth_rate,
            block_layers: published.block_layers,
            initial_features: published.initial_features,
            bottleneck: published.bottleneck,
            in_channels: published.in_channels,
            scale: published.scale,
        }
    }
}

impl ClassifierConfig {
    /// The network, of films that the run has at `films_side` pixels.
    #[must_use]
    pub fn network(&self, films_side: usize) -> DenseNetConfig {
        let model = &self.model;
        DenseNetConfig {
            growth_rate: model.growth_rate,
            block_layers: model.block_layers.clone(),
            initial_features: model.initial_features,
            bottleneck: model.bottleneck,
            in_channels: model.in_channels,
            classes: self.classes.clone().unwrap_or_else(|| CLASSES.map(str::to_owned).to_vec()),
            head: Head::Sigmoid,
            image_size: self.image_size.unwrap_or(films_side),
            // Films are read as their largest centred square.
            fit: Fit::CentreCrop,
            scale: model.scale,
            operating_points: None,
        }
    }

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

    /// The settings that decide what the stage's weights are, as of the other stages.
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
            // It changes a notice only.
            min_positives: defaults::min_positives(),
            ..self.clone()
        }
    }
}
