//! The layers of a DenseNet, whichever norm they have.

use candle_core::{D, Result, Tensor, bail};
use candle_nn::VarBuilder;
use raygen_nn::layers::Linear;
use raygen_nn::max_pool_3x3;

use super::DenseNetConfig;
use super::layers::{Conv, DenseBlock, Transition};
use super::norm::Norm;

/// Images to feature maps, features and logits.
#[derive(Debug, Clone)]
pub(super) struct Network<N> {
    in_channels: usize,
    smallest_side: usize,
    conv: Conv,
    norm: N,
    /// Every block with the transition behind it; the last has none.
    blocks: Vec<(DenseBlock<N>, Option<Transition<N>>)>,
    last_norm: N,
    classifier: Linear,
}

impl<N: Norm> Network<N> {
    pub(super) fn new(config: &DenseNetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        let features = vb.pp("features");
        let inputs = config.block_inputs();
        let last = inputs.len().saturating_sub(1);
        let blocks = inputs
            .into_iter()
            .zip(&config.block_layers)
            .enumerate()
            .map(|(index, (inputs, layers))| {
                let (bottleneck, growth_rate) = (config.bottleneck, config.growth_rate);
                let vb = features.pp(format!("denseblock{}", index + 1));
                let block = DenseBlock::new(inputs, *layers, bottleneck, growth_rate, &vb)?;
                if index == last {
                    return Ok((block, None));
                }
                let vb = features.pp(format!("transition{}", index + 1));
                Ok((block, Some(Transition::new(config.block_outputs(inputs, *layers), &vb)?)))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            in_channels: config.in_channels,
            smallest_side: config.smallest_side(),
            conv: Conv::new(config.in_channels, config.initial_features, 7, 2, &features.pp("conv0"))?,
            norm: N::new(config.initial_features, &features.pp("norm0"))?,
            blocks,
            // torchvision's name, however many blocks there are.
            last_norm: N::new(config.features(), &features.pp("norm5"))?,
            classifier: Linear::new(config.features(), config.classes.len(), true, vb.pp("classifier"))?,
        })
    }

    /// Maps after the last norm and before any activation.
    pub(super) fn feature_maps(&self, images: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        let maps = self.blocks(images, seen)?;
        self.last_norm.forward(&maps, seen)
    }

    /// The mean of each map's positive part.
    pub(super) fn features(&self, images: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        let maps = self.blocks(images, seen)?;
        self.last_norm.forward_relu(&maps, seen)?.flatten_from(2)?.mean(D::Minus1)
    }

    pub(super) fn classify(&self, features: &Tensor) -> Result<Tensor> {
        self.classifier.forward(features)
    }

    /// Everything before the last norm.
    fn blocks(&self, images: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        self.blocks_watched(images, seen, |_| {})
    }

    /// The same; `watch` sees the maps after every block.
    pub(super) fn blocks_watched(
        &self,
        images: &Tensor,
        seen: &mut N::Seen,
        mut watch: impl FnMut(&Tensor),
    ) -> Result<Tensor> {
        let (_, channels, height, width) = images.dims4()?;
        let least = self.smallest_side;
        if channels != self.in_channels || height < least || width < least {
            bail!(
                "images have shape {:?}; expected [batch, {}, H, W] with H and W of {least} and more",
                images.dims(),
                self.in_channels,
            );
        }
        let mut x = max_pool_3x3(&self.norm.forward_relu(&self.conv.forward(images)?, seen)?)?;
        for (block, transition) in &self.blocks {
            x = block.forward(&x, seen)?;
            watch(&x);
            if let Some(transition) = transition {
                x = transition.forward(&x, seen)?;
            }
        }
        Ok(x)
    }
}
