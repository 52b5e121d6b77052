//! The run directory: everything that came of a run, in one place.
//!
//! ```text
//! config.toml              what was asked
//! tokenizer/               checkpoints, metrics.jsonl, events.out.tfevents.*, curves.png, samples/*.png, progress.json
//! films/                   the films, decoded, unless data.cache names another folder
//! left_out.json            films that were left out because they cannot be used, where there are any
//! tokens/                  the token cache
//! transformer/             the same
//! decoder/, classifier/    the same, where there are such stages
//! films/                   decoded films
//! classifier/              the same, without samples; where the run has that stage
//! bundle/                  the exported model
//! lock                     held while a trainer works here
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::{advice, write_synced};
use crate::config::RunConfig;

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// The file system refused.
    #[error("run directory {path}: {source}{}", advice(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another trainer works here.
    #[error("another trainer is at work in {0}; wait for it, stop it, or give another --out")]
    InUse(PathBuf),
    /// The configuration could not be written down.
    #[error("the configuration cannot be written as TOML: {0}")]
    Config(#[from] toml::ser::Error),
}

/// An open run directory, locked against a second trainer until dropped.
pub struct RunDirectory {
    root: PathBuf,
    // The lock goes with the file handle, also when the process is killed.
    _lock: File,
}

impl RunDirectory {
    /// Opens or makes `root`.
    ///
    /// # Errors
    /// Where it cannot be made, or another trainer holds it.
    pub fn open(root: &Path) -> Result<Self, RunDirectoryError> {
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| RunDirectoryError::Io { path, source }
        };
        fs::create_dir_all(root).map_err(io_error(root))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(io_error(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirectoryError::InUse(root.to_owned())),
            Err(TryLockError::Error(source)) => return Err(RunDirectoryError::Io { path: lock_path, source }),
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// Writes down what was asked; paths from the root of the file system, so that the copy works too.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn record(&self, config: &RunConfig) -> Result<(), RunDirectoryError> {
        let path = self.root.join("config.toml");
        let io_error = |source| RunDirectoryError::Io { path: path.clone(), source };
        let mut config = config.clone();
        config.data.manifest = std::path::absolute(config.manifest()).map_err(io_error)?;
        config.data.cache = config.film_cache().map(std::path::absolute).transpose().map_err(io_error)?;
        config.make_files_absolute().map_err(io_error)?;
        write_synced(&path, toml::to_string_pretty(&config)?.as_bytes()).map_err(io_error)
    }

    /// The folder of a stage.
    #[must_use]
    pub fn stage(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the exported bundle goes.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.root.join("bundle")
    }
}
