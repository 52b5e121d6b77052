//! What a DenseNet is made of: convolutions without bias, dense layers and the transitions between blocks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::DEFAULT_KAIMING_NORMAL;
use raygen_nn::{ConvGeometry, Padding, conv2d};

use super::batch_norm::BatchNorm;

/// A convolution without bias: [batch, in, height, width] to [batch, out, height', width'].
#[derive(Debug, Clone)]
pub(super) struct Conv {
    weight: Tensor,
    geometry: ConvGeometry,
}

impl Conv {
    /// An odd kernel, padded by half of it.
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        kernel: usize,
        stride: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let weight = vb.get_with_hints((outputs, inputs, kernel, kernel), "weight", DEFAULT_KAIMING_NORMAL)?;
        Ok(Self { weight, geometry: ConvGeometry { stride, padding: Padding::all(kernel / 2) } })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, None, &self.geometry)
    }
}

/// Norm, activation and 1×1 convolution to a bottleneck; the same with a 3×3 convolution out of it.
#[derive(Debug, Clone)]
struct DenseLayer {
    norm1: BatchNorm,
    conv1: Conv,
    norm2: BatchNorm,
    conv2: Conv,
}

impl DenseLayer {
    fn new(inputs: usize, bottleneck: usize, growth_rate: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: BatchNorm::new(inputs, &vb.pp("norm1"))?,
            conv1: Conv::new(inputs, bottleneck, 1, 1, &vb.pp("conv1"))?,
            norm2: BatchNorm::new(bottleneck, &vb.pp("norm2"))?,
            conv2: Conv::new(bottleneck, growth_rate, 3, 1, &vb.pp("conv2"))?,
        })
    }

    /// The maps that this layer adds.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bottleneck = self.conv1.forward(&self.norm1.forward_relu(x)?)?;
        self.conv2.forward(&self.norm2.forward_relu(&bottleneck)?)
    }
}

/// Layers of which each reads the maps of all before it.
#[derive(Debug, Clone)]
pub(super) struct DenseBlock {
    layers: Vec<DenseLayer>,
}

impl DenseBlock {
    pub(super) fn new(
        inputs: usize,
        layers: usize,
        bottleneck: usize,
        growth_rate: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let layers = (0..layers)
            .map(|index| {
                let vb = vb.pp(format!("denselayer{}", index + 1));
                DenseLayer::new(inputs + index * growth_rate, bottleneck * growth_rate, growth_rate, &vb)
            })
            .collect::<Result<_>>()?;
        Ok(Self { layers })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| Tensor::cat(&[&x, &layer.forward(&x)?], 1))
    }
}

/// Halves the maps, and their height and width.
#[derive(Debug, Clone)]
pub(super) struct Transition {
    norm: BatchNorm,
    conv: Conv,
}

impl Transition {
    pub(super) fn new(inputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm: BatchNorm::new(inputs, &vb.pp("norm"))?,
            conv: Conv::new(inputs, inputs / 2, 1, 1, &vb.pp("conv"))?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&self.norm.forward_relu(x)?)?.avg_pool2d(2)
    }
}

/// Largest value of every 3×3 window at every second place, for maps that hold nothing negative.
pub(super) fn max_pool(x: &Tensor) -> Result<Tensor> {
    // PyTorch pads by minus infinity: the same as zeros where no value is below them.
    x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)
}
