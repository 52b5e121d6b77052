//! Losses of decoded pictures beside the plain ones: perceptual and adversarial.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{defaults, is_default};

/// A loss by what a trained network sees in the pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerceptualConfig {
    /// Whose features, relative to the configuration file: a VGG-16 (torchvision's, the `lpips` package's, or a
    /// taming-transformers `.ckpt`, whose loss holds one), or a bundle with a classifier.
    pub features: PathBuf,
    /// LPIPS's weights of the channels, where they are in a file of their own. Without any, each channel counts once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<PathBuf>,
    /// Weight of the loss.
    #[serde(default = "defaults::perceptual")]
    pub weight: f64,
}

/// A loss by a discriminator that learns to tell pictures from films, patch by patch (PatchGAN, hinge loss).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversarialConfig {
    /// The step at which it begins: a discriminator that meets untrained pictures learns nothing that helps them.
    pub start: u64,
    /// Weight of the loss, on top of the adaptive one that makes its gradient at the decoder's last layer as long as the
    /// other losses' (Esser et al. 2021, equation 7).
    #[serde(default = "defaults::adversarial")]
    pub weight: f64,
    /// Steps in which the weight rises from nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ramp: u64,
    /// Channels of the discriminator's first layer.
    #[serde(default = "defaults::discriminator_channels")]
    pub channels: usize,
    /// Its layers that halve the picture; each doubles the channels, up to eight times the first.
    #[serde(default = "defaults::discriminator_layers")]
    pub layers: usize,
    /// Its learning rate as a multiple of the stage's.
    #[serde(default = "defaults::discriminator_rate")]
    pub rate: f64,
}

impl PerceptualConfig {
    /// What decides the weights: files count by their contents.
    pub(super) fn identity(&self) -> Self {
        Self { features: PathBuf::new(), linear: None, weight: self.weight }
    }

    /// The same with its files as they lie from `folder`.
    pub(super) fn within(&self, folder: &Path) -> Self {
        let linear = self.linear.as_ref().map(|path| folder.join(path));
        Self { features: folder.join(&self.features), linear, weight: self.weight }
    }
}
