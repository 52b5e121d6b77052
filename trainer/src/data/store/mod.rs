//! Films decoded once and kept as raw pixels: shards in a folder, made one by one, so that a start after a kill decodes only
//! what is missing.
//!
//! ```text
//! shard-00000.u8       pixels of films one after another, 8 bits, row by row
//! shard-00000.json     those films: size and time of each one's file, checksum of its pixels or why it has none
//! fingerprint.json     the checksum over all of them, so that later starts need not read them
//! ```

mod shard;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use raygen_manifest::Film;
use raygen_model::image::{self, DecodeLimits};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::shard::{Content, Entry, Identity, Index, Shard};
use super::FilmError;
use crate::run::disk::{named, remove_temporaries, sha256, write_synced};
use crate::run::memory::readable;
use crate::run::{StageProgress, StopSignal};

/// Bytes of a shard: what a kill loses of the decoding, and what decoding holds in memory.
const SHARD_BYTES: usize = 64 << 20;
/// Films that are decoded between two looks at the progress.
const CHUNK: usize = 64;
/// The stage, in the progress.
const NAME: &str = "films";

/// A folder of decoded films of one size.
#[derive(Debug, Clone)]
pub(super) struct FilmStore {
    folder: PathBuf,
    side: usize,
    films_per_shard: usize,
}

/// What the store has of a film.
pub(super) enum Stored {
    /// Its pixels.
    Pixels(Slot),
    /// None, and why.
    Problem(String),
}

/// Where a film's pixels are.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    shard: usize,
    place: usize,
    /// Their checksum.
    pub(super) sha256: String,
}

/// The pixels of a run's films: in memory, or on disk until they are asked for.
pub struct FilmPixels {
    store: FilmStore,
    slots: Vec<Slot>,
    held: Option<Vec<u8>>,
}

/// `fingerprint.json`.
#[derive(Serialize, Deserialize)]
struct Fingerprint {
    /// Over the checksums of the films and their splits.
    films: String,
    /// Over their pixels and splits.
    pixels: String,
}

// === impl FilmStore ===

impl FilmStore {
    /// The store of films of `side` pixels in `folder`.
    pub(super) fn new(folder: &Path, side: usize) -> Self {
        Self { folder: folder.to_owned(), side, films_per_shard: (SHARD_BYTES / (side * side).max(1)).max(1) }
    }

    /// The same with so many films a shard.
    #[cfg(test)]
    pub(super) fn with_films_per_shard(self, films_per_shard: usize) -> Self {
        Self { films_per_shard, ..self }
    }

    /// Shards of `films` films.
    pub(super) fn shards(&self, films: usize) -> usize {
        films.div_ceil(self.films_per_shard)
    }

    /// What the store has of each film, after decoding those that it has not, or whose files have changed; `None` where it was
    /// asked to stop before all were decoded.
    ///
    /// # Errors
    /// Where the folder cannot be read or written.
    pub(super) fn fill(&self, films: &[&Film], stop: &StopSignal) -> Result<Option<Vec<Stored>>, FilmError> {
        fs::create_dir_all(&self.folder).map_err(|error| FilmError::Store(named(&self.folder, &error)))?;
        let _lock = self.lock()?;
        remove_temporaries(&self.folder);
        let wanted: Vec<io::Result<Identity>> =
            films.par_iter().map(|film| Identity::of(&film.id, &film.path)).collect();
        let shards: Vec<_> = films.chunks(self.films_per_shard).zip(wanted.chunks(self.films_per_shard)).collect();
        let mut indices = Vec::with_capacity(shards.len());
        for (number, (_, wanted)) in shards.iter().enumerate() {
            let index = self.shard(number).read_index(self.side).unwrap_or_else(|problem| {
                eprintln!("film store: {} is damaged: {problem}; made anew", self.shard(number).pixels.display());
                None
            });
            let missing = missing(index.as_ref(), wanted);
            let whole = missing == 0 && index.as_ref().is_some_and(|index| is_of(index, wanted));
            indices.push((index, missing, whole));
        }
        let missing: usize = indices.iter().map(|(_, missing, _)| missing).sum();
        if missing > 0 {
            let bytes = readable((films.len() * self.side * self.side) as u64);
            eprintln!(
                "films: {missing} of {} are decoded, once, into {} ({bytes} in all)",
                films.len(),
                self.folder.display()
            );
        }
        let mut progress = (missing > 0).then(|| StageProgress::new(NAME, 0, missing as u64, 1));
        let mut done = 0;
        let mut stored = Vec::with_capacity(films.len());
        for (number, ((films, wanted), (index, missing, whole))) in shards.into_iter().zip(indices).enumerate() {
            let index = match index {
                Some(index) if whole => index,
                // A shard is begun only where nobody asked to stop; the first one always, so that every start gets further.
                _ if done > 0 && stop.raised() => {
                    drop(progress);
                    eprintln!("films: what was decoded is kept; the same command goes on from there");
                    return Ok(None);
                }
                old => {
                    let decoded = |count: usize| {
                        if let Some(progress) = &mut progress {
                            progress.step((done + count) as u64, None);
                        }
                    };
                    let index = self.build(number, films, wanted, old, decoded)?;
                    done += missing;
                    index
                }
            };
            stored.extend(self.stored(number, &index));
        }
        self.remove_from(self.shards(films.len()));
        Ok(Some(stored))
    }

    /// Decodes the films of a shard that `old` has not, and writes it.
    fn build(
        &self,
        number: usize,
        films: &[&Film],
        wanted: &[io::Result<Identity>],
        old: Option<Index>,
        mut decoded: impl FnMut(usize),
    ) -> Result<Index, FilmError> {
        let (shard, area) = (self.shard(number), self.side * self.side);
        let places: HashMap<&Identity, (usize, &str)> = old
            .iter()
            .flat_map(Index::stored)
            .enumerate()
            .map(|(place, (film, digest))| (film, (place, digest)))
            .collect();
        let mut pixels = Vec::with_capacity(films.len() * area);
        let (mut entries, mut count, mut fresh) = (Vec::with_capacity(films.len()), 0, false);
        for (films, wanted) in films.chunks(CHUNK).zip(wanted.chunks(CHUNK)) {
            let read = films.par_iter().zip(wanted).map(|(film, wanted)| {
                let wanted = wanted.as_ref().map_err(ToString::to_string)?;
                let kept = places.get(wanted).and_then(|(place, digest)| {
                    shard.read(*place, area).ok().filter(|pixels| sha256(pixels) == *digest)
                });
                kept.map_or_else(|| decode(film, self.side).map(|pixels| (pixels, true)), |pixels| Ok((pixels, false)))
            });
            let read: Vec<Result<(Vec<u8>, bool), String>> = read.collect();
            let before = count;
            for ((film, wanted), read) in films.iter().zip(wanted).zip(read) {
                count += usize::from(!matches!(read, Ok((_, false))));
                fresh |= matches!(read, Ok((_, true)));
                let content = match read {
                    Ok((film, _)) => {
                        pixels.extend_from_slice(&film);
                        Content::Sha256(sha256(&film))
                    }
                    Err(problem) => Content::Problem(problem),
                };
                let gone = || Identity { id: film.id.clone(), bytes: 0, modified: 0 };
                entries.push(Entry { film: wanted.as_ref().map_or_else(|_| gone(), Identity::clone), content });
            }
            if count > before {
                decoded(count);
            }
        }
        let index = Index::new(self.side, entries);
        // Pixels that were damaged give the same list once they are decoded again.
        if fresh || old.is_none_or(|old| old != index) {
            shard.write(&index, &pixels).map_err(FilmError::Store)?;
        }
        Ok(index)
    }

    fn stored(&self, shard: usize, index: &Index) -> Vec<Stored> {
        let mut place = 0;
        let stored = index.films.iter().map(|entry| match &entry.content {
            Content::Sha256(sha256) => {
                place += 1;
                Stored::Pixels(Slot { shard, place: place - 1, sha256: sha256.clone() })
            }
            Content::Problem(problem) => Stored::Problem(problem.clone()),
        });
        stored.collect()
    }

    /// The fingerprint of the pixels that was kept for films and splits that have the checksum `films`.
    pub(super) fn kept_fingerprint(&self, films: &str) -> Option<String> {
        let kept: Fingerprint = serde_json::from_slice(&fs::read(self.fingerprint_path()).ok()?).ok()?;
        (kept.films == films).then_some(kept.pixels)
    }

    /// Keeps a fingerprint, under the lock of the folder as all that is written there.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn keep_fingerprint(&self, films: String, pixels: String) -> Result<(), FilmError> {
        let _lock = self.lock()?;
        let path = self.fingerprint_path();
        serde_json::to_vec(&Fingerprint { films, pixels })
            .map_err(io::Error::from)
            .and_then(|json| write_synced(&path, &json))
            .map_err(|error| FilmError::Store(named(&path, &error)))
    }

    fn fingerprint_path(&self) -> PathBuf {
        self.folder.join("fingerprint.json")
    }

    fn shard(&self, number: usize) -> Shard {
        Shard::new(&self.folder, number)
    }

    /// Removes the shards from `number` on: the manifest had more films once.
    fn remove_from(&self, number: usize) {
        for shard in (number..).map(|number| self.shard(number)).take_while(|shard| shard.index.exists()) {
            shard.set_aside();
            // What cannot be removed costs space, no truth.
            let _ = fs::remove_file(&shard.pixels);
        }
    }

    /// Waits until no other trainer fills this folder: it may be shared.
    fn lock(&self) -> Result<File, FilmError> {
        let path = self.folder.join("lock");
        let refused = |error| FilmError::Store(named(&path, &error));
        let lock = File::create(&path).map_err(refused)?;
        if lock.try_lock().is_err() {
            eprintln!("films: another trainer is at work in {}: waiting for it", self.folder.display());
            lock.lock().map_err(refused)?;
        }
        Ok(lock)
    }
}

/// How many of the films have no pixels in a list.
fn missing(index: Option<&Index>, wanted: &[io::Result<Identity>]) -> usize {
    let stored: HashSet<&Identity> = index.iter().flat_map(|index| index.stored()).map(|(film, _)| film).collect();
    wanted.iter().filter(|wanted| !wanted.as_ref().is_ok_and(|film| stored.contains(film))).count()
}

/// Whether a list is of these films, in their order.
fn is_of(index: &Index, wanted: &[io::Result<Identity>]) -> bool {
    index.films.len() == wanted.len()
        && index.films.iter().zip(wanted).all(|(entry, wanted)| wanted.as_ref().is_ok_and(|film| *film == entry.film))
}

/// The pixels of a film, or why it is no picture.
fn decode(film: &Film, side: usize) -> Result<Vec<u8>, String> {
    let bytes = fs::read(&film.path).map_err(|error| error.to_string())?;
    let picture = image::decode(&bytes, None, None, &DecodeLimits::default()).map_err(|error| error.to_string())?;
    let picture = image::prepare(&picture, side).map_err(|error| error.to_string())?;
    Ok(picture.pixels.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect())
}

// === impl FilmPixels ===

impl FilmPixels {
    /// The films in `slots` of `store`; on disk until [`hold`](Self::hold).
    pub(super) fn new(store: FilmStore, slots: Vec<Slot>) -> Self {
        Self { store, slots, held: None }
    }

    /// Holds the pixels of all films, one after another, in memory.
    pub(super) fn hold(&mut self, pixels: Vec<u8>) {
        self.held = Some(pixels);
    }

    /// Pixels of film `index`, row by row, 0 to 255.
    ///
    /// # Errors
    /// Where they cannot be read, or are not what was written: then the shard is made anew at the next start.
    pub fn film(&self, index: usize) -> Result<Cow<'_, [u8]>, FilmError> {
        let area = self.store.side * self.store.side;
        if let Some(held) = &self.held {
            return Ok(Cow::Borrowed(&held[index * area..(index + 1) * area]));
        }
        let slot = &self.slots[index];
        let shard = self.store.shard(slot.shard);
        let damaged = |problem: String| {
            shard.set_aside();
            FilmError::Damaged { shard: shard.pixels.clone(), problem }
        };
        let pixels = shard.read(slot.place, area).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::NotFound => damaged(error.to_string()),
            // A disk that does not answer may answer later.
            _ => FilmError::Store(named(&shard.pixels, &error)),
        })?;
        if sha256(&pixels) != slot.sha256 {
            return Err(damaged("its pixels are not those that were written".to_owned()));
        }
        Ok(Cow::Owned(pixels))
    }

    /// Checksums of the films' pixels.
    pub(super) fn checksums(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|slot| slot.sha256.as_str())
    }
}
