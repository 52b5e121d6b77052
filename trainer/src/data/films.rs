//! The films of a run in memory: gray, square, 8 bits, in manifest order, with their impressions and splits.

use std::path::{Path, PathBuf};

use raygen_manifest::{Film, Labels, Manifest, ManifestError, Split, View};
use raygen_model::image::{self, DecodeLimits, ImageError};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::config::ViewChoice;

/// Why films could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A film cannot be read from disk.
    #[error("film {path}: {source}")]
    Read {
        /// The film.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A film is not a picture that can be decoded.
    #[error("film {path} (manifest line {line}): {source}; repair or remove it")]
    Decode {
        /// The film.
        path: PathBuf,
        /// Its line in the manifest.
        line: u64,
        /// Why.
        source: ImageError,
    },
    /// A split that training needs is empty.
    #[error("{manifest} has no film in split `{split}`; training needs at least one in `train` and one in `val`")]
    EmptySplit {
        /// The manifest.
        manifest: PathBuf,
        /// The split.
        split: &'static str,
    },
}

/// What is known of a film beside its pixels.
#[derive(Debug, Clone)]
pub struct FilmText {
    /// The manifest's path of it.
    pub id: String,
    /// Its impression; empty where it has none.
    pub impression: String,
    /// What it shows.
    pub labels: Labels,
    /// How it was taken, where that is known.
    pub view: Option<View>,
    /// Classes of which nobody can say whether it shows them.
    pub uncertain: Vec<String>,
}

/// The films of a manifest that a run takes: those of the splits `train` and `val` whose view is wanted. No pixel is read.
pub struct FilmList {
    /// In the manifest's order, each with its split.
    pub films: Vec<(Film, Split)>,
    /// How many lateral films were left out.
    pub lateral: usize,
    /// How many of other views were.
    pub other_views: usize,
    /// What a person should know of the manifest.
    pub notices: Vec<String>,
}

/// Films of a run, all of one size.
pub struct FilmSet {
    /// Side in pixels.
    pub side: usize,
    /// What is known of each film.
    pub texts: Vec<FilmText>,
    /// Indices of the films to learn from.
    pub train: Vec<usize>,
    /// Indices of the films to look at while choosing settings.
    pub val: Vec<usize>,
    /// SHA-256 over all pixels and splits: what the tokenizer learns from.
    pub pixels_fingerprint: String,
    /// SHA-256 over all impressions.
    pub texts_fingerprint: String,
    pixels: Vec<u8>,
}

// === impl FilmList ===

impl FilmList {
    /// Reads `manifest` and sees that its films of the wanted `views` are there.
    ///
    /// # Errors
    /// Names the manifest's line or the film that is wrong, or the split that is empty.
    pub fn read(manifest: &Path, views: &ViewChoice) -> Result<Self, FilmError> {
        let mut manifest = Manifest::read(manifest)?;
        // Splits first, over the whole manifest: a film that is left out may decide for the other films of its patient.
        let splits: Vec<Split> = manifest.films.iter().map(|film| manifest.split_of(film)).collect();
        let wanted = |film: &Film, split: Split| views.takes(film.view) && split != Split::Test;
        let left_out = manifest.films.iter().filter(|film| !views.takes(film.view));
        let (lateral, other_views): (Vec<_>, Vec<_>) = left_out.partition(|film| film.view == Some(View::Lateral));
        let (lateral, other_views) = (lateral.len(), other_views.len());
        let (kept, splits): (Vec<Film>, Vec<Split>) = std::mem::take(&mut manifest.films)
            .into_iter()
            .zip(splits)
            .filter(|(film, split)| wanted(film, *split))
            .unzip();
        manifest.films = kept;
        manifest.check_files()?;
        let notices = manifest.notices.iter().map(ToString::to_string).collect();
        let list = Self { films: manifest.films.into_iter().zip(splits).collect(), lateral, other_views, notices };
        for (split, name) in [(Split::Train, "train"), (Split::Val, "val")] {
            if list.of(split).next().is_none() {
                return Err(FilmError::EmptySplit { manifest: manifest.file, split: name });
            }
        }
        Ok(list)
    }

    /// The films of a split.
    pub fn of(&self, split: Split) -> impl Iterator<Item = &Film> {
        self.films.iter().filter(move |(_, of)| *of == split).map(|(film, _)| film)
    }
}

// === impl FilmSet ===

impl FilmSet {
    /// Reads the films of `manifest` whose view is wanted, at `side` pixels. Films of split `test` are never read.
    ///
    /// # Errors
    /// Names the manifest's line or the film that is wrong.
    pub fn load(manifest: &Path, side: usize, views: &ViewChoice) -> Result<Self, FilmError> {
        let list = FilmList::read(manifest, views)?;
        for notice in &list.notices {
            eprintln!("{notice}");
        }
        if list.lateral > 0 {
            eprintln!("{} lateral films are left out: the model is for frontal ones", list.lateral);
        }
        if list.other_views > 0 {
            eprintln!("{} films are left out: data.views does not list their view", list.other_views);
        }
        let films: Vec<(&Film, Split)> = list.films.iter().map(|(film, split)| (film, *split)).collect();
        let decoded: Vec<Vec<u8>> =
            films.par_iter().map(|(film, _)| read_film(film, side)).collect::<Result<_, _>>()?;
        let mut set = Self {
            side,
            texts: Vec::with_capacity(films.len()),
            train: Vec::new(),
            val: Vec::new(),
            pixels_fingerprint: String::new(),
            texts_fingerprint: String::new(),
            pixels: Vec::with_capacity(films.len() * side * side),
        };
        let (mut pixels_digest, mut texts_digest) = (Sha256::new(), Sha256::new());
        for (index, ((film, split), pixels)) in films.into_iter().zip(decoded).enumerate() {
            let impression = film.impression.clone().unwrap_or_default();
            pixels_digest.update(&pixels);
            pixels_digest.update(split.to_string());
            texts_digest.update(&impression);
            texts_digest.update([0]);
            set.pixels.extend_from_slice(&pixels);
            if split == Split::Train { &mut set.train } else { &mut set.val }.push(index);
            set.texts.push(FilmText {
                id: film.id.clone(),
                impression,
                labels: film.labels.clone(),
                uncertain: film.uncertain.clone(),
                view: film.view,
            });
        }
        set.pixels_fingerprint = hex(&pixels_digest.finalize());
        set.texts_fingerprint = hex(&texts_digest.finalize());
        Ok(set)
    }

    /// Films without a pixel for tests of what is known of them: so many to learn from, the rest to validate on.
    #[cfg(test)]
    pub(crate) fn of_texts(texts: Vec<FilmText>, train: usize) -> Self {
        let val = (train..texts.len()).collect();
        let (pixels_fingerprint, texts_fingerprint) = (String::new(), String::new());
        let train = (0..train).collect();
        Self { side: 0, texts, train, val, pixels_fingerprint, texts_fingerprint, pixels: Vec::new() }
    }

    /// Pixels of film `index`, row by row, 0 to 255.
    #[must_use]
    pub fn pixels(&self, index: usize) -> &[u8] {
        let area = self.side * self.side;
        &self.pixels[index * area..(index + 1) * area]
    }

    /// Number of films.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

fn read_film(film: &Film, side: usize) -> Result<Vec<u8>, FilmError> {
    let bytes = std::fs::read(&film.path).map_err(|source| FilmError::Read { path: film.path.clone(), source })?;
    let decode = |source| FilmError::Decode { path: film.path.clone(), line: film.line, source };
    let picture = image::decode(&bytes, None, None, &DecodeLimits::default()).map_err(decode)?;
    let picture = image::prepare(&picture, side).map_err(decode)?;
    Ok(picture.pixels.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
