//! Stage `encode`: every film's token grids, computed once. The first view of a film is the film as it is, the others are shifted.

mod cache;

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::{DType, Tensor};

pub use self::cache::is_complete;
use self::cache::{Key, TokenCache};
use super::tokenizer::{Tokenizer, in_channels};
use super::{Stage, fingerprint};
use crate::data::{Ahead, random_shift, shifted};
use crate::run::{MetricsLog, StageProgress, Waits};

/// Films encoded at once.
const BATCH: usize = 16;
/// Its folder in the run directory.
pub const FOLDER: &str = "tokens";

/// Token grids of all films. Clones share them.
#[derive(Clone)]
pub struct Tokens {
    /// Views of each film.
    pub views: usize,
    /// Tokens of a grid.
    pub positions: usize,
    /// Tells these grids from others.
    pub fingerprint: String,
    /// Of each shard, film by film, view by view: all have so many films, the last one may have fewer.
    shards: Arc<[Vec<u16>]>,
    films_per_shard: usize,
}

impl Tokens {
    /// The grid of `film`, as view `view`, row by row.
    #[must_use]
    pub fn grid(&self, film: usize, view: usize) -> &[u16] {
        let (shard, film) = (film / self.films_per_shard, film % self.films_per_shard);
        let start = (film * self.views + view) * self.positions;
        &self.shards[shard][start..start + self.positions]
    }
}

/// The token grids of all films: read from the run directory where `tokenizer` made them before, encoded otherwise; `None` where
/// it was asked to stop before all were made.
///
/// # Errors
/// Where encoding fails or the cache cannot be written; what it holds stays.
pub fn tokens(stage: &Stage<'_>, tokenizer: &Tokenizer) -> Result<Option<Tokens>> {
    stage.reduce.once(|| read_or_made(stage, tokenizer))
}

fn read_or_made(stage: &Stage<'_>, tokenizer: &Tokenizer) -> Result<Option<Tokens>> {
    let config = &stage.config.encode;
    let positions = tokenizer.config.positions();
    let identity = fingerprint(&[
        "encode",
        &tokenizer.fingerprint,
        &stage.films.pixels_fingerprint,
        &format!("{} {} {}", config.views, config.shift, stage.config.seed),
    ]);
    let key = Key {
        fingerprint: identity.clone(),
        tokenizer: tokenizer.fingerprint.clone(),
        films: stage.films.pixels_fingerprint.clone(),
        image_size: stage.films.side,
        views: config.views,
        shift: config.shift,
        seed: stage.config.seed,
        positions,
        codebook_size: tokenizer.config.codebook_size,
    };
    let films = stage.films.texts.iter().map(|film| film.id.clone()).collect();
    let cache = TokenCache::open(&stage.directory.stage(FOLDER), key, films)?;
    let mut shards = Vec::with_capacity(cache.shards());
    for shard in 0..cache.shards() {
        shards.push(cache.read(shard)?);
    }
    let of = format!("({} films, {} views)", stage.films.len(), config.views);
    match shards.iter().filter(|shard| shard.is_none()).count() {
        0 => eprintln!("stage encode: up to date {of}"),
        missing if missing == shards.len() => eprintln!("stage encode: begins {of}"),
        missing => eprintln!("stage encode: resumes {of}, {missing} of {} shards are missing", shards.len()),
    }
    if !encode(stage, tokenizer, &cache, &mut shards)? {
        return Ok(None);
    }
    let (shards, films_per_shard) = (shards.into_iter().flatten().collect(), cache.films(0).len());
    Ok(Some(Tokens { views: config.views, positions, fingerprint: identity, shards, films_per_shard }))
}

/// Makes the shards that are missing; false where it was asked to stop before all were made.
fn encode(
    stage: &Stage<'_>,
    tokenizer: &Tokenizer,
    cache: &TokenCache,
    shards: &mut [Option<Vec<u16>>],
) -> Result<bool> {
    let missing: Vec<usize> = (0..shards.len()).filter(|shard| shards[*shard].is_none()).collect();
    let batches: Vec<Vec<Range<usize>>> = missing.iter().map(|shard| batches(cache, *shard, stage)).collect();
    let count: usize = batches.iter().map(Vec::len).sum();
    if count == 0 {
        return Ok(true);
    }
    let mut progress = StageProgress::new("encode", 0, count as u64, BATCH);
    let mut films = ahead(stage, batches.iter().flatten().cloned().collect())?;
    let mut metrics = MetricsLog::open(&stage.directory.stage(FOLDER), u64::MAX)?;
    let (mut all, mut done) = (Waits::default(), 0);
    let side = stage.films.side;
    for (turn, (shard, batches)) in missing.iter().zip(&batches).enumerate() {
        // The first one is made whatever is asked, so that every start gets further.
        if turn > 0 && stage.stop.raised() {
            progress.say("encode: the shards that are made are kept; the same command goes on from there");
            return Ok(false);
        }
        let mut waits = Waits::default();
        let mut ids = Vec::with_capacity(cache.films(*shard).len() * stage.config.encode.views);
        for batch in batches {
            let pixels = waits.data(|| films.take(done))?;
            let gray = Tensor::from_vec(pixels, (batch.len(), 1, side, side), stage.device)?;
            let images = in_channels(gray, tokenizer.config.in_channels)?;
            let tokens = tokenizer.network.encode(&images)?.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
            for token in tokens {
                ids.push(u16::try_from(token).with_context(|| format!("token {token} does not fit 16 bits"))?);
            }
            waits.step_ended();
            done += 1;
            progress.step(done, None);
        }
        cache.write(*shard, &ids)?;
        let values = [("films", cache.films(*shard).len() as f64), ("data_wait", waits.share().unwrap_or(0.0))];
        metrics.write(*shard as u64 + 1, "encode", &values)?;
        all.add(&waits);
        shards[*shard] = Some(ids);
    }
    if let Some(share) = all.share() {
        progress.say(&format!("encode: the steps waited {:.1} % of their time for films", 100.0 * share));
    }
    Ok(true)
}

/// The grids of a shard, [`BATCH`] at a time: a grid is a film times the views, plus the view.
fn batches(cache: &TokenCache, shard: usize, stage: &Stage<'_>) -> Vec<Range<usize>> {
    let (films, views) = (cache.films(shard), stage.config.encode.views);
    let (first, end) = (films.start * views, films.end * views);
    (first..end).step_by(BATCH).map(|grid| grid..end.min(grid + BATCH)).collect()
}

/// Loads and shifts the films of each batch of grids, ahead of its turn.
fn ahead(stage: &Stage<'_>, batches: Vec<Range<usize>>) -> Result<Ahead<Vec<f32>>> {
    let films = stage.films.shared_pixels();
    let (side, seed, config) = (stage.films.side, stage.config.seed, stage.config.encode.clone());
    let batches = Arc::new(batches);
    Ok(Ahead::new(0, batches.len() as u64, move |turn| {
        let batch = batches[turn as usize].clone();
        let mut pixels = Vec::with_capacity(batch.len() * side * side);
        for grid in batch {
            let (film, view) = (grid / config.views, grid % config.views);
            let shift = if view == 0 {
                (0, 0)
            } else {
                // Views are drawn as epochs that training never reaches, so that they differ from the tokenizer's own shifts.
                random_shift(seed, film, u64::MAX - view as u64, config.shift)
            };
            shifted(&films.film(film)?, side, shift, &mut pixels);
        }
        Ok(pixels)
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_found_in_its_shard() {
        let fingerprint = String::new();
        let shards = Arc::from([(0..12).collect::<Vec<u16>>(), (12..18).collect()]);
        let tokens = Tokens { views: 2, positions: 3, fingerprint, shards, films_per_shard: 2 };
        assert_eq!([tokens.grid(0, 0), tokens.grid(1, 1), tokens.grid(2, 1)], [[0, 1, 2], [9, 10, 11], [15, 16, 17]]);
    }
}
