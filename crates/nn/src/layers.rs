//! Layers with parameters, read from a `VarBuilder` under PyTorch's names `weight` and `bias`.
//!
//! The initial values are hints to the builder and follow PyTorch's defaults.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::conv2d::ConvGeometry;

/// An affine map of the last dimension: [.., in] to [.., out].
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` [out, in] and, if wanted, `bias` [out].
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn new(in_width: usize, out_width: usize, bias: bool, vb: VarBuilder) -> Result<Self> {
        Self::with_init(in_width, out_width, bias, by_fan_in(in_width), vb)
    }

    /// As [`Linear::new`] with another initial distribution of the weight.
    ///
    /// # Errors
    /// As [`Linear::new`].
    #[allow(clippy::needless_pass_by_value, reason = "builders are passed by value in candle")]
    pub fn with_init(in_width: usize, out_width: usize, bias: bool, init: Init, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints((out_width, in_width), "weight", init)?;
        let bias = match bias {
            true => Some(vb.get_with_hints(out_width, "bias", by_fan_in(in_width))?),
            false => None,
        };
        Ok(Self { weight, bias })
    }

    /// [.., in] to [.., out].
    ///
    /// # Errors
    /// If the last dimension of `x` is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::linear(x, &self.weight, self.bias.as_ref())
    }

    /// The weight, [out, in].
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, [out].
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

/// A convolution with a bias: [batch, in, height, width] to [batch, out, height', width'].
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    geometry: ConvGeometry,
}

impl Conv2d {
    /// Reads `weight` [out, in, kernel, kernel] and `bias` [out].
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    #[allow(clippy::needless_pass_by_value, reason = "builders are passed by value in candle")]
    pub fn new(
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        geometry: ConvGeometry,
        vb: VarBuilder,
    ) -> Result<Self> {
        let init = by_fan_in(in_channels * kernel * kernel);
        let shape = (out_channels, in_channels, kernel, kernel);
        Ok(Self {
            weight: vb.get_with_hints(shape, "weight", init)?,
            bias: vb.get_with_hints(out_channels, "bias", init)?,
            geometry,
        })
    }

    /// [batch, in, height, width] to [batch, out, height', width'].
    ///
    /// # Errors
    /// If `x` has other channels or is smaller than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::conv2d(x, &self.weight, Some(&self.bias), &self.geometry)
    }

    /// The weight, [out, in, kernel, kernel].
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// Layer normalisation of the last dimension.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both [width].
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    #[allow(clippy::needless_pass_by_value, reason = "builders are passed by value in candle")]
    pub fn new(width: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let (weight, bias) = gain_and_shift(width, &vb)?;
        Ok(Self { weight, bias, eps })
    }

    /// [.., width] to [.., width].
    ///
    /// # Errors
    /// If the last dimension of `x` is not `width`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// Group normalisation of [batch, channels, ..].
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, both [channels].
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    #[allow(clippy::needless_pass_by_value, reason = "builders are passed by value in candle")]
    pub fn new(groups: usize, channels: usize, eps: f64, vb: VarBuilder) -> Result<Self> {
        let (weight, bias) = gain_and_shift(channels, &vb)?;
        Ok(Self { weight, bias, groups, eps })
    }

    /// Same shape as `x`, [batch, channels, ..].
    ///
    /// # Errors
    /// If `x` has other channels or the groups do not divide them.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        crate::group_norm(x, &self.weight, &self.bias, self.groups, self.eps)
    }

    /// [`GroupNorm::forward`] followed by SiLU, in one pass.
    ///
    /// # Errors
    /// As [`GroupNorm::forward`].
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        crate::group_norm_silu(x, &self.weight, &self.bias, self.groups, self.eps)
    }
}

/// A table of vectors.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// Reads `weight` [count, width]; initially normal with deviation 1.
    ///
    /// # Errors
    /// If the tensor is missing or has another shape.
    pub fn new(count: usize, width: usize, vb: VarBuilder) -> Result<Self> {
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        Self::with_init(count, width, init, vb)
    }

    /// As [`Embedding::new`] with another initial distribution.
    ///
    /// # Errors
    /// As [`Embedding::new`].
    #[allow(clippy::needless_pass_by_value, reason = "builders are passed by value in candle")]
    pub fn with_init(count: usize, width: usize, init: Init, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints((count, width), "weight", init)?;
        Ok(Self { weight })
    }

    /// `ids` (u32, any shape) to [ids' shape.., width].
    ///
    /// # Errors
    /// If an id is not below `count`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        crate::embedding(&self.weight, ids)
    }

    /// The table, [count, width].
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// PyTorch's default for linear maps and convolutions: uniform within `1 / sqrt(fan in)`.
fn by_fan_in(fan_in: usize) -> Init {
    let bound = 1.0 / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// `weight` and `bias` of a normalisation.
fn gain_and_shift(width: usize, vb: &VarBuilder) -> Result<(Tensor, Tensor)> {
    Ok((vb.get_with_hints(width, "weight", Init::Const(1.0))?, vb.get_with_hints(width, "bias", Init::Const(0.0))?))
}

macro_rules! module {
    ($($layer:ty),*) => {$(
        impl Module for $layer {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                <$layer>::forward(self, x)
            }
        }
    )*};
}
module!(Linear, Conv2d, LayerNorm, GroupNorm, Embedding);
