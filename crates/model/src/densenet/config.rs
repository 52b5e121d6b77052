//! The shape of a DenseNet, in the words of torchvision, and what its outputs stand for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::input::{Fit, PixelScale};
use crate::config::{InvalidConfig, check_size};

/// Configuration of a [`DenseNet`](super::DenseNet).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DenseNetConfig {
    /// Feature maps that every dense layer adds (torchvision: `growth_rate`).
    pub growth_rate: usize,
    /// Dense layers of every block (torchvision: `block_config`).
    pub block_layers: Vec<usize>,
    /// Feature maps of the first convolution (torchvision: `num_init_features`).
    pub initial_features: usize,
    /// A layer's 1×1 convolution gives this many times the growth rate (torchvision: `bn_size`).
    pub bottleneck: usize,
    /// Channels of an image: 1 (grey) or 3 (grey, three times).
    pub in_channels: usize,
    /// What each output stands for, in their order. An output that was never trained has the empty name.
    pub classes: Vec<String>,
    /// How outputs become probabilities.
    pub head: Head,
    /// Side in pixels of the square images that it was trained on.
    pub image_size: usize,
    /// How a film becomes a square.
    pub fit: Fit,
    /// How a pixel becomes a number.
    pub scale: PixelScale,
    /// The probability from which on each class is called present; none where nobody measured it (torchxrayvision:
    /// `op_threshs`, with NaN for none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_points: Option<Vec<Option<f32>>>,
}

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Head {
    /// Each class by itself: several findings can be present, or none.
    Sigmoid,
    /// Exactly one of the classes, as in ImageNet.
    Softmax,
}

/// The blocks of DenseNet-121, with 32 more maps a layer and 64 at first (Huang et al. 2017, table 1).
pub const DENSENET_121: [usize; 4] = [6, 12, 24, 16];
/// The blocks of DenseNet-169.
pub const DENSENET_169: [usize; 4] = [6, 12, 32, 32];
/// The blocks of DenseNet-201.
pub const DENSENET_201: [usize; 4] = [6, 12, 48, 32];

/// More than any published network has: bounds what a damaged configuration can cost.
const MOST_BLOCKS: usize = 8;
const MOST_LAYERS: usize = 256;
const MOST_FEATURES: usize = 1 << 16;

impl DenseNetConfig {
    /// A published depth ([`DENSENET_121`] and its like) for findings that can be present together, on films of 224
    /// pixels scaled as ImageNet's pictures.
    pub fn published(block_layers: [usize; 4], classes: Vec<String>) -> Self {
        Self {
            growth_rate: 32,
            block_layers: block_layers.to_vec(),
            initial_features: 64,
            bottleneck: 4,
            in_channels: 3,
            classes,
            head: Head::Sigmoid,
            image_size: 224,
            fit: Fit::CentreCrop,
            scale: PixelScale::ImageNet,
            operating_points: None,
        }
    }

    /// Feature maps that go into each block.
    pub(super) fn block_inputs(&self) -> Vec<usize> {
        let mut next = self.initial_features;
        let mut all = Vec::with_capacity(self.block_layers.len());
        for layers in &self.block_layers {
            all.push(next);
            next = self.block_outputs(next, *layers) / 2;
        }
        all
    }

    /// Feature maps that a block gives.
    pub(super) fn block_outputs(&self, inputs: usize, layers: usize) -> usize {
        inputs.saturating_add(layers.saturating_mul(self.growth_rate))
    }

    /// Length of the feature vector: 1024 of DenseNet-121.
    pub fn features(&self) -> usize {
        match (self.block_inputs().last(), self.block_layers.last()) {
            (Some(inputs), Some(layers)) => self.block_outputs(*inputs, *layers),
            _ => self.initial_features,
        }
    }

    /// The smallest side in pixels of which something is left after every halving.
    pub fn smallest_side(&self) -> usize {
        // The first convolution and its pooling round up; the transitions between blocks round down.
        let transitions = self.block_layers.len().saturating_sub(1).min(MOST_BLOCKS);
        4 * (1 << transitions) - 3
    }

    /// Checks what can be told without tensors.
    ///
    /// # Errors
    /// Names the first field from which no network can be built.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check_size("growth_rate", self.growth_rate)?;
        check_size("initial_features", self.initial_features)?;
        check_between("bottleneck", self.bottleneck, 1, 64)?;
        check_between("the number of block_layers", self.block_layers.len(), 1, MOST_BLOCKS)?;
        for layers in &self.block_layers {
            check_between("block_layers", *layers, 1, MOST_LAYERS)?;
        }
        for (inputs, layers) in self.block_inputs().into_iter().zip(&self.block_layers) {
            let outputs = self.block_outputs(inputs, *layers);
            check_between("the feature maps that growth_rate and block_layers make", outputs, 2, MOST_FEATURES)?;
        }
        if self.in_channels != 1 && self.in_channels != 3 {
            return Err(InvalidConfig::new("in_channels", format!("{} is neither 1 nor 3", self.in_channels)));
        }
        check_between("image_size", self.image_size, self.smallest_side(), 8192)?;
        self.check_classes()?;
        self.check_operating_points()
    }

    fn check_classes(&self) -> Result<(), InvalidConfig> {
        check_between("the number of classes", self.classes.len(), 1, MOST_FEATURES)?;
        let mut seen = BTreeSet::new();
        match self.classes.iter().find(|name| !name.is_empty() && !seen.insert(name.as_str())) {
            Some(twice) => Err(InvalidConfig::new("classes", format!("name {twice:?} twice"))),
            None => Ok(()),
        }
    }

    fn check_operating_points(&self) -> Result<(), InvalidConfig> {
        let Some(points) = &self.operating_points else { return Ok(()) };
        let wrong = |problem| Err(InvalidConfig::new("operating_points", problem));
        if self.head != Head::Sigmoid {
            return wrong("belong to probabilities of single classes; expected the head `sigmoid`".to_owned());
        }
        if points.len() != self.classes.len() {
            return wrong(format!("are {}, but there are {} classes", points.len(), self.classes.len()));
        }
        match points.iter().flatten().find(|point| !(**point > 0.0 && **point < 1.0)) {
            Some(point) => wrong(format!("hold {point}, which is not between 0 and 1")),
            None => Ok(()),
        }
    }
}

fn check_between(field: &str, value: usize, least: usize, most: usize) -> Result<(), InvalidConfig> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} is not between {least} and {most}")))
    }
}
