//! The tokenizer of a bundle.

use std::collections::HashSet;

use tokenizers::Tokenizer;

use super::build::{BertCleaning, bert_tokenizer, vocabulary_of_words};
use super::normalise::words;
use super::{TextConfig, length_class};

pub(crate) const PAD: &str = "[PAD]";
pub(crate) const UNK: &str = "[UNK]";
pub(crate) const CLS: &str = "[CLS]";
pub(crate) const SEP: &str = "[SEP]";

/// A tokenizer that cannot be built, or a text that it cannot read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The tokenizer file is not one.
    #[error("tokenizer.json cannot be read: {0}")]
    Tokenizer(String),
    /// A token that every text needs is not in the vocabulary.
    #[error("the tokenizer's vocabulary has no {token}")]
    SpecialTokenMissing {
        /// The token.
        token: &'static str,
    },
    /// The model leaves no room for a single word.
    #[error("text.max_tokens is {0}, but must be between 3 and 8192")]
    MaxTokens(usize),
    /// The tokenizer gave up on a text.
    #[error("the text cannot be tokenized: {0}")]
    Encode(String),
}

/// A text as the text encoder reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct TextTokens {
    /// Token ids, padded: [CLS], the text, [SEP], pads.
    pub ids: Vec<u32>,
    /// 1 for a token, 0 for a pad; as long as `ids`.
    pub mask: Vec<f32>,
    /// The tokens as text, without pads.
    pub tokens: Vec<String>,
    /// Words that the model was not trained on: each once, in order, normalised.
    pub unsupported_terms: Vec<String>,
    /// Tokens that the whole text has, the two at its ends included and words passed over left out.
    pub full_count: usize,
    /// Whether the text was longer than the model reads, and was cut.
    pub truncated: bool,
}

impl TextTokens {
    /// Whether nothing is left of the text: the null condition.
    pub fn is_null(&self) -> bool {
        self.full_count == 2
    }
}

/// Turns texts into token ids.
#[derive(Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    config: TextConfig,
    known_words: HashSet<String>,
    pad: u32,
    cls: u32,
    sep: u32,
}

impl TextTokenizer {
    /// From the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// The file is not a tokenizer, or its vocabulary lacks `[PAD]`, `[CLS]` or `[SEP]`.
    pub fn from_json(bytes: &[u8], config: &TextConfig) -> Result<Self, TextError> {
        let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        Self::new(tokenizer, config)
    }

    /// From the text of an uncased BERT's `vocab.txt`.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_vocabulary(text: &str, config: &TextConfig) -> Result<Self, TextError> {
        Self::new(bert_tokenizer(text, BertCleaning::default())?, config)
    }

    /// From the words of training captions (whole captions do as well). Words outside are spelt letter by letter.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn from_words<I, S>(texts: I, config: &TextConfig) -> Result<Self, TextError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        Self::new(bert_tokenizer(&vocabulary_of_words(texts), BertCleaning::default())?, config)
    }

    fn new(mut tokenizer: Tokenizer, config: &TextConfig) -> Result<Self, TextError> {
        if !(3..=8192).contains(&config.max_tokens) {
            return Err(TextError::MaxTokens(config.max_tokens));
        }
        // Length is our business, and "[MASK]" in a text is five letters and two brackets.
        tokenizer.with_truncation(None).map_err(|error| TextError::Tokenizer(error.to_string()))?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(true);
        let id_of = |token: &'static str| tokenizer.token_to_id(token).ok_or(TextError::SpecialTokenMissing { token });
        let (pad, cls, sep) = (id_of(PAD)?, id_of(CLS)?, id_of(SEP)?);
        let known_words = config.known_words.iter().flat_map(|text| words(text)).collect();
        Ok(Self { tokenizer, config: config.clone(), known_words, pad, cls, sep })
    }

    /// The `tokenizer.json` of this tokenizer.
    ///
    /// # Errors
    /// The tokenizer cannot be serialised.
    pub fn to_json(&self) -> Result<String, TextError> {
        self.tokenizer.to_string(true).map_err(|error| TextError::Tokenizer(error.to_string()))
    }

    /// Ids in the vocabulary: rows that the text encoder's table needs.
    pub fn vocabulary_size(&self) -> usize {
        // Ids may have holes; the table goes up to the largest.
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |largest| largest as usize + 1)
    }

    /// Whether nothing is left of a text to condition on: only blanks, control characters or, under the plain
    /// normaliser, punctuation.
    pub fn is_blank(&self, text: &str) -> bool {
        let nothing = |character: char| character.is_whitespace() || character.is_control();
        self.config.normaliser.apply(text).chars().all(nothing)
    }

    /// Tokenizes one text. The empty text is the null condition. Texts too long are cut, and say so.
    ///
    /// # Errors
    /// The tokenizer gave up.
    pub fn tokenize(&self, text: &str) -> Result<TextTokens, TextError> {
        let normalised = if self.config.pass_over_unknown_words && !self.known_words.is_empty() {
            let known: Vec<String> = words(text).into_iter().filter(|word| self.known_words.contains(word)).collect();
            known.join(" ")
        } else {
            self.config.normaliser.apply(text)
        };
        let encoding =
            self.tokenizer.encode_fast(normalised, false).map_err(|error| TextError::Encode(error.to_string()))?;
        let inner = encoding.get_ids();
        let full_count = inner.len() + 2;
        let kept = inner.len().min(self.config.max_tokens - 2);

        let mut ids = Vec::with_capacity(kept + 2);
        ids.push(self.cls);
        ids.extend_from_slice(&inner[..kept]);
        ids.push(self.sep);
        let tokens = ids.iter().map(|&id| self.tokenizer.id_to_token(id).unwrap_or_default()).collect();
        let count = ids.len();
        let length = if self.config.pad_to_maximum {
            self.config.max_tokens
        } else {
            length_class(count, self.config.max_tokens)
        };
        let mut mask = vec![1.0; count];
        ids.resize(length, self.pad);
        mask.resize(length, 0.0);
        Ok(TextTokens {
            ids,
            mask,
            tokens,
            unsupported_terms: self.unsupported_terms(text),
            full_count,
            truncated: kept < inner.len(),
        })
    }

    /// The words of a text that are in none of the training captions: each once, in order.
    fn unsupported_terms(&self, text: &str) -> Vec<String> {
        let mut unsupported = Vec::new();
        if self.known_words.is_empty() {
            return unsupported;
        }
        let mut seen = HashSet::new();
        for word in words(text) {
            if !self.known_words.contains(&word) && seen.insert(word.clone()) {
                unsupported.push(word);
            }
        }
        unsupported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nsmall\nleft\npneumothorax\n.\n##s\n[\n]\nmask\n";

    fn of_words() -> TextTokenizer {
        let config =
            TextConfig { known_words: vec!["small left pleural effusion".to_owned()], ..TextConfig::plain(16) };
        TextTokenizer::from_words(["small left pleural effusion"], &config).unwrap()
    }

    #[test]
    fn known_words_are_one_token_and_others_are_spelt() {
        let tokens = of_words().tokenize("Small effusion, CT").unwrap();
        assert_eq!(tokens.tokens, ["[CLS]", "small", "effusion", "c", "##t", "[SEP]"]);
        assert_eq!(tokens.ids.len(), 8);
        assert_eq!(tokens.mask, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0]);
        assert_eq!(tokens.ids[6..], [0, 0]);
    }

    #[test]
    fn words_outside_training_are_passed_over_where_the_model_asks_for_it_and_still_told() {
        let mut config = TextConfig { known_words: vec!["left effusion".to_owned()], ..TextConfig::plain(16) };
        config.pass_over_unknown_words = true;
        let tokenizer = TextTokenizer::from_words(["left effusion"], &config).unwrap();
        let tokens = tokenizer.tokenize("Large left-sided effusion").unwrap();
        assert_eq!(tokens.tokens, ["[CLS]", "left", "effusion", "[SEP]"]);
        assert_eq!(tokens.unsupported_terms, ["large", "sided"]);
        assert!(tokenizer.tokenize("Large").unwrap().is_null());
    }

    #[test]
    fn no_input_fails() {
        let tokenizer = of_words();
        let long = "x".repeat(100_000);
        for text in ["", "\0\0", "漢字", "🩻", "e\u{301}", "\u{301}", "مرحبا", "[MASK] <s>", long.as_str()] {
            let tokens = tokenizer.tokenize(text).unwrap();
            assert_eq!(tokens.ids.len(), tokens.mask.len());
            assert!(tokens.ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_size()));
        }
    }

    #[test]
    fn special_token_literals_in_a_text_are_plain_text() {
        let published = TextTokenizer::from_vocabulary(VOCABULARY, &TextConfig::published(16)).unwrap();
        for text in ["[MASK]", "[SEP] [CLS] [PAD]", "small[MASK]"] {
            let tokens = published.tokenize(text).unwrap();
            let inner = &tokens.ids[1..tokens.tokens.len() - 1];
            assert!(inner.iter().all(|id| ![0, 2, 3, 4].contains(id)), "{text}: {:?}", tokens.tokens);
        }
    }

    #[test]
    fn published_text_is_padded_to_the_maximum_and_split_as_bert_does() {
        let published = TextTokenizer::from_vocabulary(VOCABULARY, &TextConfig::published(16)).unwrap();
        let tokens = published.tokenize("Small LEFT pneumothoraxs.").unwrap();
        assert_eq!(tokens.tokens, ["[CLS]", "small", "left", "pneumothorax", "##s", ".", "[SEP]"]);
        assert_eq!(tokens.ids.len(), 16);
        assert!(tokens.unsupported_terms.is_empty(), "nothing is known of the captions");
    }

    #[test]
    fn long_texts_are_cut_and_say_so() {
        let tokens = of_words().tokenize(&"small ".repeat(40)).unwrap();
        assert!(tokens.truncated);
        assert_eq!(tokens.full_count, 42);
        assert_eq!(tokens.ids.len(), 16);
        assert_eq!(tokens.tokens.last().map(String::as_str), Some("[SEP]"));
        let short = of_words().tokenize(&"small ".repeat(14)).unwrap();
        assert!(!short.truncated);
    }

    #[test]
    fn words_outside_the_captions_come_back_once_and_in_order() {
        let tokens = of_words().tokenize("Tumour, small LEFT tumour and nodule").unwrap();
        assert_eq!(tokens.unsupported_terms, ["tumour", "and", "nodule"]);
    }

    #[test]
    fn unknown_words_are_passed_over_where_the_model_asks_for_it() {
        let config = TextConfig {
            known_words: vec!["small left pleural effusion".to_owned()],
            pass_over_unknown_words: true,
            ..TextConfig::plain(16)
        };
        let tokenizer = TextTokenizer::from_words(["small left pleural effusion"], &config).unwrap();
        let tokens = tokenizer.tokenize("Enormous LEFT effusion!").unwrap();
        assert_eq!(tokens.tokens, ["[CLS]", "left", "effusion", "[SEP]"]);
        assert_eq!(tokens.unsupported_terms, ["enormous"]);
        assert!(tokenizer.tokenize("fractured rib").unwrap().is_null(), "nothing that it knows is left");
    }

    #[test]
    fn the_empty_text_is_the_null_condition_and_blank() {
        let tokenizer = of_words();
        assert!(tokenizer.tokenize("").unwrap().is_null());
        for blank in ["", "  \n", "\0\u{7}", "?!..."] {
            assert!(tokenizer.is_blank(blank), "{blank:?}");
        }
        assert!(!tokenizer.is_blank("a"));
    }

    #[test]
    fn a_tokenizer_survives_its_file() {
        let tokenizer = of_words();
        let read = TextTokenizer::from_json(tokenizer.to_json().unwrap().as_bytes(), &TextConfig::plain(16)).unwrap();
        let text = "left pleural effusion, larger";
        assert_eq!(read.tokenize(text).unwrap().ids, tokenizer.tokenize(text).unwrap().ids);
        assert_eq!(read.vocabulary_size(), tokenizer.vocabulary_size());
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_an_error() {
        let config = TextConfig::plain(16);
        assert!(matches!(TextTokenizer::from_json(b"{}", &config), Err(TextError::Tokenizer(_))));
        let missing = TextTokenizer::from_vocabulary("[PAD]\n[UNK]\n[SEP]\n", &config);
        assert!(matches!(missing, Err(TextError::SpecialTokenMissing { token: "[CLS]" })));
    }
}
