//! `tokenizer_config.json`, and other files that say how a `vocab.txt` is to be read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{ImportError, small_file::read_optional};
use crate::text::{BertCleaning, CLS, PAD, SEP, UNK};

/// Tokenizers that split a text as BERT's does.
const PLAIN_CLASSES: [&str; 4] = ["BertTokenizer", "CXRBertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"];

/// What a folder says of its tokenizer; nothing where it has no `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerSettings {
    #[serde(skip)]
    path: PathBuf,
    tokenizer_class: Option<String>,
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    do_basic_tokenize: Option<bool>,
    never_split: Option<Vec<String>>,
    /// A token as text, or an object with its text in `content`.
    pad_token: Option<Value>,
    unk_token: Option<Value>,
    cls_token: Option<Value>,
    sep_token: Option<Value>,
}

impl TokenizerSettings {
    /// Reads a folder's settings, and refuses special tokens of other names than BERT's.
    pub(super) fn read(folder: &Path) -> Result<Self, ImportError> {
        let path = folder.join("tokenizer_config.json");
        let settings = Self { path: path.clone(), ..json_or_default(&path)? };
        for (field, value, expected) in [
            ("pad_token", &settings.pad_token, PAD),
            ("unk_token", &settings.unk_token, UNK),
            ("cls_token", &settings.cls_token, CLS),
            ("sep_token", &settings.sep_token, SEP),
        ] {
            let content = value.as_ref().and_then(|value| value.get("content").unwrap_or(value).as_str());
            if let Some(found) = content.filter(|&found| found != expected) {
                let problem = format!("`{found}` is not supported; expected `{expected}`");
                return Err(ImportError::field(&path, field, problem));
            }
        }
        Ok(settings)
    }

    /// What is done to a text, where these settings say nothing as in `otherwise`.
    pub(super) fn cleaning(&self, otherwise: BertCleaning) -> BertCleaning {
        // Only BERT's own class has these settings: others keep what their `tokenizer.json` says.
        if self.class().is_some_and(|class| !PLAIN_CLASSES.contains(&class)) {
            return otherwise;
        }
        BertCleaning {
            do_lower_case: self.do_lower_case.unwrap_or(otherwise.do_lower_case),
            strip_accents: self.strip_accents.or(otherwise.strip_accents),
            tokenize_chinese_chars: self.tokenize_chinese_chars.unwrap_or(otherwise.tokenize_chinese_chars),
        }
    }

    /// Checks that a `vocab.txt` is all there is to the tokenizer.
    pub(super) fn check_plain_word_pieces(&self) -> Result<(), ImportError> {
        let refuse = |field: &str, problem: String| Err(ImportError::field(&self.path, field, problem));
        if let Some(class) = self.class().filter(|class| !PLAIN_CLASSES.contains(class)) {
            let expected = PLAIN_CLASSES.join(", ");
            return refuse("tokenizer_class", format!("`{class}` needs a tokenizer.json; expected {expected}"));
        }
        if self.do_basic_tokenize == Some(false) {
            return refuse("do_basic_tokenize", "false is not supported; expected true".to_owned());
        }
        match &self.never_split {
            Some(words) if !words.is_empty() => {
                refuse("never_split", format!("{} words are kept whole; expected none", words.len()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that `added_tokens.json` adds nothing to a vocabulary.
    pub(super) fn check_added_tokens(&self, folder: &Path, pieces: &[String]) -> Result<(), ImportError> {
        let path = folder.join("added_tokens.json");
        let added: BTreeMap<String, usize> = json_or_default(&path)?;
        match added.iter().find(|(token, id)| pieces.get(**id) != Some(*token)) {
            Some((token, id)) => {
                let problem = format!("adds `{token}` with id {id} to vocab.txt, which needs a tokenizer.json");
                Err(ImportError::unreadable(&path, problem))
            }
            None => Ok(()),
        }
    }

    fn class(&self) -> Option<&str> {
        self.tokenizer_class.as_deref().map(|class| class.strip_suffix("Fast").unwrap_or(class))
    }
}

fn json_or_default<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ImportError> {
    match read_optional(path)? {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| ImportError::unreadable(path, format!("is not what transformers writes: {error}"))),
        None => Ok(T::default()),
    }
}
