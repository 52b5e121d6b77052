//! DenseNet (Huang et al. 2017): a film becomes features, and those become probabilities of findings.
//!
//! The network of CheXNet, of torchxrayvision's classifiers and of the published evaluation. Tensor names are those of
//! torchvision's `DenseNet`. [`DenseNet`] predicts: batch normalisation goes by the running statistics of training.
//! [`TrainingDenseNet`] learns: it goes by those of the batch.

mod batch_norm;
mod config;
mod input;
mod layers;
mod network;
mod norm;
mod training;

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use self::{batch_norm::RunningNorm, network::Network};
pub use self::{
    config::{DENSENET_121, DENSENET_169, DENSENET_201, DenseNetConfig, Head},
    input::{Fit, PixelScale},
    norm::is_running,
    training::{Statistics, TrainingDenseNet},
};

/// A convolutional classifier of films.
#[derive(Debug, Clone)]
pub struct DenseNet {
    config: DenseNetConfig,
    network: Network<RunningNorm>,
}

impl DenseNet {
    /// Builds the network from named tensors.
    ///
    /// # Errors
    /// A configuration that [`DenseNetConfig::validate`] refuses; a tensor that `vb` lacks or has in another shape; a
    /// negative variance.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(config: &DenseNetConfig, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { network: Network::new(config, &vb)?, config: config.clone() })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &DenseNetConfig {
        &self.config
    }

    /// Images [batch, channels, height, width], scaled as [`DenseNetConfig::pixels`] does, to maps
    /// [batch, features, h, w] after the last norm and before any activation: torchvision's `features`.
    ///
    /// # Errors
    /// Images of other channels, or smaller than [`DenseNetConfig::smallest_side`].
    pub fn feature_maps(&self, images: &Tensor) -> Result<Tensor> {
        self.network.feature_maps(images, &mut ())
    }

    /// Images as for [`feature_maps`](Self::feature_maps) to the maps after each block, each [batch, channels, h, w].
    /// Differentiable in the images.
    ///
    /// # Errors
    /// As [`feature_maps`](Self::feature_maps).
    pub fn block_maps(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut maps = Vec::with_capacity(self.config.block_layers.len());
        self.network.blocks_watched(images, &mut (), |block| maps.push(block.clone()))?;
        Ok(maps)
    }

    /// Images as for [`feature_maps`](Self::feature_maps) to [batch, features]: the mean of each map's positive part.
    /// It is what torchxrayvision's `features2` gives, and what the published FID is measured on.
    ///
    /// # Errors
    /// As [`feature_maps`](Self::feature_maps).
    pub fn features(&self, images: &Tensor) -> Result<Tensor> {
        self.network.features(images, &mut ())
    }

    /// Features [batch, features] to logits [batch, classes].
    ///
    /// # Errors
    /// Features of another length.
    pub fn classify(&self, features: &Tensor) -> Result<Tensor> {
        self.network.classify(features)
    }

    /// Images as for [`feature_maps`](Self::feature_maps) to logits [batch, classes].
    ///
    /// # Errors
    /// As [`feature_maps`](Self::feature_maps).
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        self.classify(&self.features(images)?)
    }

    /// Logits [batch, classes] to probabilities by the configured [`Head`].
    ///
    /// # Errors
    /// If candle has none.
    pub fn probabilities(&self, logits: &Tensor) -> Result<Tensor> {
        match self.config.head {
            Head::Sigmoid => candle_nn::ops::sigmoid(logits),
            Head::Softmax => raygen_nn::softmax(logits),
        }
    }

    /// Probabilities [batch, classes] with 0.5 moved to each class's operating point, linearly below and above it:
    /// torchxrayvision's `op_norm`, which its models give. A class without an operating point is 0.5; without any
    /// operating points the probabilities are as they were.
    ///
    /// # Errors
    /// Probabilities of another number of classes.
    pub fn scores(&self, probabilities: &Tensor) -> Result<Tensor> {
        let Some(points) = &self.config.operating_points else { return Ok(probabilities.clone()) };
        let (_, classes) = probabilities.dims2()?;
        if classes != points.len() {
            bail!("probabilities have shape {:?}; expected [batch, {}]", probabilities.dims(), points.len())
        }
        let known: Vec<u8> = points.iter().map(|point| u8::from(point.is_some())).collect();
        let points: Vec<f32> = points.iter().map(|point| point.unwrap_or(0.5)).collect();
        let device = probabilities.device();
        let points = Tensor::new(points, device)?.to_dtype(probabilities.dtype())?;
        let below = probabilities.broadcast_div(&(&points * 2.0)?)?;
        let rest = points.affine(-2.0, 2.0)?;
        let above = (1.0 - (1.0 - probabilities)?.broadcast_div(&rest)?)?;
        let scores = probabilities.broadcast_lt(&points)?.where_cond(&below, &above)?;
        let half = (scores.zeros_like()? + 0.5)?;
        Tensor::new(known, device)?.broadcast_as(scores.shape())?.where_cond(&scores, &half)
    }
}
