//! The tokenizer of a BERT folder: `tokenizer.json`, or `vocab.txt` and what `tokenizer_config.json` says of it.

use std::{collections::HashMap, path::Path, str::FromStr};

use tokenizers::{NormalizerWrapper, Tokenizer};

use super::{ImportError, folder::absent, settings::TokenizerSettings, small_file::read_optional};
use crate::text::{BertCleaning, CLS, PAD, SEP, UNK, bert_tokenizer};

/// Tokenizer files in the order in which they are looked for.
const TOKENIZER_FILES: [&str; 2] = ["tokenizer.json", "vocab.txt"];
/// Tokenizers of other kinds, to say what was found instead.
const FOREIGN_TOKENIZER_FILES: [&str; 4] = ["vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model"];

/// A tokenizer that agrees with its encoder.
pub(super) struct FolderTokenizer {
    /// The text of a `tokenizer.json`.
    pub(super) json: String,
    /// Word pieces in the order of their ids.
    pub(super) vocabulary: Vec<String>,
    /// What a person should know.
    pub(super) notices: Vec<String>,
}

/// Reads and checks the tokenizer of a folder whose encoder has `rows` word vectors, as `config` says.
pub(super) fn read(folder: &Path, config: &Path, rows: usize) -> Result<FolderTokenizer, ImportError> {
    let settings = TokenizerSettings::read(folder)?;
    let [json, vocabulary] = TOKENIZER_FILES.map(|name| folder.join(name));
    let lines = read_optional(&vocabulary)?.map(|text| pieces_of(&text));
    let (path, tokenizer) = match (read_optional(&json)?, &lines) {
        (Some(text), lines) => {
            let read = from_json(&json, text, &settings)?;
            if let Some(lines) = lines {
                check_same(&json, &read.tokenizer, &vocabulary, lines)?;
            }
            (json, read)
        }
        (None, Some(lines)) => {
            let read = from_vocabulary(&vocabulary, lines, &settings, folder)?;
            (vocabulary, read)
        }
        (None, None) => return Err(absent(folder, &TOKENIZER_FILES, &FOREIGN_TOKENIZER_FILES)),
    };
    let Read { json, tokenizer, mut notices } = tokenizer;
    check_ends(&path, tokenizer.clone())?;
    let vocabulary = vocabulary_of(&path, &tokenizer, config, rows)?;
    let found = vocabulary.len();
    if found < rows {
        let spare = rows - found;
        notices.push(format!(
            "{}: has {found} ids; {spare} of the embedding's {rows} rows are never read",
            path.display()
        ));
    }
    Ok(FolderTokenizer { json, vocabulary, notices })
}

/// A tokenizer and its text.
struct Read {
    json: String,
    tokenizer: Tokenizer,
    notices: Vec<String>,
}

fn from_json(path: &Path, text: String, settings: &TokenizerSettings) -> Result<Read, ImportError> {
    let wrong = |error: tokenizers::Error| {
        ImportError::unreadable(path, format!("is not a tokenizer of Hugging Face's tokenizers: {error}"))
    };
    let mut tokenizer = Tokenizer::from_str(&text).map_err(wrong)?;
    let Some(NormalizerWrapper::BertNormalizer(normaliser)) = tokenizer.get_normalizer() else {
        return Ok(Read { json: text, tokenizer, notices: Vec::new() });
    };
    let found = BertCleaning::of(normaliser);
    let wanted = settings.cleaning(found);
    if wanted == found {
        return Ok(Read { json: text, tokenizer, notices: Vec::new() });
    }
    // transformers does so too: what the settings say comes before what the tokenizer was saved with.
    tokenizer.with_normalizer(Some(wanted.normaliser())).map_err(wrong)?;
    let json = tokenizer.to_string(true).map_err(wrong)?;
    let notice = format!("{}: changed from {found:?} to {wanted:?}, as tokenizer_config.json says", path.display());
    Ok(Read { json, tokenizer, notices: vec![notice] })
}

fn from_vocabulary(
    path: &Path,
    pieces: &[String],
    settings: &TokenizerSettings,
    folder: &Path,
) -> Result<Read, ImportError> {
    settings.check_plain_word_pieces()?;
    settings.check_added_tokens(folder, pieces)?;
    let wrong = |error: String| ImportError::unreadable(path, error);
    let cleaning = settings.cleaning(BertCleaning::default());
    let tokenizer = bert_tokenizer(&pieces.join("\n"), cleaning).map_err(|error| wrong(error.to_string()))?;
    let json = tokenizer.to_string(true).map_err(|error| wrong(error.to_string()))?;
    Ok(Read { json, tokenizer, notices: Vec::new() })
}

/// The lines of a `vocab.txt`, without empty ones at its end.
fn pieces_of(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = text.lines().map(str::to_owned).collect();
    while pieces.last().is_some_and(String::is_empty) {
        pieces.pop();
    }
    pieces
}

/// Two tokenizer files in a folder must be the same tokenizer: which of them the encoder learnt with can't be told.
fn check_same(json: &Path, tokenizer: &Tokenizer, vocabulary: &Path, pieces: &[String]) -> Result<(), ImportError> {
    // A piece that stands twice has its last line's number.
    let ids: HashMap<&String, usize> = pieces.iter().enumerate().map(|(id, piece)| (piece, id)).collect();
    for (id, piece) in pieces.iter().enumerate().filter(|(id, piece)| ids.get(piece) == Some(id)) {
        let found = tokenizer.token_to_id(piece);
        if found != u32::try_from(id).ok() {
            let found = found.map_or_else(|| "no id".to_owned(), |found| format!("id {found}"));
            let problem = format!(
                "`{piece}` has {found}; expected id {id}, its line in {} (remove the file that isn't the encoder's)",
                vocabulary.display()
            );
            return Err(ImportError::unreadable(json, problem));
        }
    }
    Ok(())
}

/// Checks that the special tokens are there, and that a text is what stands between `[CLS]` and `[SEP]`.
fn check_ends(path: &Path, mut tokenizer: Tokenizer) -> Result<(), ImportError> {
    let wrong = |error: tokenizers::Error| ImportError::unreadable(path, error.to_string());
    let mut ids = [0; 4];
    for (id, token) in ids.iter_mut().zip([PAD, UNK, CLS, SEP]) {
        let missing = || ImportError::unreadable(path, format!("has no `{token}`; expected a BERT vocabulary"));
        *id = tokenizer.token_to_id(token).ok_or_else(missing)?;
    }
    let [_, _, cls, sep] = ids;
    if tokenizer.get_post_processor().is_none() {
        return Ok(());
    }
    tokenizer.with_truncation(None).map_err(wrong)?;
    tokenizer.with_padding(None);
    let inner = tokenizer.encode("a", false).map_err(wrong)?;
    let whole = tokenizer.encode("a", true).map_err(wrong)?;
    let expected: Vec<u32> = [&[cls][..], inner.get_ids(), &[sep]].concat();
    if whole.get_ids() != expected {
        let problem =
            format!("makes {:?} of a text; expected `[CLS]` before it and `[SEP]` after it", whole.get_tokens());
        return Err(ImportError::field(path, "post_processor", problem));
    }
    Ok(())
}

/// Word pieces by their ids, of which every one must have a row in the embedding.
fn vocabulary_of(path: &Path, tokenizer: &Tokenizer, config: &Path, rows: usize) -> Result<Vec<String>, ImportError> {
    let ids = tokenizer.get_vocab(true);
    let found = ids.values().max().map_or(0, |largest| *largest as usize + 1);
    let rows_are = format!("{rows}, the rows of the embedding (vocab_size {rows} in {})", config.display());
    if found > rows {
        return Err(ImportError::unreadable(path, format!("has {found} ids; expected at most {rows_are}")));
    }
    // Spare rows are common, sizes being rounded up; an embedding most of which no text reaches is another tokenizer's.
    if found < rows / 2 {
        return Err(ImportError::unreadable(path, format!("has only {found} ids; expected about {rows_are}")));
    }
    let mut vocabulary = vec![String::new(); found];
    for (piece, id) in ids {
        if let Some(place) = vocabulary.get_mut(id as usize) {
            *place = piece;
        }
    }
    Ok(vocabulary)
}
