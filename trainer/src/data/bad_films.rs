//! Films that cannot be used: which, why, and what a run does about them.

use std::fmt;
use std::path::{Path, PathBuf};

use raygen_manifest::Film;
use serde::{Deserialize, Serialize};

use super::FilmError;

/// Films that a message names.
const NAMED: usize = 20;

/// What a run does where films are missing or are no pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBadFilms {
    /// It names them and stops.
    #[default]
    Stop,
    /// It names them and goes on without them.
    LeaveOut,
}

/// A film that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadFilm {
    /// The manifest's path of it.
    pub id: String,
    /// Where it should lie.
    #[serde(skip)]
    pub path: PathBuf,
    /// Its line in the manifest.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

/// Several of them; written as a list that names the first ones, and says how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadFilms(pub Vec<BadFilm>);

// === impl BadFilm ===

impl BadFilm {
    pub(super) fn new(film: &Film, reason: &str) -> Self {
        Self { id: film.id.clone(), path: film.path.clone(), line: film.line, reason: reason.to_owned() }
    }
}

// === impl BadFilms ===

impl BadFilms {
    /// Nothing where there is none, or where they are to be left out; of `of` films of `manifest`.
    ///
    /// # Errors
    /// All of them.
    pub(super) fn allowed(&self, on_bad_films: OnBadFilms, manifest: &Path, of: usize) -> Result<(), FilmError> {
        if self.0.is_empty() || on_bad_films == OnBadFilms::LeaveOut {
            return Ok(());
        }
        Err(FilmError::BadFilms { manifest: manifest.to_owned(), of, films: self.clone() })
    }
}

impl fmt::Display for BadFilms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for film in self.0.iter().take(NAMED) {
            write!(f, "\n  line {}: {}: {}", film.line, film.path.display(), film.reason)?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ones_are_named_and_the_rest_counted() {
        let film = |line| BadFilm {
            id: String::new(),
            path: format!("film-{line}.png").into(),
            line,
            reason: "is gone".to_owned(),
        };
        let text = BadFilms((2..25).map(film).collect()).to_string();
        assert!(
            text.starts_with("\n  line 2: film-2.png: is gone\n")
                && text.ends_with("film-21.png: is gone\n  and 3 more")
        );
        assert!(!BadFilms((2..22).map(film).collect()).to_string().contains("more"));
    }
}
