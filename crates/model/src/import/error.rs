//! Why a foreign file can't be imported.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::architecture::Architecture;
use crate::config::InvalidConfig;

/// Every variant names the file, and the tensor or field where there is one. Names that come from the file are escaped:
/// control characters stay out of terminals and logs.
#[derive(Debug, Error)]
pub enum ImportError {
    /// The file isn't there or can't be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there and isn't what it should be.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The file's pickle calls something that is not known to be data. It was not called.
    #[error(
        "{}: its pickle calls {name}, which is not read; only tensors and plain containers are. Save the weights alone \
         in Python: torch.save(model.state_dict(), FILE)",
        path.display()
    )]
    Calls {
        /// The file.
        path: PathBuf,
        /// The full name of what it calls.
        name: String,
    },
    /// A tensor of the file can't be read.
    #[error("{}: tensor `{}`: {problem}", path.display(), tensor.escape_debug())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file lacks a tensor that the network needs.
    #[error("{}: tensor `{}` {expected:?} is missing; the file holds {found}", path.display(), tensor.escape_debug())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor's name in our bundles.
        tensor: String,
        /// The shape that it should have; empty where it can't be told.
        expected: Vec<usize>,
        /// A few names that the file does hold.
        found: String,
    },
    /// The file holds a part of the network that its configuration does not ask for.
    #[error("{}: tensor `{}` is not expected: {problem}", path.display(), tensor.escape_debug())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// What was expected instead.
        problem: String,
    },
    /// The file holds another network than the one that is wanted.
    #[error("{}: holds a {found}, not a {wanted}", path.display())]
    OtherPart {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Architecture,
        /// What it should hold.
        wanted: Architecture,
    },
    /// A tensor has another shape than the network needs.
    #[error("{}: tensor `{}` has shape {found:?}; expected {expected:?}", path.display(), tensor.escape_debug())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's name in our bundles.
        tensor: String,
        /// The shape that the configuration asks for.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor holds NaN or infinity.
    #[error("{}: tensor `{}` holds a value that is not a finite number", path.display(), tensor.escape_debug())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name in our bundles.
        tensor: String,
    },
    /// The configuration that was given or inferred makes no network.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file that the configuration came from.
        path: PathBuf,
        /// The field and what is wrong with it.
        source: InvalidConfig,
    },
}

impl ImportError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn unreadable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }

    pub(super) fn config(path: &Path, source: InvalidConfig) -> Self {
        Self::Config { path: path.to_owned(), source }
    }

    pub(super) fn field(path: &Path, field: &str, problem: impl Into<String>) -> Self {
        Self::config(path, InvalidConfig::new(field, problem))
    }
}
