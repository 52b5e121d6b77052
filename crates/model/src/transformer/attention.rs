//! Multi-head attention with the packed weights of PyTorch's `nn.MultiheadAttention`.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::{Dropout, attention_with_dropout};

use crate::dense::{Dense, DenseInit};

/// Added to the mean square in QK-norm.
const QK_NORM_EPS: f64 = 1e-6;

/// Self- or cross-attention. Rows of the packed weight are ordered query, key, value.
#[derive(Debug, Clone)]
pub(super) struct MultiHeadAttention {
    /// [3 · width, width]
    in_proj_weight: Tensor,
    /// [3 · width]
    in_proj_bias: Tensor,
    out_proj: Dense,
    /// Learned gains of the queries' and the keys' root-mean-square norm, [head width] each.
    qk_norm: Option<(Tensor, Tensor)>,
    width: usize,
    heads: usize,
}

/// What the two variants do differently.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionStyle {
    /// Whether queries and keys are normalised per head.
    pub(super) qk_norm: bool,
    /// How the output projection starts.
    pub(super) output_init: DenseInit,
}

/// A third of the packed projection.
#[derive(Clone, Copy)]
enum Part {
    Query,
    Key,
    Value,
}

impl MultiHeadAttention {
    pub(super) fn new(width: usize, heads: usize, style: AttentionStyle, vb: &VarBuilder<'_>) -> Result<Self> {
        // PyTorch's Xavier bound for the packed matrix: fan-in `width`, fan-out 3 · `width`.
        let bound = (6.0 / (4 * width) as f64).sqrt();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let gain = |name: &str| vb.pp(name).get_with_hints(width / heads, "weight", Init::Const(1.0));
        Ok(Self {
            in_proj_weight: vb.get_with_hints((3 * width, width), "in_proj_weight", uniform)?,
            in_proj_bias: vb.get_with_hints(3 * width, "in_proj_bias", Init::Const(0.0))?,
            out_proj: Dense::new((width, width), true, style.output_init, &vb.pp("out_proj"))?,
            qk_norm: if style.qk_norm { Some((gain("q_norm")?, gain("k_norm")?)) } else { None },
            width,
            heads,
        })
    }

    /// x [batch, positions, width] attends to itself.
    pub(super) fn attend_to_self(&self, x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
        let (keys, values) = self.keys_values(x)?;
        self.attend(x, &keys, &values, None, dropout)
    }

    /// Keys and values of a source [batch, tokens, width], each [batch, heads, tokens, head width].
    pub(super) fn keys_values(&self, source: &Tensor) -> Result<(Tensor, Tensor)> {
        let keys = self.project(source, Part::Key)?;
        let keys = match &self.qk_norm {
            Some((_, gain)) => raygen_nn::rms_norm(&keys, gain, QK_NORM_EPS)?,
            None => keys,
        };
        Ok((keys, self.project(source, Part::Value)?))
    }

    /// x [batch, positions, width] attends to keys and values; `key_mask` [batch, tokens] is added to the scores.
    pub(super) fn attend(
        &self,
        x: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        key_mask: Option<&Tensor>,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let (batch, positions, _) = x.dims3()?;
        let queries = self.project(x, Part::Query)?;
        let queries = match &self.qk_norm {
            Some((gain, _)) => raygen_nn::rms_norm(&queries, gain, QK_NORM_EPS)?,
            None => queries,
        };
        let scale = 1.0 / ((self.width / self.heads) as f64).sqrt();
        let mixed = match dropout {
            Some(dropout) => attention_with_dropout(&queries, keys, values, key_mask, scale, dropout)?,
            None => raygen_nn::attention(&queries, keys, values, key_mask, scale)?,
        };
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((batch, positions, self.width))?;
        self.out_proj.forward(&mixed)
    }

    /// [batch, tokens, width] to [batch, heads, tokens, head width].
    fn project(&self, x: &Tensor, part: Part) -> Result<Tensor> {
        let (batch, tokens, _) = x.dims3()?;
        let first_row = self.width * part as usize;
        // Rows of a contiguous matrix: views, nothing is copied, and the gradient lands in the packed tensor.
        let weight = self.in_proj_weight.narrow(0, first_row, self.width)?;
        let bias = self.in_proj_bias.narrow(0, first_row, self.width)?;
        let heads = raygen_nn::linear(x, &weight, Some(&bias))?;
        heads.reshape((batch, tokens, self.heads, self.width / self.heads))?.transpose(1, 2)?.contiguous()
    }
}
