//! Whether generated films are training films: synthetic patients must not be real ones.
//!
//! Each generated film is held against its nearest training film, in a space where copies are near: pixels
//! ([`nearest_pixels`]), tokens ([`nearest_tokens`]) or features ([`nearest_features`]). How near is too near is read from real
//! films that the model has not seen, held against the same training films (of other patients): [`judge`].

mod features;
mod pixels;
mod tokens;
mod verdict;

pub use self::features::{FeatureDistance, nearest_features};
pub use self::pixels::{Thumbnails, nearest_pixels};
pub use self::tokens::nearest_tokens;
pub use self::verdict::{Criteria, Memorisation, Suspect, Verdict, judge};

use crate::features::FeatureError;

/// The nearest training film of a film.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// Its place among the training films.
    pub index: usize,
    /// How far it is, in the units of the space.
    pub distance: f64,
}

/// Why memorisation cannot be judged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MemorisationError {
    /// Films of another patient are needed for each film.
    #[error("film {query} has no training film that it may be held against")]
    NoCandidate {
        /// The film.
        query: usize,
    },
    /// Tokens that do not fill grids.
    #[error("{found} tokens do not fill grids of {positions}")]
    Ragged {
        /// Tokens of a grid.
        positions: usize,
        /// Tokens given.
        found: usize,
    },
    /// Nothing to judge, or nothing to judge by.
    #[error("no {0}")]
    Nothing(&'static str),
    /// A distance is not a number.
    #[error("distance {index} of the {set} is not a number")]
    NotFinite {
        /// Of which films.
        set: &'static str,
        /// Its place.
        index: usize,
    },
    /// A criterion lies outside its range.
    #[error("{name} must be above 0 and below 1, got {found}")]
    Criterion {
        /// Its name.
        name: &'static str,
        /// What it is.
        found: f64,
    },
    /// Of the features.
    #[error(transparent)]
    Features(#[from] FeatureError),
}

/// The least of `distances` that is allowed, the first of equals; `None` if none is.
fn least<A>(distances: impl Iterator<Item = f64>, allowed: A) -> Option<Nearest>
where
    A: Fn(usize) -> bool,
{
    let mut best: Option<Nearest> = None;
    for (index, distance) in distances.enumerate() {
        if best.is_none_or(|best| distance < best.distance) && allowed(index) {
            best = Some(Nearest { index, distance });
        }
    }
    best
}

/// All of them, or which has none.
fn all_found(found: Vec<Option<Nearest>>) -> Result<Vec<Nearest>, MemorisationError> {
    let of_query = |(query, nearest): (usize, Option<Nearest>)| nearest.ok_or(MemorisationError::NoCandidate { query });
    found.into_iter().enumerate().map(of_query).collect()
}
