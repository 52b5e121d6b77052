//! Why a PyTorch file can't be read; where it lies is added by [`PickleError::in_file`].

use std::{io, path::Path};

use thiserror::Error;

use super::value::Global;
use crate::import::error::ImportError;

#[derive(Debug, Error)]
pub(super) enum PickleError {
    #[error("{0}")]
    Io(io::Error),
    #[error("it ends early")]
    Truncated,
    /// The pickle calls what is not known to be inert.
    #[error("it calls {0}")]
    Calls(Global),
    /// What no file of PyTorch holds.
    #[error("{0}")]
    Damaged(String),
    /// A file that is whole and of a kind that is not read; a predicate of the file, with what to do.
    #[error("{0}")]
    Unsupported(String),
    #[error("it has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("{problem}")]
    Tensor { name: String, problem: String },
}

impl PickleError {
    pub(super) fn damaged(problem: &str) -> Self {
        Self::Damaged(problem.to_owned())
    }

    /// Says where in its pickle the damage is.
    pub(super) fn at(self, position: u64) -> Self {
        match self {
            Self::Damaged(problem) => Self::Damaged(format!("{problem}, before byte {position}")),
            other => other,
        }
    }

    pub(super) fn in_tensor(self, name: &str) -> Self {
        match self {
            Self::Io(error) => Self::Io(error),
            other => Self::Tensor { name: name.to_owned(), problem: other.to_string() },
        }
    }

    pub(super) fn in_file(self, path: &Path) -> ImportError {
        match self {
            Self::Io(source) => ImportError::io(path, source),
            Self::Calls(global) => ImportError::Calls { path: path.to_owned(), name: global.to_string() },
            Self::Tensor { name, problem } => ImportError::tensor(path, &name, problem),
            Self::Unsupported(problem) => ImportError::unreadable(path, problem),
            Self::Truncated | Self::Damaged(_) | Self::Limit { .. } => {
                let advice = "expected a complete file written by torch.save";
                ImportError::unreadable(path, format!("is not a readable PyTorch file ({self}); {advice}"))
            }
        }
    }
}

impl From<io::Error> for PickleError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Truncated } else { Self::Io(error) }
    }
}
