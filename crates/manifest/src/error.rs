//! What can be wrong with a manifest, said so that the person who wrote it can mend it.

use std::path::PathBuf;

use crate::Split;

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file could not be opened or read.
    #[error("{file}: cannot be read: {source}", file = file.display())]
    Unreadable {
        /// The manifest.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a CSV table: ragged rows, bad quoting, or bytes that are not UTF-8.
    #[error("{file}, line {line}: {problem}", file = file.display())]
    NotATable {
        /// The manifest.
        file: PathBuf,
        /// Line in the file, from 1; the header is line 1.
        line: u64,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A required column is not in the header.
    #[error(
        "{file}, line 1: there is no column \"{column}\"; the header has {found}. Add the column, or rename the one that holds it",
        file = file.display()
    )]
    MissingColumn {
        /// The manifest.
        file: PathBuf,
        /// The column that is required.
        column: &'static str,
        /// The columns that are there, for the message.
        found: String,
    },
    /// A column is named twice.
    #[error("{file}, line 1: the column \"{column}\" is there twice; keep one", file = file.display())]
    DuplicateColumn {
        /// The manifest.
        file: PathBuf,
        /// The column.
        column: String,
    },
    /// A field does not hold what its column asks for.
    #[error("{file}, line {line}, column \"{column}\": {problem}", file = file.display())]
    Field {
        /// The manifest.
        file: PathBuf,
        /// Line in the file where the row starts, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// One patient is in two splits, so a model would be measured on people that it was trained on.
    #[error(
        "{file}, line {line}, column \"split\": patient \"{patient}\" is in {split} here and in {other_split} at line {other_line}; \
         splits may not share a patient: move all films of a patient to one split",
        file = file.display()
    )]
    SharedPatient {
        /// The manifest.
        file: PathBuf,
        /// The patient, or the film's path where the manifest names no patient.
        patient: String,
        /// Line of the later row.
        line: u64,
        /// Its split.
        split: Split,
        /// Line of the earlier row.
        other_line: u64,
        /// Its split.
        other_split: Split,
    },
    /// The table has a header and nothing below it.
    #[error("{file}: there are no films in it, only a header", file = file.display())]
    Empty {
        /// The manifest.
        file: PathBuf,
    },
    /// A film that the manifest names is not there.
    #[error(
        "{file}, line {line}, column \"path\": there is no file {film}{others}; paths are relative to the manifest's folder",
        file = file.display(), film = film.display(), others = and_others(*missing_count)
    )]
    MissingFilm {
        /// The manifest.
        file: PathBuf,
        /// Line of the first film that is missing.
        line: u64,
        /// Where it was looked for.
        film: PathBuf,
        /// How many are missing in all.
        missing_count: usize,
    },
}

fn and_others(missing_count: usize) -> String {
    match missing_count {
        0 | 1 => String::new(),
        count => format!(" (and {} more are missing)", count - 1),
    }
}
