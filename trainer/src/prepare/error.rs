//! Why no manifest was written. What is wrong with one film or report drops that film alone: see [`super::Reason`].

use std::io;
use std::path::{Path, PathBuf};

use raygen_manifest::{ManifestError, Split};

/// Every variant names the file, and where it is a table, line and column.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that the source cannot do without is not there.
    #[error("{}: there is no {wanted} here, plain or with .gz; {advice}", folder.display())]
    MissingTable {
        /// Where it was looked for.
        folder: PathBuf,
        /// Its name.
        wanted: String,
        /// What to do.
        advice: &'static str,
    },
    /// A table is damaged: ragged rows, bad quoting, bytes that are not UTF-8.
    #[error("{}, line {line}: {problem}", file.display())]
    NotATable {
        /// The table.
        file: PathBuf,
        /// Line, from 1; the header is line 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A table has no column of this name.
    #[error("{}, line 1: there is no column \"{column}\"; the header has {found}", file.display())]
    MissingColumn {
        /// The table.
        file: PathBuf,
        /// The column.
        column: String,
        /// The columns that are there.
        found: String,
    },
    /// A field does not hold what its column asks for.
    #[error("{}, line {line}, column \"{column}\": {problem}", file.display())]
    Field {
        /// The table.
        file: PathBuf,
        /// Line where the row starts, from 1.
        line: u64,
        /// The column.
        column: String,
        /// What is wrong.
        problem: String,
    },
    /// The source puts a patient in two splits.
    #[error(
        "patient {patient}: {film} is in {split}, but an earlier film of the same patient is in {other}; splits may not share \
         a patient"
    )]
    SharedPatient {
        /// The patient.
        patient: String,
        /// The later film.
        film: String,
        /// Its split.
        split: Split,
        /// The earlier film's.
        other: Split,
    },
    /// An option cannot be followed.
    #[error("{option}: {problem}")]
    Option {
        /// The option as the command line writes it.
        option: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The manifest is there already.
    #[error("{}: is there already; give another --out, or --force to replace it", .0.display())]
    Taken(PathBuf),
    /// Not one film was kept, so there is nothing to write.
    #[error("no film was kept, so no manifest is written\n{0}")]
    NothingKept(String),
    /// A report in an archive is not what it should be.
    #[error("{}: {problem}", archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// What was written does not read back as a manifest.
    #[error("the manifest does not read back, which is a fault of this program: {0}")]
    ReadBack(#[from] ManifestError),
}

impl PrepareError {
    /// It was not said what becomes of identifiers.
    #[must_use]
    pub fn no_salt() -> Self {
        let problem = "give a secret that patients are hashed with, here or as RAYGEN_SALT; or --keep-ids to write Patient IDs as \
                       they are";
        Self::option("--salt", problem)
    }

    /// For `map_err` on what reads `path`.
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    /// For `map_err` on what writes `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(super) fn option(option: &'static str, problem: impl Into<String>) -> Self {
        Self::Option { option, problem: problem.into() }
    }
}
