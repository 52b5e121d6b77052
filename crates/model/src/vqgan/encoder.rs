//! From an image to the coarsest feature map.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::Conv2d;

use super::{
    blocks::{Downsample, LevelBlocks, LevelShape, Middle, Norm, same_conv},
    config::VqGanConfig,
};

#[derive(Debug, Clone)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    /// From full resolution down; all but the last end with a downsampling.
    levels: Vec<(LevelBlocks, Option<Downsample>)>,
    middle: Middle,
    norm_out: Norm,
    conv_out: Conv2d,
}

impl Encoder {
    pub(super) fn new(config: &VqGanConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let groups = config.norm_groups;
        let mut levels = Vec::with_capacity(config.levels());
        let mut inputs = config.channels;
        for level in 0..config.levels() {
            let vb = vb.pp("down").pp(level);
            let outputs = config.level_channels(level);
            let attention = config.has_attention(level);
            let shape = LevelShape { blocks: config.residual_blocks, inputs, outputs, attention };
            let blocks = LevelBlocks::new(groups, shape, &vb)?;
            let is_last = level + 1 == config.levels();
            let down = if is_last { None } else { Some(Downsample::new(outputs, &vb.pp("downsample"))?) };
            levels.push((blocks, down));
            inputs = outputs;
        }
        let inner = config.inner_channels();
        Ok(Self {
            conv_in: same_conv(config.in_channels, config.channels, 3, vb.pp("conv_in"))?,
            levels,
            middle: Middle::new(groups, inner, &vb.pp("mid"))?,
            norm_out: Norm::new(groups, inner, &vb.pp("norm_out"))?,
            conv_out: same_conv(inner, config.z_channels, 3, vb.pp("conv_out"))?,
        })
    }

    /// [batch, in_channels, H, W] to [batch, z_channels, H / 2^(levels - 1), W / 2^(levels - 1)].
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(images)?;
        for (blocks, down) in &self.levels {
            x = blocks.forward(&x)?;
            if let Some(down) = down {
                x = down.forward(&x)?;
            }
        }
        let x = self.middle.forward(&x)?;
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?)
    }
}
