//! The token cache on disk: shards of token ids, made one by one, each with a checksum, and a list that says what they are of.
//!
//! ```text
//! index.json                   the key, the shards, the films
//! shard-00000.safetensors      tensor `ids` [films, views, positions] in u16
//! shard-00000.sha256           its checksum, written before it
//! metrics.jsonl                of each shard that was made: its films, and the share of the time that it waited for them
//! ```
//!
//! The same films, tokenizer and settings give the same bytes, however often the stage was stopped in between.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::run::disk::{named, put_in_place, remove_temporaries, sha256, sync_folder, write_synced, write_temporary};

/// Of `index.json`.
const FORMAT_VERSION: u32 = 1;
/// Films of a shard. A multiple of the films that are encoded at once, so that shards change no batch.
const FILMS_PER_SHARD: usize = 64;
const INDEX: &str = "index.json";
/// The tensor of a shard.
const TENSOR: &str = "ids";
/// What the ids of a shard are of, in its metadata.
const FINGERPRINT: &str = "fingerprint";

/// What the tokens depend on, spelled out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    /// Over all of the below: tells these tokens from others.
    pub(super) fingerprint: String,
    /// Of the tokenizer.
    pub(super) tokenizer: String,
    /// Of the films' pixels, after decoding, cropping and scaling.
    pub(super) films: String,
    /// Side of the films.
    pub(super) image_size: usize,
    /// Views of each film.
    pub(super) views: usize,
    /// Largest shift of a view, in pixels.
    pub(super) shift: usize,
    /// The run's seed.
    pub(super) seed: u64,
    /// Tokens of a grid.
    pub(super) positions: usize,
    /// Ids are below this.
    pub(super) codebook_size: usize,
}

/// `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    format_version: u32,
    key: Key,
    shards: Vec<ShardEntry>,
    /// The manifest's paths of the films, in the order of the shards.
    films: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ShardEntry {
    file: String,
    /// The first of its films.
    first: usize,
    /// How many it has.
    films: usize,
}

/// A folder of token shards.
pub(super) struct TokenCache {
    folder: PathBuf,
    index: Index,
}

// === impl TokenCache ===

impl TokenCache {
    /// The cache in `folder` of the tokens of `films`. What is there of another key is removed.
    ///
    /// # Errors
    /// Where the folder cannot be read or written.
    pub(super) fn open(folder: &Path, key: Key, films: Vec<String>) -> Result<Self> {
        Self::with_shards(folder, key, films, FILMS_PER_SHARD)
    }

    fn with_shards(folder: &Path, key: Key, films: Vec<String>, films_per_shard: usize) -> Result<Self> {
        let shards = (0..films.len())
            .step_by(films_per_shard)
            .enumerate()
            .map(|(number, first)| ShardEntry {
                file: format!("shard-{number:05}.safetensors"),
                first,
                films: films_per_shard.min(films.len() - first),
            })
            .collect();
        let cache =
            Self { folder: folder.to_owned(), index: Index { format_version: FORMAT_VERSION, key, shards, films } };
        fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
        remove_temporaries(folder);
        let path = folder.join(INDEX);
        let found = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
        if found.as_ref() != Some(&cache.index) {
            let removed = cache.remove_all()?;
            if removed > 0 {
                eprintln!("{}: tokens of another tokenizer, other films or settings: made anew", folder.display());
            }
            let json = serde_json::to_vec_pretty(&cache.index)?;
            write_synced(&path, &json).map_err(|error| named(&path, &error))?;
            sync_folder(folder).map_err(|error| named(folder, &error))?;
        }
        Ok(cache)
    }

    /// Removes the list, then every file of tokens, also those of earlier layouts; how many.
    fn remove_all(&self) -> Result<usize> {
        let gone = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(named(path, &error)),
            _ => Ok(()),
        };
        gone(&self.folder.join(INDEX))?;
        let mut count = 0;
        for entry in fs::read_dir(&self.folder).map_err(|error| named(&self.folder, &error))? {
            let path = entry.map_err(|error| named(&self.folder, &error))?.path();
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if ["safetensors", "sha256", "damaged", "jsonl"].contains(&ending) {
                gone(&path)?;
                count += usize::from(ending == "safetensors");
            }
        }
        Ok(count)
    }

    /// How many shards there are, whole or not.
    pub(super) fn shards(&self) -> usize {
        self.index.shards.len()
    }

    /// The films of a shard.
    pub(super) fn films(&self, shard: usize) -> Range<usize> {
        let ShardEntry { first, films, .. } = self.index.shards[shard];
        first..first + films
    }

    /// The ids of a shard, film by film, view by view; `None` where it has not been made. One that is damaged is named on
    /// standard error and counts as not made.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub(super) fn read(&self, shard: usize) -> Result<Option<Vec<u16>>> {
        let path = self.path(shard);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Its checksum is written before it: a shard that was whole once has lost its data.
                if path.with_extension("sha256").exists() {
                    eprintln!("token shard {} is missing; made anew", path.display());
                }
                return Ok(None);
            }
            Err(error) => return Err(named(&path, &error).into()),
        };
        match self.parse(shard, &path, &bytes) {
            Ok(ids) => Ok(Some(ids)),
            Err(error) => {
                eprintln!("token shard {} is damaged: {error:#}; made anew", path.display());
                Ok(None)
            }
        }
    }

    fn parse(&self, shard: usize, path: &Path, bytes: &[u8]) -> Result<Vec<u16>> {
        let expected = fs::read_to_string(path.with_extension("sha256")).context("its checksum cannot be read")?;
        let found = sha256(bytes);
        if expected.trim() != found {
            return Err(anyhow!("its SHA-256 is {found}, written was {}", expected.trim()));
        }
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let fingerprint = header.metadata().as_ref().and_then(|metadata| metadata.get(FINGERPRINT));
        if fingerprint != Some(&self.index.key.fingerprint) {
            return Err(anyhow!("its tokens are of another tokenizer, other films or settings"));
        }
        let tensors = SafeTensors::deserialize(bytes)?;
        let tensor = tensors.tensor(TENSOR)?;
        let shape = self.shape(shard);
        if tensor.dtype() != Dtype::U16 || tensor.shape() != shape {
            return Err(anyhow!("it holds {:?} {:?}, not U16 {shape:?}", tensor.dtype(), tensor.shape()));
        }
        let ids: Vec<u16> = tensor.data().as_chunks().0.iter().map(|id| u16::from_le_bytes(*id)).collect();
        match ids.iter().find(|id| usize::from(**id) >= self.index.key.codebook_size) {
            Some(id) => Err(anyhow!("it has the token {id}, of {} codes", self.index.key.codebook_size)),
            None => Ok(ids),
        }
    }

    /// Writes the ids of a shard. A kill or a full disk leaves it not made.
    ///
    /// # Errors
    /// Where it cannot be written; the shards before stay.
    pub(super) fn write(&self, shard: usize, ids: &[u16]) -> Result<()> {
        let path = self.path(shard);
        let data: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::U16, self.shape(shard).to_vec(), &data)?;
        let metadata = HashMap::from([(FINGERPRINT.to_owned(), self.index.key.fingerprint.clone())]);
        let bytes = safetensors::serialize([(TENSOR, view)], Some(metadata))?;
        let written = || -> io::Result<()> {
            let temporary = write_temporary(&path, &bytes)?;
            write_synced(&path.with_extension("sha256"), sha256(&bytes).as_bytes())
                .inspect_err(|_| drop(fs::remove_file(&temporary)))?;
            put_in_place(&temporary, &path)?;
            sync_folder(&self.folder)
        };
        written().map_err(|error| named(&path, &error)).context("token shard")
    }

    fn path(&self, shard: usize) -> PathBuf {
        self.folder.join(&self.index.shards[shard].file)
    }

    fn shape(&self, shard: usize) -> [usize; 3] {
        [self.index.shards[shard].films, self.index.key.views, self.index.key.positions]
    }
}

/// Whether all shards of the cache in `folder` have been made; none is read.
#[must_use]
pub fn is_complete(folder: &Path) -> bool {
    let index = fs::read(folder.join(INDEX)).ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    index.is_some_and(|index| index.shards.iter().all(|shard| folder.join(&shard.file).is_file()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    const VIEWS: usize = 2;
    const POSITIONS: usize = 3;

    fn key(fingerprint: &str) -> Key {
        Key {
            fingerprint: fingerprint.to_owned(),
            tokenizer: "t".to_owned(),
            films: "f".to_owned(),
            image_size: 16,
            views: VIEWS,
            shift: 1,
            seed: 5,
            positions: POSITIONS,
            codebook_size: 300,
        }
    }

    /// A cache of seven films in shards of three.
    fn cache(folder: &Path, fingerprint: &str) -> TokenCache {
        let films = (0..7).map(|film| format!("film-{film}.png")).collect();
        TokenCache::with_shards(folder, key(fingerprint), films, 3).unwrap()
    }

    /// Every token tells its film and place; some need more than 8 bits.
    fn ids(films: Range<usize>) -> Vec<u16> {
        films.flat_map(|film| (0..VIEWS * POSITIONS).map(move |place| (film * 40 + place) as u16)).collect()
    }

    /// Makes the shards that are missing, at most `most`; which those were.
    fn fill(cache: &TokenCache, most: usize) -> Vec<usize> {
        let missing: Vec<usize> = (0..cache.shards()).filter(|shard| cache.read(*shard).unwrap().is_none()).collect();
        let made: Vec<usize> = missing.into_iter().take(most).collect();
        made.iter().for_each(|shard| cache.write(*shard, &ids(cache.films(*shard))).unwrap());
        made
    }

    fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
    }

    #[test]
    fn a_cache_that_was_killed_half_way_goes_on_and_has_the_same_bytes() {
        let (whole, pieces) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert_eq!(fill(&cache(whole.path(), "a"), 9), [0, 1, 2]);
        for expected in [vec![0], vec![1], vec![2], vec![]] {
            assert!(expected.is_empty() == is_complete(pieces.path()));
            assert_eq!(fill(&cache(pieces.path(), "a"), 1), expected);
            fs::write(pieces.path().join("shard-00001.safetensors.tmp"), "half").unwrap();
        }
        fs::remove_file(pieces.path().join("shard-00001.safetensors.tmp")).unwrap();
        assert_eq!(contents(whole.path()), contents(pieces.path()));
        let read = cache(whole.path(), "a");
        let all: Vec<u16> = (0..3).flat_map(|shard| read.read(shard).unwrap().unwrap()).collect();
        assert_eq!(all, ids(0..7));
    }

    #[test]
    fn a_truncated_altered_or_missing_shard_is_made_anew_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        fill(&cache(folder.path(), "a"), 9);
        let whole = contents(folder.path());
        let shard = folder.path().join("shard-00001.safetensors");
        let bytes = fs::read(&shard).unwrap();
        let damages: [&dyn Fn(); 4] = [
            &|| fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap(),
            &|| {
                let mut altered = bytes.clone();
                // The low byte of the last token: it stays one of the codes, and only the checksum tells.
                altered[bytes.len() - 2] ^= 1;
                fs::write(&shard, altered).unwrap();
            },
            &|| fs::remove_file(&shard).unwrap(),
            &|| fs::remove_file(shard.with_extension("sha256")).unwrap(),
        ];
        for damage in damages {
            damage();
            assert_eq!(fill(&cache(folder.path(), "a"), 9), [1]);
            assert_eq!(contents(folder.path()), whole);
        }
    }

    #[test]
    fn a_cache_of_another_key_or_layout_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fill(&cache(folder.path(), "a"), 9);
        fs::write(folder.path().join("step-00000001.safetensors"), "an earlier layout").unwrap();
        let foreign = fs::read(folder.path().join("shard-00000.safetensors")).unwrap();
        let other = cache(folder.path(), "b");
        assert!(!folder.path().join("step-00000001.safetensors").exists());
        assert_eq!(fill(&other, 9), [0, 1, 2]);
        // A whole shard of another run beside its checksum is not taken for one of this.
        fs::write(folder.path().join("shard-00000.safetensors"), &foreign).unwrap();
        fs::write(folder.path().join("shard-00000.sha256"), sha256(&foreign)).unwrap();
        assert_eq!(fill(&other, 9), [0]);
    }

    // Everything that is written to /dev/full meets a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_the_shards_before_stay() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), "a");
        cache.write(0, &ids(0..3)).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("shard-00001.safetensors.tmp")).unwrap();
        let error = format!("{:#}", cache.write(1, &ids(3..6)).unwrap_err());
        assert!(error.contains("shard-00001.safetensors") && error.contains("free space"), "{error}");
        assert_eq!(cache.read(0).unwrap(), Some(ids(0..3)));
        assert_eq!(fill(&cache, 9), [1, 2]);
    }
}
