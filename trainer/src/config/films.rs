//! The films of a run: section `data`.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{RunConfig, ViewChoice, is_default};
use crate::data::{FilmSource, OnBadFilms};
use crate::run::disk::sha256;

/// Digits of the checksum of manifest and views in the name of a shared folder.
const NAME_DIGITS: usize = 12;

/// The films.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Manifest, relative to the configuration file.
    pub manifest: PathBuf,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Films of which views are taken: a list of `AP`, `PA`, `frontal` and `lateral`, or `all`. Left out, all but lateral ones. A film
    /// whose view is not known is always taken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub views: ViewChoice,
    /// A folder, relative to the configuration file, where decoded films are kept, a folder for each manifest, choice
    /// of views and size, so that runs share them. Left out, they are in the run directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Films that have no more MiB of pixels than this are held in memory; more are read from disk ahead of each step.
    #[serde(default = "memory_mib", skip_serializing_if = "is_memory_mib")]
    pub memory_mib: u64,
    /// Where films are missing or are no pictures: `stop` and name them, or `leave_out` and name them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bad_films: OnBadFilms,
}

fn memory_mib() -> u64 {
    1024
}

fn is_memory_mib(size: &u64) -> bool {
    *size == memory_mib()
}

impl DataConfig {
    /// The settings that say which films these are. How they are held says nothing of a model.
    #[must_use]
    pub fn identity(&self) -> Self {
        Self { cache: None, memory_mib: memory_mib(), ..self.clone() }
    }

    /// Films of so many bytes are held in memory.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        self.memory_mib.saturating_mul(1 << 20)
    }
}

impl RunConfig {
    /// Where the films come from; `own_store` is where they are kept unless the configuration names a folder.
    ///
    /// # Errors
    /// Where the system cannot tell the working directory.
    pub fn film_source(&self, own_store: &Path) -> io::Result<FilmSource> {
        let store = match self.film_cache() {
            None => own_store.to_owned(),
            Some(cache) => {
                let manifest = std::path::absolute(self.manifest())?;
                // Runs of other views have other films in another order: they would make each other's shards anew.
                let views = serde_json::to_vec(&self.data.views)?;
                let name = sha256(&[manifest.as_os_str().as_encoded_bytes(), &[0], &views].concat());
                cache.join(format!("{}px-{}", self.data.image_size, &name[..NAME_DIGITS]))
            }
        };
        Ok(FilmSource {
            manifest: self.manifest(),
            side: self.data.image_size,
            views: self.data.views.clone(),
            store,
            memory_limit: self.data.memory_limit(),
            on_bad_films: self.data.bad_films,
        })
    }

    /// The folder that runs share for decoded films, if there is one.
    #[must_use]
    pub fn film_cache(&self) -> Option<PathBuf> {
        self.data.cache.as_ref().map(|cache| self.folder.join(cache))
    }
}
