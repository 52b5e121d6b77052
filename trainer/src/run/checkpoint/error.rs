//! Why a checkpoint could not be written or read.

use std::io;
use std::path::PathBuf;

use crate::run::disk::advice;

/// Why a checkpoint could not be written or read. The message has the cause in it, so that none is chained behind it and told again.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("checkpoint {path}: {error}{} (earlier checkpoints are untouched)", advice(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What was read is not what was written.
    #[error("checkpoint {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What disagrees.
        reason: String,
    },
    /// The checkpoint belongs to other settings or other films.
    #[error(
        "{path} was made with other settings or films than this configuration; give another --out, or delete {stage_folder} to train the stage again"
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The stage's folder.
        stage_folder: PathBuf,
    },
    /// Nothing to go on from.
    #[error("every checkpoint in {stage_folder} is damaged; delete that folder to begin the stage again")]
    NoneWhole {
        /// The stage's folder.
        stage_folder: PathBuf,
    },
    /// A tensor could not be serialised.
    #[error("checkpoint {path}: {error}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Why.
        error: candle_core::Error,
    },
}
