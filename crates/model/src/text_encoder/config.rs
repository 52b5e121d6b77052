//! The shape of a BERT, as Hugging Face's `config.json` gives it.

use serde::{Deserialize, Serialize};

use crate::config::{InvalidConfig, check_divides, check_layers, check_size};

/// Configuration of a [`TextEncoder`](super::TextEncoder). Fields of `config.json` that say nothing about the
/// computation (dropout, labels, generation) are passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextEncoderConfig {
    /// Number of word pieces.
    pub vocab_size: usize,
    /// Width of the states.
    pub hidden_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Width between the two dense layers of a feed-forward block.
    pub intermediate_size: usize,
    /// Most tokens of a text.
    pub max_position_embeddings: usize,
    /// Number of token types; only the first is used.
    #[serde(default = "two")]
    pub type_vocab_size: usize,
    /// Added to the variance in every layer norm.
    #[serde(default = "published_eps")]
    pub layer_norm_eps: f64,
    /// Activation: `gelu` (the exact one), or `gelu_new` or `gelu_pytorch_tanh` (its approximation with a tanh).
    #[serde(default = "gelu")]
    pub hidden_act: String,
    /// Kind of position embedding; `absolute` is the only one here.
    #[serde(default = "absolute")]
    pub position_embedding_type: String,
    /// Word piece that fills a text up.
    #[serde(default)]
    pub pad_token_id: u32,
    /// Standard deviation of fresh weights.
    #[serde(default = "published_initializer_range")]
    pub initializer_range: f64,
}

/// What stands between the two dense layers of a feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activation {
    Gelu,
    GeluTanh,
}

fn two() -> usize {
    2
}

fn published_eps() -> f64 {
    1e-12
}

fn published_initializer_range() -> f64 {
    0.02
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn absolute() -> String {
    "absolute".to_owned()
}

impl TextEncoderConfig {
    /// Checks what can be told without tensors.
    ///
    /// # Errors
    /// Names the first field from which no network can be built, or that asks for something not supported.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check_size("vocab_size", self.vocab_size)?;
        check_size("hidden_size", self.hidden_size)?;
        check_layers("num_hidden_layers", self.num_hidden_layers)?;
        check_divides("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads)?;
        check_size("intermediate_size", self.intermediate_size)?;
        check_size("max_position_embeddings", self.max_position_embeddings)?;
        check_size("type_vocab_size", self.type_vocab_size)?;
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(InvalidConfig::new("layer_norm_eps", "must be above 0"));
        }
        if !(self.initializer_range.is_finite() && self.initializer_range > 0.0) {
            return Err(InvalidConfig::new("initializer_range", "must be above 0"));
        }
        self.activation()?;
        if self.position_embedding_type != "absolute" {
            let problem = format!("`{}` is not supported; only `absolute` is", self.position_embedding_type);
            return Err(InvalidConfig::new("position_embedding_type", problem));
        }
        Ok(())
    }
    pub(super) fn activation(&self) -> Result<Activation, InvalidConfig> {
        match self.hidden_act.as_str() {
            "gelu" => Ok(Activation::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
            other => {
                let problem = format!("`{other}` is not supported; expected gelu, gelu_new or gelu_pytorch_tanh");
                Err(InvalidConfig::new("hidden_act", problem))
            }
        }
    }
}
