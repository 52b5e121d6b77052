//! Building a BERT WordPiece tokenizer: from `vocab.txt`, or from a list of words.

use std::collections::BTreeSet;

use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{Tokenizer, decoders};

use super::normalise::words;
use super::tokenizer::{CLS, PAD, SEP, TextError, UNK};

/// Special tokens in the order of their ids.
const SPECIAL: [&str; 5] = [PAD, UNK, CLS, SEP, "[MASK]"];

/// What is done to a text before its word pieces are looked up, by the names of `tokenizer_config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BertCleaning {
    /// Lower case; false for a cased vocabulary.
    pub(crate) do_lower_case: bool,
    /// Accents are taken off their letters; none means where `do_lower_case` is true.
    pub(crate) strip_accents: Option<bool>,
    /// Every Chinese character is a word.
    pub(crate) tokenize_chinese_chars: bool,
}

impl Default for BertCleaning {
    fn default() -> Self {
        Self { do_lower_case: true, strip_accents: None, tokenize_chinese_chars: true }
    }
}

impl BertCleaning {
    /// What a normaliser of a `tokenizer.json` does.
    pub(crate) fn of(normaliser: &BertNormalizer) -> Self {
        Self {
            do_lower_case: normaliser.lowercase,
            strip_accents: normaliser.strip_accents,
            tokenize_chinese_chars: normaliser.handle_chinese_chars,
        }
    }

    /// The normaliser that does this.
    pub(crate) fn normaliser(self) -> BertNormalizer {
        BertNormalizer::new(true, self.tokenize_chinese_chars, self.strip_accents, self.do_lower_case)
    }
}

/// The `vocab.txt` of a word list: special tokens, letters and digits alone and as continuations, then the words in
/// alphabetical order. Any word of a-z and 0-9 can be spelt with it.
pub(super) fn vocabulary_of_words<I, S>(texts: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<str>,
{
    let characters = || ('a'..='z').chain('0'..='9');
    let mut vocabulary: Vec<String> = SPECIAL.iter().map(|token| (*token).to_owned()).collect();
    vocabulary.extend(characters().map(String::from));
    vocabulary.extend(characters().map(|character| format!("##{character}")));
    let single: BTreeSet<String> = characters().map(String::from).collect();
    let known: BTreeSet<String> = texts.into_iter().flat_map(|text| words(text.as_ref())).collect();
    vocabulary.extend(known.difference(&single).cloned());
    vocabulary.join("\n")
}

/// A BERT tokenizer (cleaned text, punctuation apart) over a `vocab.txt`: one token a line, the line number is the id.
pub(crate) fn bert_tokenizer(vocabulary: &str, cleaning: BertCleaning) -> Result<Tokenizer, TextError> {
    let failed = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
    let ids = WordPiece::read_bytes(vocabulary.as_bytes()).map_err(failed)?;
    let id_of = |token: &'static str| ids.get(token).copied().ok_or(TextError::SpecialTokenMissing { token });
    let (cls, sep) = (id_of(CLS)?, id_of(SEP)?);
    id_of(UNK)?;
    let model = WordPiece::builder()
        .vocab(ids)
        .unk_token(UNK.to_owned())
        .continuing_subword_prefix("##".to_owned())
        .max_input_chars_per_word(100)
        .build()
        .map_err(failed)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(cleaning.normaliser())).map_err(failed)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new((SEP.to_owned(), sep), (CLS.to_owned(), cls))));
    tokenizer.with_decoder(Some(decoders::wordpiece::WordPiece::default()));
    Ok(tokenizer)
}
