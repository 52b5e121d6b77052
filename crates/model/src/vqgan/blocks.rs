//! The blocks that encoder and decoder are made of: residual, attention, down- and upsampling.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::{ConvGeometry, Padding, layers::Conv2d};

/// Added to the variance in every group norm.
const NORM_EPS: f64 = 1e-6;

/// A convolution of stride 1 with an odd kernel, padded so that height and width stay.
pub(super) fn same_conv(inputs: usize, outputs: usize, kernel: usize, vb: VarBuilder<'_>) -> Result<Conv2d> {
    let pad = kernel / 2;
    let padding = Padding { top: pad, bottom: pad, left: pad, right: pad };
    Conv2d::new(inputs, outputs, kernel, ConvGeometry { stride: 1, padding }, vb)
}

/// Group norm over [batch, channels, height, width].
#[derive(Debug, Clone)]
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
}

impl Norm {
    pub(super) fn new(groups: usize, channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            weight: vb.get_with_hints(channels, "weight", Init::Const(1.0))?,
            bias: vb.get_with_hints(channels, "bias", Init::Const(0.0))?,
            groups,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        raygen_nn::group_norm(x, &self.weight, &self.bias, self.groups, NORM_EPS)
    }

    /// The norm followed by x · sigmoid(x), in one pass.
    pub(super) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        raygen_nn::group_norm_silu(x, &self.weight, &self.bias, self.groups, NORM_EPS)
    }
}

/// Two convolutions, each after norm and activation, beside a shortcut.
#[derive(Debug, Clone)]
pub(crate) struct ResidualBlock {
    norm1: Norm,
    conv1: Conv2d,
    norm2: Norm,
    conv2: Conv2d,
    /// A 1×1 convolution where the number of channels changes.
    shortcut: Option<Conv2d>,
}

impl ResidualBlock {
    pub(crate) fn new(groups: usize, inputs: usize, outputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let shortcut =
            if inputs == outputs { None } else { Some(same_conv(inputs, outputs, 1, vb.pp("nin_shortcut"))?) };
        Ok(Self {
            norm1: Norm::new(groups, inputs, &vb.pp("norm1"))?,
            conv1: same_conv(inputs, outputs, 3, vb.pp("conv1"))?,
            norm2: Norm::new(groups, outputs, &vb.pp("norm2"))?,
            conv2: same_conv(outputs, outputs, 3, vb.pp("conv2"))?,
            shortcut,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x)? + h,
            None => x + h,
        }
    }
}

/// Attention of one head over all places of a feature map, beside a shortcut.
#[derive(Debug, Clone)]
pub(super) struct AttentionBlock {
    norm: Norm,
    query: Conv2d,
    key: Conv2d,
    value: Conv2d,
    output: Conv2d,
}

impl AttentionBlock {
    pub(super) fn new(groups: usize, channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let conv = |name: &str| same_conv(channels, channels, 1, vb.pp(name));
        Ok(Self {
            norm: Norm::new(groups, channels, &vb.pp("norm"))?,
            query: conv("q")?,
            key: conv("k")?,
            value: conv("v")?,
            output: conv("proj_out")?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let normed = self.norm.forward(x)?;
        // [batch, channels, height, width] to [batch, 1 head, places, channels].
        let places = |conv: &Conv2d| -> Result<Tensor> {
            let map = conv.forward(&normed)?.reshape((batch, 1, channels, height * width))?;
            map.transpose(2, 3)?.contiguous()
        };
        let scale = 1.0 / (channels as f64).sqrt();
        let mixed =
            raygen_nn::attention(&places(&self.query)?, &places(&self.key)?, &places(&self.value)?, None, scale)?;
        let mixed = mixed.transpose(2, 3)?.contiguous()?.reshape((batch, channels, height, width))?;
        x + self.output.forward(&mixed)?
    }
}

/// Halves height and width. Pads right and below only, as taming does.
#[derive(Debug, Clone)]
pub(super) struct Downsample {
    conv: Conv2d,
}

impl Downsample {
    pub(super) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let padding = Padding { top: 0, bottom: 1, left: 0, right: 1 };
        Ok(Self { conv: Conv2d::new(channels, channels, 3, ConvGeometry { stride: 2, padding }, vb.pp("conv"))? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(x)
    }
}

/// Doubles height and width.
#[derive(Debug, Clone)]
pub(super) struct Upsample {
    conv: Conv2d,
}

impl Upsample {
    pub(super) fn new(channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { conv: same_conv(channels, channels, 3, vb.pp("conv"))? })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&raygen_nn::upsample_nearest_2x(x)?)
    }
}

/// The coarsest part of encoder and decoder: attention between two residual blocks.
#[derive(Debug, Clone)]
pub(super) struct Middle {
    block_1: ResidualBlock,
    attention: AttentionBlock,
    block_2: ResidualBlock,
}

impl Middle {
    pub(super) fn new(groups: usize, channels: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            block_1: ResidualBlock::new(groups, channels, channels, &vb.pp("block_1"))?,
            attention: AttentionBlock::new(groups, channels, &vb.pp("attn_1"))?,
            block_2: ResidualBlock::new(groups, channels, channels, &vb.pp("block_2"))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.block_2.forward(&self.attention.forward(&self.block_1.forward(x)?)?)
    }
}

/// The blocks of one level: residual blocks, each with attention after it where the level has attention.
#[derive(Debug, Clone)]
pub(super) struct LevelBlocks {
    blocks: Vec<(ResidualBlock, Option<AttentionBlock>)>,
}

/// What the blocks of a level are built for.
#[derive(Debug, Clone, Copy)]
pub(super) struct LevelShape {
    /// Residual blocks.
    pub(super) blocks: usize,
    /// Channels that come in.
    pub(super) inputs: usize,
    /// Channels after the first block.
    pub(super) outputs: usize,
    /// Whether attention follows each block.
    pub(super) attention: bool,
}

impl LevelBlocks {
    pub(super) fn new(groups: usize, shape: LevelShape, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut blocks = Vec::with_capacity(shape.blocks);
        let mut inputs = shape.inputs;
        for index in 0..shape.blocks {
            let block = ResidualBlock::new(groups, inputs, shape.outputs, &vb.pp("block").pp(index))?;
            let attention = if shape.attention {
                Some(AttentionBlock::new(groups, shape.outputs, &vb.pp("attn").pp(index))?)
            } else {
                None
            };
            blocks.push((block, attention));
            inputs = shape.outputs;
        }
        Ok(Self { blocks })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for (block, attention) in &self.blocks {
            x = block.forward(&x)?;
            if let Some(attention) = attention {
                x = attention.forward(&x)?;
            }
        }
        Ok(x)
    }
}
