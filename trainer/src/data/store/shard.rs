//! A shard of the film store: the pixels of some films one after another, and beside them a list of the films.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::run::disk::{named, sync_folder, write_synced};

/// Of the list beside the pixels.
const FORMAT_VERSION: u32 = 1;

/// What tells a film's file from an altered one without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The manifest's path of it.
    pub(super) id: String,
    /// Size of the file.
    pub(super) bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub(super) modified: u64,
}

/// A film of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) film: Identity,
    #[serde(flatten)]
    pub(super) content: Content,
}

/// What came of decoding a film.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    /// The checksum of its pixels.
    Sha256(String),
    /// It is no picture: no pixels are stored.
    Problem(String),
}

/// The list beside the pixels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    format_version: u32,
    /// Side of the pictures.
    side: usize,
    pub(super) films: Vec<Entry>,
}

/// The two files of a shard.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    pub(super) pixels: PathBuf,
    pub(super) index: PathBuf,
}

// === impl Identity ===

impl Identity {
    /// Of the film `id` at `path`.
    pub(super) fn of(id: &str, path: &Path) -> io::Result<Self> {
        let facts = fs::metadata(path)?;
        let modified = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            id: id.to_owned(),
            bytes: facts.len(),
            modified: u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

// === impl Index ===

impl Index {
    pub(super) fn new(side: usize, films: Vec<Entry>) -> Self {
        Self { format_version: FORMAT_VERSION, side, films }
    }

    /// Films that have pixels, in the order of the pixels, with their checksums.
    pub(super) fn stored(&self) -> impl Iterator<Item = (&Identity, &str)> {
        self.films.iter().filter_map(|entry| match &entry.content {
            Content::Sha256(digest) => Some((&entry.film, digest.as_str())),
            Content::Problem(_) => None,
        })
    }
}

// === impl Shard ===

impl Shard {
    pub(super) fn new(folder: &Path, number: usize) -> Self {
        let name = format!("shard-{number:05}");
        Self { pixels: folder.join(format!("{name}.u8")), index: folder.join(format!("{name}.json")) }
    }

    /// Its list; `None` where there is none, `Err` where the shard is damaged, with what is wrong.
    pub(super) fn read_index(&self, side: usize) -> Result<Option<Index>, String> {
        let bytes = match fs::read(&self.index) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its list cannot be read: {error}")),
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|error| format!("its list is no list: {error}"))?;
        if (index.format_version, index.side) != (FORMAT_VERSION, side) {
            return Ok(None);
        }
        let expected = (index.stored().count() * side * side) as u64;
        match fs::metadata(&self.pixels) {
            Ok(facts) if facts.len() == expected => Ok(Some(index)),
            Ok(facts) => Err(format!("it has {} bytes instead of {expected}", facts.len())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// `area` pixels of the film at `place` of those that have pixels.
    pub(super) fn read(&self, place: usize, area: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.pixels)?;
        file.seek(SeekFrom::Start((place * area) as u64))?;
        let mut pixels = vec![0; area];
        file.read_exact(&mut pixels)?;
        Ok(pixels)
    }

    /// Writes the pixels, then the list, so that a list always has its pixels.
    pub(super) fn write(&self, index: &Index, pixels: &[u8]) -> io::Result<()> {
        write_synced(&self.pixels, pixels).map_err(|error| named(&self.pixels, &error))?;
        let list = serde_json::to_vec(index).map_err(io::Error::from)?;
        write_synced(&self.index, &list).map_err(|error| named(&self.index, &error))?;
        match self.index.parent() {
            Some(folder) => sync_folder(folder),
            None => Ok(()),
        }
    }

    /// Forgets that it is there: it is made anew at the next start.
    pub(super) fn set_aside(&self) {
        // Where even this fails, the next start finds the same damage and says so again.
        let _ = fs::remove_file(&self.index);
    }
}
