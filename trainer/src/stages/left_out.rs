//! The record of films that a run leaves out because they cannot be used: `left_out.json` in the run directory.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::data::{BadFilm, BadFilms};
use crate::run::disk::{named, write_synced};

/// Writes the record, and says so where it has changed since the last start: then what was trained belongs to other films.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn record(path: &Path, films: &BadFilms) -> Result<()> {
    let before: Option<Vec<BadFilm>> = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let ids = |films: &[BadFilm]| films.iter().map(|film| film.id.clone()).collect::<Vec<_>>();
    if before.is_some_and(|before| ids(&before) != ids(&films.0)) {
        eprintln!(
            "the films that are left out are not those of the last start; stages that began with others cannot go on"
        );
    }
    let json = serde_json::to_vec_pretty(&films.0)?;
    write_synced(path, &json).map_err(|error| named(path, &error)).context("the films that are left out")
}
