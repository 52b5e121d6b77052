//! Impressions in, token ids out: normalising, WordPiece, and padding to lengths that never depend on neighbours.

mod build;
mod config;
mod normalise;
mod tokenizer;

pub(crate) use build::{BertCleaning, bert_tokenizer};
pub use config::TextConfig;
pub use normalise::Normaliser;
pub(crate) use tokenizer::{CLS, PAD, SEP, UNK};
pub use tokenizer::{TextError, TextTokenizer, TextTokens};

/// Lengths that texts are padded to, up to the model's own maximum. A text's length is the shortest that holds it.
pub const LENGTH_CLASSES: [usize; 6] = [8, 16, 32, 64, 128, 256];

/// The padded length of a text of `tokens` tokens in a model that reads at most `maximum`.
pub fn length_class(tokens: usize, maximum: usize) -> usize {
    LENGTH_CLASSES.into_iter().find(|&length| length >= tokens).unwrap_or(maximum).min(maximum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_padded_to_the_shortest_class_that_holds_it() {
        assert_eq!(length_class(2, 64), 8);
        assert_eq!(length_class(8, 64), 8);
        assert_eq!(length_class(9, 64), 16);
        assert_eq!(length_class(33, 40), 40);
        assert_eq!(length_class(500, 256), 256);
        assert_eq!(length_class(300, 512), 512);
    }
}
