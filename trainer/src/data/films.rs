//! The films of a run: gray, square, 8 bits, in manifest order, with their impressions and splits. Small sets are held in
//! memory, large ones are read from the store of decoded films as they are needed.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raygen_manifest::{Film, Labels, Manifest, ManifestError, Split, View};
use raygen_model::image::ImageError;
use sha2::{Digest, Sha256};

use super::bad_films::{BadFilm, BadFilms, OnBadFilms};
use super::store::{FilmPixels, FilmStore, Stored};
use crate::config::ViewChoice;
use crate::run::StopSignal;
use crate::run::disk::{hex, sha256};

/// Why films could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FilmError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Films are missing or are no pictures.
    #[error(
        "{} of {manifest}'s {of} films cannot be used; repair or remove them, or set data.bad_films = \"leave_out\":{films}",
        films.0.len()
    )]
    BadFilms {
        /// The manifest.
        manifest: PathBuf,
        /// Films of the run.
        of: usize,
        /// The bad ones.
        films: BadFilms,
    },
    /// The store of decoded films cannot be read or written.
    #[error("film store: {0}")]
    Store(io::Error),
    /// The store of decoded films is not what was written.
    #[error("film store: {shard} is damaged: {problem}; it was set aside: the same command makes it anew and goes on")]
    Damaged {
        /// The shard.
        shard: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A film cannot be made what a network reads.
    #[error("a film cannot be made ready for a network: {0}")]
    Prepare(#[from] ImageError),
    /// The system gives no thread to load films on.
    #[error("the films cannot be loaded: {0}")]
    Thread(io::Error),
    /// The thread that loads films is gone.
    #[error("the thread that loads films ended without an error of its own: this is a fault of the program")]
    LoaderEnded,
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
    /// Films that are not there, left out too.
    pub missing: BadFilms,
    /// What a person should know of the manifest.
    pub notices: Vec<String>,
}

/// Where films come from and how they are held.
#[derive(Debug, Clone)]
pub struct FilmSource {
    /// The manifest.
    pub manifest: PathBuf,
    /// Side of the square pictures, in pixels.
    pub side: usize,
    /// Films of which views.
    pub views: ViewChoice,
    /// The folder of decoded films.
    pub store: PathBuf,
    /// Films that have no more bytes than this are held in memory.
    pub memory_limit: u64,
    /// What to do about films that are missing or are no pictures.
    pub on_bad_films: OnBadFilms,
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
    /// Films that were left out because they are missing or are no pictures.
    pub left_out: BadFilms,
    pixels: Arc<FilmPixels>,
}

// === impl FilmList ===

impl FilmList {
    /// Reads `manifest` and sees which of its films of the wanted `views` are there.
    ///
    /// # Errors
    /// Names the manifest's line that is wrong, the films that are missing where that is to stop a run, or the split that is
    /// empty.
    pub fn read(manifest: &Path, views: &ViewChoice, on_bad_films: OnBadFilms) -> Result<Self, FilmError> {
        let mut manifest = Manifest::read(manifest)?;
        // Splits first, over the whole manifest: a film that is left out may decide for the other films of its patient.
        let splits: Vec<Split> = manifest.films.iter().map(|film| manifest.split_of(film)).collect();
        let wanted = |film: &Film, split: Split| views.takes(film.view) && split != Split::Test;
        let left_out = manifest.films.iter().filter(|film| !views.takes(film.view));
        let (lateral, other_views): (Vec<_>, Vec<_>) = left_out.partition(|film| film.view == Some(View::Lateral));
        let (lateral, other_views) = (lateral.len(), other_views.len());
        let wanted: Vec<(Film, Split)> = std::mem::take(&mut manifest.films)
            .into_iter()
            .zip(splits)
            .filter(|(film, split)| wanted(film, *split))
            .collect();
        let count = wanted.len();
        let (films, missing): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|(film, _)| film.path.is_file());
        let missing = BadFilms(missing.iter().map(|(film, _)| BadFilm::new(film, "there is no such file")).collect());
        missing.allowed(on_bad_films, &manifest.file, count)?;
        let notices = manifest.notices.iter().map(ToString::to_string).collect();
        let list = Self { films, lateral, other_views, missing, notices };
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
    /// The films of `source`. Those that its store has not are decoded into it first; `None` where `stop` was raised before all
    /// were. Films of split `test` are never read.
    ///
    /// # Errors
    /// Names the manifest's line or the films that are wrong, or the file that cannot be written.
    pub fn open(source: &FilmSource, stop: &StopSignal) -> Result<Option<Self>, FilmError> {
        let list = FilmList::read(&source.manifest, &source.views, source.on_bad_films)?;
        for notice in &list.notices {
            eprintln!("{notice}");
        }
        if list.lateral > 0 {
            eprintln!("{} lateral films are left out: the model is for frontal ones", list.lateral);
        }
        if list.other_views > 0 {
            eprintln!("{} films are left out: data.views does not list their view", list.other_views);
        }
        let store = FilmStore::new(&source.store, source.side);
        let films: Vec<&Film> = list.films.iter().map(|(film, _)| film).collect();
        // Each damaged shard is made anew once; a disk that damages it again is not to be trusted.
        let mut attempts = store.shards(films.len());
        loop {
            let Some(stored) = store.fill(&films, stop)? else { return Ok(None) };
            match Self::take(source, &list, &store, stored) {
                Err(error @ FilmError::Damaged { .. }) if attempts > 0 => eprintln!("{error}"),
                other => return other.map(Some),
            }
            attempts -= 1;
        }
    }

    /// The films that `store` has, which are read where they are held, or where their fingerprint is not known yet.
    fn take(source: &FilmSource, list: &FilmList, store: &FilmStore, stored: Vec<Stored>) -> Result<Self, FilmError> {
        let mut left_out = list.missing.clone();
        let (mut texts, mut train, mut val) = (Vec::with_capacity(stored.len()), Vec::new(), Vec::new());
        let (mut slots, mut splits) = (Vec::with_capacity(stored.len()), Vec::with_capacity(stored.len()));
        let mut texts_digest = Sha256::new();
        for ((film, split), stored) in list.films.iter().zip(stored) {
            match stored {
                Stored::Problem(problem) => left_out.0.push(BadFilm::new(film, &problem)),
                Stored::Pixels(slot) => {
                    let impression = film.impression.clone().unwrap_or_default();
                    texts_digest.update(&impression);
                    texts_digest.update([0]);
                    if *split == Split::Train { &mut train } else { &mut val }.push(texts.len());
                    texts.push(FilmText {
                        id: film.id.clone(),
                        impression,
                        labels: film.labels.clone(),
                        uncertain: film.uncertain.clone(),
                        view: film.view,
                    });
                    slots.push(slot);
                    splits.push(split.to_string());
                }
            }
        }
        left_out.0.sort_by_key(|film| film.line);
        left_out.allowed(source.on_bad_films, &source.manifest, list.films.len() + list.missing.0.len())?;
        for (films, split) in [(&train, "train"), (&val, "val")] {
            if films.is_empty() {
                return Err(FilmError::EmptySplit { manifest: source.manifest.clone(), split });
            }
        }
        if !left_out.0.is_empty() {
            eprintln!("{} films are left out, because they cannot be used:{left_out}", left_out.0.len());
        }
        let mut pixels = FilmPixels::new(store.clone(), slots);
        let checksums: String = pixels.checksums().zip(&splits).flat_map(|(sum, split)| [sum, split]).collect();
        let checksums = sha256(checksums.as_bytes());
        let kept = store.kept_fingerprint(&checksums);
        let bytes = texts.len() as u64 * (source.side as u64).pow(2);
        let held = bytes <= source.memory_limit;
        let mut all = Vec::with_capacity(if held { texts.len() * source.side * source.side } else { 0 });
        let mut digest = Sha256::new();
        if held || kept.is_none() {
            for (index, split) in splits.iter().enumerate() {
                let film = pixels.film(index)?;
                if kept.is_none() {
                    digest.update(&film);
                    digest.update(split);
                }
                if held {
                    all.extend_from_slice(&film);
                }
            }
        }
        let pixels_fingerprint = match kept {
            Some(kept) => kept,
            None => {
                let fingerprint = hex(&digest.finalize());
                store.keep_fingerprint(checksums, fingerprint.clone())?;
                fingerprint
            }
        };
        if held {
            pixels.hold(all);
        }
        Ok(Self {
            side: source.side,
            texts,
            train,
            val,
            pixels_fingerprint,
            texts_fingerprint: hex(&texts_digest.finalize()),
            left_out,
            pixels: Arc::new(pixels),
        })
    }

    /// Films without a pixel for tests of what is known of them: so many to learn from, the rest to validate on.
    #[cfg(test)]
    pub(crate) fn of_texts(texts: Vec<FilmText>, train: usize) -> Self {
        let val = (train..texts.len()).collect();
        let (pixels_fingerprint, texts_fingerprint) = (String::new(), String::new());
        let train = (0..train).collect();
        let left_out = BadFilms::default();
        let pixels = Arc::new(FilmPixels::new(FilmStore::new(Path::new(""), 0), Vec::new()));
        Self { side: 0, texts, train, val, pixels_fingerprint, texts_fingerprint, left_out, pixels }
    }

    /// Pixels of film `index`, row by row, 0 to 255.
    ///
    /// # Errors
    /// Where the store of decoded films cannot be read.
    pub fn pixels(&self, index: usize) -> Result<Cow<'_, [u8]>, FilmError> {
        self.pixels.film(index)
    }

    /// The pixels alone, for a thread that loads them.
    #[must_use]
    pub fn shared_pixels(&self) -> Arc<FilmPixels> {
        Arc::clone(&self.pixels)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// A film of 4 x 4 pixels of one gray.
    fn gray_film(path: &Path, gray: u8) {
        let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 4, 4);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&[gray; 16]).unwrap();
    }

    /// Six films, the last two for validation.
    fn source(folder: &Path) -> FilmSource {
        let mut manifest = "path,split,patient,impression\n".to_owned();
        for film in 0..6u8 {
            gray_film(&folder.join(format!("film-{film}.png")), 40 * film);
            let split = if film < 4 { "train" } else { "val" };
            manifest.push_str(&format!("film-{film}.png,{split},p{film},Text {film}.\n"));
        }
        fs::write(folder.join("manifest.csv"), manifest).unwrap();
        FilmSource {
            manifest: folder.join("manifest.csv"),
            side: 4,
            views: ViewChoice::default(),
            store: folder.join("store"),
            memory_limit: u64::MAX,
            on_bad_films: OnBadFilms::Stop,
        }
    }

    fn open(source: &FilmSource) -> Result<FilmSet, FilmError> {
        FilmSet::open(source, &StopSignal::default()).map(Option::unwrap)
    }

    #[test]
    fn films_held_and_films_on_disk_are_the_same_films_with_the_fingerprint_of_old() {
        let folder = tempfile::tempdir().unwrap();
        let held = source(folder.path());
        // What runs are told apart by since the first one: all pixels, each film's followed by its split.
        let mut digest = Sha256::new();
        for film in 0..6u8 {
            digest.update([40 * film; 16]);
            digest.update(if film < 4 { "train" } else { "val" });
        }
        let fingerprint = hex(&digest.finalize());
        let on_disk = FilmSource { memory_limit: 6 * 16 - 1, ..held.clone() };
        for source in [&held, &on_disk, &held, &on_disk] {
            let films = open(source).unwrap();
            assert_eq!(films.pixels_fingerprint, fingerprint);
            assert_eq!((films.train.as_slice(), films.val.as_slice()), (&[0, 1, 2, 3][..], &[4, 5][..]));
            for film in 0..6 {
                assert_eq!(films.pixels(film).unwrap().as_ref(), [40 * film as u8; 16]);
            }
            let held = matches!(films.pixels(0).unwrap(), Cow::Borrowed(_));
            assert_eq!(held, source.memory_limit == u64::MAX);
        }
    }

    #[test]
    fn every_bad_film_is_named_or_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let stop = source(folder.path());
        let whole = open(&stop).unwrap();
        fs::write(folder.path().join("film-1.png"), "no picture").unwrap();
        fs::write(folder.path().join("film-4.png"), "nor this").unwrap();
        let error = open(&stop).err().unwrap().to_string();
        for part in ["2 of ", "'s 6 films", "line 3: ", "film-1.png", "line 6: ", "film-4.png", "data.bad_films"] {
            assert!(error.contains(part), "{error}");
        }
        let leave_out = FilmSource { on_bad_films: OnBadFilms::LeaveOut, ..stop.clone() };
        fs::remove_file(folder.path().join("film-0.png")).unwrap();
        let films = open(&leave_out).unwrap();
        let ids = |films: &[BadFilm]| films.iter().map(|film| film.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&films.left_out.0), ["film-0.png", "film-1.png", "film-4.png"]);
        let texts: Vec<&str> = films.texts.iter().map(|film| film.impression.as_str()).collect();
        assert_eq!(texts, ["Text 2.", "Text 3.", "Text 5."]);
        assert_eq!((films.train, films.val), (vec![0, 1], vec![2]));
        assert_ne!(films.pixels_fingerprint, whole.pixels_fingerprint);
        let error = open(&stop).err().unwrap().to_string();
        assert!(error.contains("line 2: ") && error.contains("no such file"), "{error}");
        fs::write(folder.path().join("film-5.png"), "the last of its split").unwrap();
        assert!(matches!(open(&leave_out), Err(FilmError::EmptySplit { split: "val", .. })));
    }

    #[test]
    fn an_altered_shard_is_made_anew_when_the_films_are_taken_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        let fingerprint = open(&source).unwrap().pixels_fingerprint;
        let shard = folder.path().join("store/shard-00000.u8");
        let whole = fs::read(&shard).unwrap();
        let mut altered = whole.clone();
        altered[20] ^= 1;
        fs::write(&shard, altered).unwrap();
        assert_eq!(open(&source).unwrap().pixels_fingerprint, fingerprint);
        assert_eq!(fs::read(&shard).unwrap(), whole);
    }
}
