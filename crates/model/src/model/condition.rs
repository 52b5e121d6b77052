//! Text to what the transformer reads of it.

use candle_core::{DType, Tensor};

use crate::text::TextTokens;
use crate::transformer::{Context, View};

use super::{Model, ModelError};

/// A text as the transformer sees it: cross-attention keys and values, computed once. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Condition {
    pub(super) context: Context,
    /// Padded length of the text: rows of one length share a forward.
    pub(super) tokens: usize,
    /// The view that was asked for.
    pub(super) view: Option<View>,
}

impl Condition {
    /// Padded length of the text, in tokens.
    pub fn token_count(&self) -> usize {
        self.tokens
    }
}

/// Features of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Number of text tokens, without pads.
    pub token_count: usize,
    /// Features of each.
    pub width: usize,
    /// `token_count * width` values, row-major.
    pub values: Vec<f32>,
}

impl Model {
    /// Tokenizes an impression. The empty text is the null condition; texts too long are cut, and say so.
    ///
    /// # Errors
    /// The model has no text encoder, or the tokenizer gave up.
    pub fn tokenize(&self, text: &str) -> Result<TextTokens, ModelError> {
        Ok(self.tokenizer()?.tokenize(text)?)
    }

    /// What the transformer reads of a text, for a picture of the model's default view.
    ///
    /// # Errors
    /// The model has no text encoder or no transformer, or the computation failed.
    pub fn condition(&self, text: &TextTokens) -> Result<Condition, ModelError> {
        self.condition_of_view(text, None)
    }

    /// The same for a picture of `view`; without one, of the model's default.
    ///
    /// # Errors
    /// As [`Self::condition`]; the model was not trained on films of this view, or knows no views at all.
    pub fn condition_of_view(&self, text: &TextTokens, view: Option<View>) -> Result<Condition, ModelError> {
        let transformer = self.transformer()?;
        if let Some(view) = view
            && !self.info.knows_view(view)
        {
            return Err(ModelError::UnknownView { view, trained: self.info.views.clone() });
        }
        let (features, mask) = self.features(text)?;
        let context = transformer.context_of_views(&features, &mask, &[view])?;
        Ok(Condition { context, tokens: text.ids.len(), view })
    }

    /// The condition of the empty text, computed once.
    ///
    /// # Errors
    /// As [`Self::condition`].
    pub fn null_condition(&self) -> Result<Condition, ModelError> {
        self.null_condition_of_view(None)
    }

    /// The same for a picture of `view`, computed once for each: guidance moves away from the empty text, not from the view.
    ///
    /// # Errors
    /// As [`Self::condition_of_view`].
    pub fn null_condition_of_view(&self, view: Option<View>) -> Result<Condition, ModelError> {
        let place = view.map_or(0, |view| view.index() as usize + 1);
        if let Some(condition) = self.null[place].get() {
            return Ok(condition.clone());
        }
        let condition = self.condition_of_view(&self.tokenize("")?, view)?;
        Ok(self.null[place].get_or_init(|| condition).clone())
    }

    /// The text encoder's last hidden state, without pads.
    ///
    /// # Errors
    /// The model has no text encoder, or the computation failed.
    pub fn embed_text(&self, text: &TextTokens) -> Result<Embedding, ModelError> {
        let (features, _) = self.features(text)?;
        let (_, _, width) = features.dims3()?;
        let token_count = text.tokens.len();
        let values = features.narrow(1, 0, token_count)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Embedding { token_count, width, values })
    }

    /// Last hidden state [1, tokens, width] and mask [1, tokens] of one text. Texts are encoded one at a time: what
    /// stands beside a text must not matter, on any device.
    fn features(&self, text: &TextTokens) -> Result<(Tensor, Tensor), ModelError> {
        let (tokenizer, encoder) = self.text()?;
        let (found, limit) = (text.ids.len(), self.info.max_text_tokens);
        if found == 0 || found > limit || text.mask.len() != found {
            return Err(ModelError::TextLength { found, limit });
        }
        let vocabulary = encoder.config().vocab_size.max(tokenizer.vocabulary_size()) as u32;
        if let Some(position) = text.ids.iter().position(|&id| id >= vocabulary) {
            return Err(ModelError::IdOutOfRange { id: text.ids[position], position, limit: vocabulary });
        }
        let ids = Tensor::new(text.ids.as_slice(), &self.device)?.unsqueeze(0)?;
        let mask = Tensor::new(text.mask.as_slice(), &self.device)?.unsqueeze(0)?;
        Ok((encoder.forward(&ids, &mask)?, mask))
    }
}
