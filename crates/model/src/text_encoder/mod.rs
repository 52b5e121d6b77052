//! A BERT whose every tensor can be trained (Devlin et al. 2019); tensor names are Hugging Face's, under `bert.`.

mod config;
mod layer;

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::layers::LayerNorm;

pub use self::config::TextEncoderConfig;
use self::layer::Layer;
use crate::transformer::additive_mask;

/// Turns word pieces into states.
#[derive(Debug, Clone)]
pub struct TextEncoder {
    config: TextEncoderConfig,
    /// [vocab_size, hidden_size]
    words: Tensor,
    /// [max_position_embeddings, hidden_size]
    positions: Tensor,
    /// [type_vocab_size, hidden_size]; a text of ours is of the first type throughout.
    token_types: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

impl TextEncoder {
    /// Builds the network from named tensors.
    ///
    /// # Errors
    /// A configuration that [`TextEncoderConfig::validate`] refuses; a tensor that `vb` lacks or has in another shape.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(config: &TextEncoderConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        let vb = vb.pp("bert");
        let embeddings = vb.pp("embeddings");
        let table = |name: &str, rows: usize| {
            let init = Init::Randn { mean: 0.0, stdev: config.initializer_range };
            embeddings.pp(name).get_with_hints((rows, config.hidden_size), "weight", init)
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(config, &vb.pp("encoder.layer").pp(index)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            token_types: table("token_type_embeddings", config.type_vocab_size)?,
            norm: LayerNorm::new(config.hidden_size, config.layer_norm_eps, embeddings.pp("LayerNorm"))?,
            layers,
            config: config.clone(),
        })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &TextEncoderConfig {
        &self.config
    }

    /// The last hidden state [batch, tokens, hidden_size] of `ids` [batch, tokens] (u32), with `mask` [batch, tokens]
    /// 1 for a word piece and 0 for a pad. Pads get a state too; nothing attends to them.
    ///
    /// # Errors
    /// More tokens than the encoder has positions, ids at or above the vocabulary size, a mask of another shape.
    pub fn forward(&self, ids: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let (batch, tokens) = ids.dims2()?;
        if tokens == 0 || tokens > self.config.max_position_embeddings {
            candle_core::bail!(
                "a text of {tokens} tokens went in; the encoder reads 1 to {}",
                self.config.max_position_embeddings
            );
        }
        if mask.dims() != [batch, tokens] {
            candle_core::bail!("the text mask has shape {:?}; expected {:?}", mask.dims(), [batch, tokens]);
        }
        let key_mask = additive_mask(mask)?;
        let mut x = raygen_nn::embedding(&self.words, ids)?
            .broadcast_add(&self.token_types.narrow(0, 0, 1)?)?
            .broadcast_add(&self.positions.narrow(0, 0, tokens)?)?;
        x = self.norm.forward(&x)?;
        for layer in &self.layers {
            x = layer.forward(&x, &key_mask)?;
        }
        Ok(x)
    }
}
