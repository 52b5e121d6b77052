//! From the coarsest feature map to an image.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::Conv2d;

use super::{
    blocks::{LevelBlocks, LevelShape, Middle, Norm, Upsample, same_conv},
    config::VqGanConfig,
};

#[derive(Debug, Clone)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    middle: Middle,
    /// In the order of execution, coarsest first; all but the last end with an upsampling.
    levels: Vec<(LevelBlocks, Option<Upsample>)>,
    norm_out: Norm,
    conv_out: Conv2d,
}

impl Decoder {
    pub(super) fn new(config: &VqGanConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let groups = config.norm_groups;
        let inner = config.inner_channels();
        let mut levels = Vec::with_capacity(config.levels());
        let mut inputs = inner;
        // The tensor names count from full resolution, execution starts at the coarsest level.
        for level in (0..config.levels()).rev() {
            let vb = vb.pp("up").pp(level);
            let outputs = config.level_channels(level);
            let attention = config.has_attention(level);
            let shape = LevelShape { blocks: config.residual_blocks + 1, inputs, outputs, attention };
            let blocks = LevelBlocks::new(groups, shape, &vb)?;
            let up = if level == 0 { None } else { Some(Upsample::new(outputs, &vb.pp("upsample"))?) };
            levels.push((blocks, up));
            inputs = outputs;
        }
        Ok(Self {
            conv_in: same_conv(config.z_channels, inner, 3, vb.pp("conv_in"))?,
            middle: Middle::new(groups, inner, &vb.pp("mid"))?,
            levels,
            norm_out: Norm::new(groups, inputs, &vb.pp("norm_out"))?,
            conv_out: same_conv(inputs, config.out_channels, 3, vb.pp("conv_out"))?,
        })
    }

    /// [batch, z_channels, h, w] to [batch, channels of level 0, h · 2^(levels - 1), w · 2^(levels - 1)].
    pub(super) fn before_last_layer(&self, latent: &Tensor) -> Result<Tensor> {
        let mut x = self.middle.forward(&self.conv_in.forward(latent)?)?;
        for (blocks, up) in &self.levels {
            x = blocks.forward(&x)?;
            if let Some(up) = up {
                x = up.forward(&x)?;
            }
        }
        self.norm_out.forward_silu(&x)
    }

    /// The last convolution: [batch, channels of level 0, H, W] to [batch, out_channels, H, W].
    pub(super) fn last_layer(&self, maps: &Tensor) -> Result<Tensor> {
        self.conv_out.forward(maps)
    }
}
