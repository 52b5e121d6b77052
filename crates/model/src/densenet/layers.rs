//! What a DenseNet is made of: convolutions without bias, dense layers and the transitions between blocks.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_nn::init::DEFAULT_KAIMING_NORMAL;
use raygen_nn::{ConvGeometry, Padding, avg_pool_2x2, conv2d};

use super::norm::Norm;

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
struct DenseLayer<N> {
    norm1: N,
    conv1: Conv,
    norm2: N,
    conv2: Conv,
}

impl<N: Norm> DenseLayer<N> {
    fn new(inputs: usize, bottleneck: usize, growth_rate: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: N::new(inputs, &vb.pp("norm1"))?,
            conv1: Conv::new(inputs, bottleneck, 1, 1, &vb.pp("conv1"))?,
            norm2: N::new(bottleneck, &vb.pp("norm2"))?,
            conv2: Conv::new(bottleneck, growth_rate, 3, 1, &vb.pp("conv2"))?,
        })
    }

    /// The maps that this layer adds.
    fn forward(&self, x: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        let bottleneck = self.conv1.forward(&self.norm1.forward_relu(x, seen)?)?;
        self.conv2.forward(&self.norm2.forward_relu(&bottleneck, seen)?)
    }
}

/// Layers of which each reads the maps of all before it.
#[derive(Debug, Clone)]
pub(super) struct DenseBlock<N> {
    layers: Vec<DenseLayer<N>>,
}

impl<N: Norm> DenseBlock<N> {
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

    pub(super) fn forward(&self, x: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        self.layers.iter().try_fold(x.clone(), |x, layer| Tensor::cat(&[&x, &layer.forward(&x, seen)?], 1))
    }
}

/// Halves the maps, and their height and width.
#[derive(Debug, Clone)]
pub(super) struct Transition<N> {
    norm: N,
    conv: Conv,
}

impl<N: Norm> Transition<N> {
    pub(super) fn new(inputs: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { norm: N::new(inputs, &vb.pp("norm"))?, conv: Conv::new(inputs, inputs / 2, 1, 1, &vb.pp("conv"))? })
    }

    pub(super) fn forward(&self, x: &Tensor, seen: &mut N::Seen) -> Result<Tensor> {
        avg_pool_2x2(&self.conv.forward(&self.norm.forward_relu(x, seen)?)?)
    }
}
