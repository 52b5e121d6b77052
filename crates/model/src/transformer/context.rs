//! A text as the decoder layers see it: keys and values, computed once per text.

use candle_core::{DType, Result, Tensor};

/// Cross-attention keys and values of a batch of texts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Keys and values of every layer, each [batch, heads, tokens, head width].
    pub layers: Vec<(Tensor, Tensor)>,
    /// Added to the attention scores: 0 for a word piece, -1e9 for a pad; [batch, tokens]. None: all tokens count.
    pub key_mask: Option<Tensor>,
}

impl Context {
    /// Joins contexts along the batch. All must come from one model and have the same number of text tokens.
    ///
    /// # Errors
    /// No context at all; different layers, text lengths or masking.
    pub fn stack(contexts: &[&Self]) -> Result<Self> {
        let Some(first) = contexts.first() else {
            candle_core::bail!("no context to stack");
        };
        if contexts.iter().any(|other| {
            other.layers.len() != first.layers.len() || other.key_mask.is_some() != first.key_mask.is_some()
        }) {
            candle_core::bail!("contexts of different models can't be stacked");
        }
        if contexts.len() == 1 {
            return Ok((*first).clone());
        }
        let layers = (0..first.layers.len())
            .map(|layer| {
                let pick = |part: fn(&(Tensor, Tensor)) -> &Tensor| -> Vec<&Tensor> {
                    contexts.iter().filter_map(|context| context.layers.get(layer)).map(part).collect()
                };
                Ok((Tensor::cat(&pick(|pair| &pair.0), 0)?, Tensor::cat(&pick(|pair| &pair.1), 0)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let masks: Vec<&Tensor> = contexts.iter().filter_map(|context| context.key_mask.as_ref()).collect();
        let key_mask = if masks.is_empty() { None } else { Some(Tensor::cat(&masks, 0)?) };
        Ok(Self { layers, key_mask })
    }

    /// Number of texts.
    ///
    /// # Errors
    /// A context without layers.
    pub fn batch(&self) -> Result<usize> {
        match self.layers.first() {
            Some((keys, _)) => keys.dim(0),
            None => candle_core::bail!("a context without layers"),
        }
    }

    /// Number of tokens of every text, pads included.
    ///
    /// # Errors
    /// A context without layers.
    pub fn tokens(&self) -> Result<usize> {
        match self.layers.first() {
            Some((keys, _)) => keys.dim(2),
            None => candle_core::bail!("a context without layers"),
        }
    }

    /// Checks that the context fits a batch and a number of layers.
    pub(super) fn check(&self, batch: usize, layers: usize) -> Result<()> {
        if self.layers.len() != layers || self.batch()? != batch {
            candle_core::bail!(
                "a context of {} layers for {} texts met {layers} layers and {batch} grids",
                self.layers.len(),
                self.batch()?
            );
        }
        Ok(())
    }
}

/// A mask of ones (word pieces) and zeros (pads) as what is added to attention scores.
pub(crate) fn additive_mask(mask: &Tensor) -> Result<Tensor> {
    mask.to_dtype(DType::F32)?.affine(1e9, -1e9)
}
