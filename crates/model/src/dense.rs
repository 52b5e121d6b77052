//! A dense layer whose initial weights the network chooses.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// `x · weightᵀ + bias` over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// How a dense layer starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DenseInit {
    /// Weights from a normal distribution with this standard deviation, bias 0.
    Normal(f64),
    /// Weights from a normal distribution with variance 2 / (inputs + outputs), bias 0.
    Xavier,
    /// PyTorch's `Linear`: both uniform within 1 / sqrt(inputs).
    PyTorch,
    /// PyTorch's attention output: weights as `PyTorch`, bias 0.
    PyTorchZeroBias,
}

impl Dense {
    /// Takes `weight` [outputs, inputs] and, where there is one, `bias` [outputs].
    pub(crate) fn new(
        (inputs, outputs): (usize, usize),
        bias: bool,
        init: DenseInit,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let normal = |stdev| Init::Randn { mean: 0.0, stdev };
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let (weight_init, bias_init) = match init {
            DenseInit::Normal(stdev) => (normal(stdev), Init::Const(0.0)),
            DenseInit::Xavier => (normal((2.0 / (inputs + outputs) as f64).sqrt()), Init::Const(0.0)),
            DenseInit::PyTorch => (uniform, uniform),
            DenseInit::PyTorchZeroBias => (uniform, Init::Const(0.0)),
        };
        let weight = vb.get_with_hints((outputs, inputs), "weight", weight_init)?;
        let bias = if bias { Some(vb.get_with_hints(outputs, "bias", bias_init)?) } else { None };
        Ok(Self { weight, bias })
    }

    /// [.., inputs] to [.., outputs].
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        raygen_nn::linear(x, &self.weight, self.bias.as_ref())
    }
}
