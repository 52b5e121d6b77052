//! Files beside the weights (YAML, JSON, vocabularies): read whole, so never more of one than such a file has.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use super::error::ImportError;

/// The largest tokenizers of BERTs have 5 MB.
const MAX_BYTES: u64 = 16 << 20;
/// Somebody gave the weights in its place, most likely.
const NOT_TEXT: &str = "is not text (UTF-8); a YAML, JSON or vocabulary file was expected here, not weights";

/// The text of a file.
pub(super) fn read(path: &Path) -> Result<String, ImportError> {
    read_optional(path)?.ok_or_else(|| ImportError::io(path, ErrorKind::NotFound.into()))
}

/// The text of a file that may be missing.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>, ImportError> {
    let io = |source| ImportError::io(path, source);
    // A pipe would be waited for, and a device never ends.
    match path.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.is_file() => return Err(ImportError::unreadable(path, "is not a file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        let problem = format!("has more than {} MiB; a file of text beside the weights was expected", MAX_BYTES >> 20);
        return Err(ImportError::unreadable(path, problem));
    }
    let text = String::from_utf8(bytes).map_err(|_| ImportError::unreadable(path, NOT_TEXT))?;
    Ok(Some(text))
}
