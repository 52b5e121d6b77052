//! Why nothing was imported.

use std::path::{Path, PathBuf};

use raygen_model::bundle::BundleError;
use raygen_model::import::{Architecture, ImportError};

/// Every variant names the file; what the importers refuse names the tensor or field too.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// A part cannot be read.
    #[error("{source}{}", advice(source))]
    Part {
        /// What is wrong.
        #[from]
        source: ImportError,
    },
    /// Two parts are not of one model.
    #[error("{} and {} do not belong together: {problem}", first.display(), second.display())]
    Disagreement {
        /// A file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// What each of them says.
        problem: String,
    },
    /// A file or folder given where the other is wanted.
    #[error("{}: {problem}", path.display())]
    Given {
        /// What was given.
        path: PathBuf,
        /// What it should be.
        problem: String,
    },
    /// An option has a value with which nothing can be imported.
    #[error("{option}: {problem}")]
    Option {
        /// The option.
        option: &'static str,
        /// What it should be.
        problem: String,
    },
    /// Somebody asked to stop.
    #[error("interrupted; nothing was written")]
    Interrupted,
    /// The target is there and is no bundle.
    #[error(
        "--out {}: is there and is no bundle, so it is not replaced; give a folder that does not exist yet",
        .0.display()
    )]
    TargetTaken(PathBuf),
    /// The bundle cannot be written.
    #[error("writing the bundle: {0}")]
    Bundle(#[from] BundleError),
    /// A source cannot be read again for its checksum.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ImportFailure {
    pub(super) fn given(path: &Path, problem: impl Into<String>) -> Self {
        Self::Given { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn disagreement(first: &Path, second: &Path, problem: String) -> Self {
        Self::Disagreement { first: first.to_owned(), second: second.to_owned(), problem }
    }
}

/// Where a part belongs that was given as another.
fn advice(error: &ImportError) -> String {
    let ImportError::OtherPart { found, .. } = error else { return String::new() };
    let option = match found {
        Architecture::RaygenTransformer => "--transformer",
        Architecture::VqGan | Architecture::GumbelVqGan => "--vqgan",
        Architecture::Bert => "--text-encoder (its folder)",
        Architecture::DenseNet121 => "--classifier",
    };
    format!("; give it with {option}")
}
