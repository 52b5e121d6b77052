//! Where a bundle came from: its sources by name, size and checksum, in `config.json` and on its card.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use raygen_model::bundle::Component;
use raygen_model::import::ImportedTextEncoder;
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{ImportFailure, Report, Sources};

/// Files of a BERT folder that an import may read beside its weights.
const TEXT_FILES: [&str; 4] = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"];

/// A file that a bundle was made from. No path: that is nobody's business but the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The component.
    pub part: &'static str,
    /// Its name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: String,
    /// Whether the text encoder's weights are from this file too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub holds_text_encoder: bool,
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads every source once more for its checksum. What was not read for the bundle is none.
pub(super) fn of(sources: &Sources, text_encoder: Option<&ImportedTextEncoder>) -> Result<Vec<Source>, ImportFailure> {
    let mut files: Vec<(Component, PathBuf)> = Vec::new();
    if let Some((checkpoint, project)) = &sources.vqgan {
        files.extend([checkpoint, project].map(|path| (Component::VqGan, path.clone())));
    }
    files.extend(sources.transformer.iter().map(|path| (Component::Transformer, path.clone())));
    if let Some(encoder) = text_encoder {
        let texts = TEXT_FILES.iter().map(|name| encoder.folder.path.join(name)).filter(|path| path.is_file());
        files.extend(texts.chain(encoder.weights.clone()).map(|path| (Component::TextEncoder, path)));
    }
    files.extend(sources.classifier.iter().map(|path| (Component::Classifier, path.clone())));
    let text_encoder_is_inside = text_encoder.is_some_and(|encoder| encoder.weights.is_none());
    let record = |(component, path): (Component, PathBuf)| {
        let (bytes, sha256) = checksum(&path).map_err(|source| ImportFailure::Io { path: path.clone(), source })?;
        let holds_text_encoder = component == Component::Transformer && text_encoder_is_inside;
        Ok(Source { part: component.name(), file: name(&path), bytes, sha256, holds_text_encoder })
    };
    files.into_iter().map(record).collect()
}

/// Length and SHA-256 of a file, read a piece at a time.
pub(crate) fn checksum(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                digest.update(buffer.get(..count).unwrap_or_default());
                bytes += count as u64;
            }
        }
    }
    let hexadecimal = digest.finalize().iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Ok((bytes, hexadecimal))
}

/// The `provenance` of an imported bundle.
pub(super) fn provenance(records: &[Source]) -> BTreeMap<String, Value> {
    BTreeMap::from([
        ("imported_by".to_owned(), json!(concat!("raygen-trainer ", env!("CARGO_PKG_VERSION")))),
        ("imported_on".to_owned(), json!(today())),
        ("sources".to_owned(), json!(records)),
    ])
}

/// The model card.
pub(super) fn card(out: &Path, report: &Report, records: &[Source]) -> String {
    let mut card = format!(
        "# {}\n\nImported by `raygen-trainer import` from other people's checkpoints.\n\n\
         **Pictures that it makes are synthetic; never for diagnosis.**\n\n\
         The import computes nothing: what the weights were trained on, how good they are and under which licence they \
         stand, their authors say.\n\n## What it holds\n\n",
        name(out)
    );
    let mut line = |text: String| {
        card.push_str(&text);
        card.push('\n');
    };
    for part in &report.parts {
        line(format!(
            "- **{}**: {}; {} tensors, {} parameters, stored in {}",
            part.component,
            part.summary,
            part.tensor_count,
            part.parameter_count,
            part.stored_as()
        ));
    }
    line("\n## Where it came from\n\n| part | file | bytes | SHA-256 |\n|---|---|---|---|".to_owned());
    for Source { part, file, bytes, sha256, .. } in records {
        line(format!("| {part} | `{file}` | {bytes} | `{sha256}` |"));
    }
    if !report.notes.is_empty() {
        line("\n## Notes\n".to_owned());
        for note in &report.notes {
            line(format!("- {note}"));
        }
    }
    card
}

/// The date in UTC, as `YYYY-MM-DD`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    date(seconds / 86_400)
}

/// The date so many days after 1970-01-01: Hinnant's `civil_from_days`, for days that are not before it.
fn date(days: u64) -> String {
    // Years begin in March here, so that the leap day is a year's last; 719,468 days lie between 0000-03-01 and 1970.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (20_781, "2026-11-24"),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}
