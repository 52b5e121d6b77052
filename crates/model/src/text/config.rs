//! The `text` part of a bundle's configuration.

use serde::{Deserialize, Serialize};

use super::Normaliser;

/// How a model reads text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// What is done to the text before the tokenizer sees it.
    #[serde(default)]
    pub normaliser: Normaliser,
    /// Longest text in tokens, the two at its ends included.
    pub max_tokens: usize,
    /// Pad every text to `max_tokens`, as the published model does, instead of to its length class.
    #[serde(default)]
    pub pad_to_maximum: bool,
    /// Findings that the model was trained on, for people.
    #[serde(default)]
    pub supported_terms: Vec<String>,
    /// All words of the training captions. Words outside come back as unsupported; empty means that it is not known.
    #[serde(default)]
    pub known_words: Vec<String>,
    /// Leave words outside `known_words` out before the text is tokenized: their pieces have vectors that training never
    /// touched, which would steer the picture at random. They still come back as unsupported.
    #[serde(default)]
    pub pass_over_unknown_words: bool,
    /// Whether texts were dropped in training, so that guidance works.
    #[serde(default)]
    pub condition_dropout: bool,
}

impl TextConfig {
    /// A plain normaliser and `max_tokens`; nothing known of the captions.
    pub fn plain(max_tokens: usize) -> Self {
        Self {
            normaliser: Normaliser::Plain,
            max_tokens,
            pad_to_maximum: false,
            supported_terms: Vec::new(),
            known_words: Vec::new(),
            pass_over_unknown_words: false,
            condition_dropout: false,
        }
    }

    /// What the published model does: no normaliser of its own, every text padded to `max_tokens`.
    pub fn published(max_tokens: usize) -> Self {
        Self { normaliser: Normaliser::None, pad_to_maximum: true, ..Self::plain(max_tokens) }
    }
}
