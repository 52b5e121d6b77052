//! One layer of BERT: attention and feed-forward, each followed by a norm over the sum with its input.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::LayerNorm;

use super::config::{Activation, TextEncoderConfig};
use crate::dense::{Dense, DenseInit};

#[derive(Debug, Clone)]
pub(super) struct Layer {
    query: Dense,
    key: Dense,
    value: Dense,
    attention_output: Dense,
    attention_norm: LayerNorm,
    intermediate: Dense,
    output: Dense,
    output_norm: LayerNorm,
    heads: usize,
    activation: Activation,
}

impl Layer {
    pub(super) fn new(config: &TextEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.hidden_size, config.intermediate_size);
        let dense =
            |sizes, name: &str| Dense::new(sizes, true, DenseInit::Normal(config.initializer_range), &vb.pp(name));
        let norm = |name: &str| LayerNorm::new(width, config.layer_norm_eps, vb.pp(name));
        Ok(Self {
            query: dense((width, width), "attention.self.query")?,
            key: dense((width, width), "attention.self.key")?,
            value: dense((width, width), "attention.self.value")?,
            attention_output: dense((width, width), "attention.output.dense")?,
            attention_norm: norm("attention.output.LayerNorm")?,
            intermediate: dense((width, hidden), "intermediate.dense")?,
            output: dense((hidden, width), "output.dense")?,
            output_norm: norm("output.LayerNorm")?,
            heads: config.num_attention_heads,
            activation: config.activation()?,
        })
    }

    /// x [batch, tokens, width]; `key_mask` [batch, tokens] is added to the attention scores.
    pub(super) fn forward(&self, x: &Tensor, key_mask: &Tensor) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        let head_width = width / self.heads;
        let heads = |dense: &Dense| -> Result<Tensor> {
            dense.forward(x)?.reshape((batch, tokens, self.heads, head_width))?.transpose(1, 2)?.contiguous()
        };
        let scale = 1.0 / (head_width as f64).sqrt();
        let mixed = raygen_nn::attention(
            &heads(&self.query)?,
            &heads(&self.key)?,
            &heads(&self.value)?,
            Some(key_mask),
            scale,
        )?;
        let mixed = mixed.transpose(1, 2)?.contiguous()?.reshape((batch, tokens, width))?;
        let x = self.attention_norm.forward(&(x + self.attention_output.forward(&mixed)?)?)?;
        let hidden = self.intermediate.forward(&x)?;
        let hidden = match self.activation {
            Activation::Gelu => raygen_nn::gelu(&hidden)?,
            Activation::GeluTanh => hidden.gelu()?,
        };
        self.output_norm.forward(&(&x + self.output.forward(&hidden)?)?)
    }
}
