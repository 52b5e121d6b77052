//! Stage `encode`: every film's token grids, computed once. The first view of a film is the film as it is, the others are shifted.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

use super::tokenizer::{Tokenizer, in_channels};
use super::{Stage, fingerprint};
use crate::data::{random_shift, shifted};
use crate::run::{Checkpoint, CheckpointError, Checkpoints, StageProgress};

/// Films encoded at once.
const BATCH: usize = 16;

/// Token grids of all films.
pub struct Tokens {
    /// Views of each film.
    pub views: usize,
    /// Tokens of a grid.
    pub positions: usize,
    /// Tells these grids from others.
    pub fingerprint: String,
    ids: Vec<u32>,
}

impl Tokens {
    /// The grid of `film`, as view `view`, row by row.
    #[must_use]
    pub fn grid(&self, film: usize, view: usize) -> &[u32] {
        let start = (film * self.views + view) * self.positions;
        &self.ids[start..start + self.positions]
    }
}

/// The token grids of all films: read from the run directory where `tokenizer` made them before, encoded otherwise.
///
/// # Errors
/// Where encoding fails or the cache cannot be written.
pub fn tokens(stage: &Stage<'_>, tokenizer: &Tokenizer) -> Result<Tokens> {
    let config = &stage.config.encode;
    let positions = tokenizer.config.positions();
    let identity = fingerprint(&[
        "encode",
        &tokenizer.fingerprint,
        &stage.films.pixels_fingerprint,
        &format!("{} {} {}", config.views, config.shift, stage.config.seed),
    ]);
    let cache = Checkpoints::new(&stage.directory.stage("tokens"), &identity);
    let cached = match cache.latest(&candle_core::Device::Cpu) {
        Ok(cached) => cached,
        // Grids of another tokenizer, or damaged ones: made anew, they are cheap.
        Err(CheckpointError::OtherRun { .. } | CheckpointError::NoneWhole { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let ids = match cached {
        Some(mut checkpoint) => {
            eprintln!("stage encode: up to date ({} films, {} views)", stage.films.len(), config.views);
            let mut group = checkpoint.take("tokens");
            let tensor = group.remove("ids").context("the token cache has no tensor `ids`; delete it")?;
            tensor.flatten_all()?.to_vec1::<u32>()?
        }
        None => {
            eprintln!("stage encode: begins ({} films, {} views)", stage.films.len(), config.views);
            let ids = encode(stage, tokenizer)?;
            let tensor =
                Tensor::from_slice(&ids, (stage.films.len(), config.views, positions), &candle_core::Device::Cpu)?;
            let group = BTreeMap::from([("ids".to_owned(), tensor)]);
            cache.save(Checkpoint {
                step: 1,
                groups: BTreeMap::from([("tokens".to_owned(), group)]),
                ..Checkpoint::default()
            })?;
            ids
        }
    };
    Ok(Tokens { views: config.views, positions, fingerprint: identity, ids })
}

fn encode(stage: &Stage<'_>, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let config = &stage.config.encode;
    let films = stage.films;
    let side = films.side;
    let grids: Vec<(usize, usize)> =
        (0..films.len()).flat_map(|film| (0..config.views).map(move |view| (film, view))).collect();
    let batches = grids.chunks(BATCH);
    let mut progress = StageProgress::new("encode", 0, batches.len() as u64, BATCH);
    let mut ids = Vec::with_capacity(grids.len() * tokenizer.config.positions());
    for (done, batch) in batches.enumerate() {
        let mut pixels = Vec::with_capacity(batch.len() * side * side);
        for (film, view) in batch {
            let shift = if *view == 0 {
                (0, 0)
            } else {
                // Views are drawn as epochs that training never reaches, so that they differ from the tokenizer's own shifts.
                random_shift(stage.config.seed, *film, u64::MAX - *view as u64, config.shift)
            };
            shifted(films.pixels(*film), side, shift, &mut pixels);
        }
        let gray = Tensor::from_vec(pixels, (batch.len(), 1, side, side), stage.device)?;
        let images = in_channels(gray, tokenizer.config.in_channels)?;
        ids.extend(tokenizer.network.encode(&images)?.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?);
        progress.step(done as u64 + 1, None);
    }
    Ok(ids)
}
