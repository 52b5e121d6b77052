//! The grids that the decoder is fine-tuned on: films of which the transformer filled in a part.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use raygen_model::model::{Condition, Model, Row};
use raygen_model::random::{Purpose, Randomness, shuffle};
use raygen_model::sampler::{SampleState, SamplingParams};

use crate::config::DecoderConfig;
use crate::data::told;
use crate::run::{Checkpoint, CheckpointError, Checkpoints, StageProgress};
use crate::stages::Stage;
use crate::stages::encode::Tokens;

/// Grids filled in at once.
const BATCH: usize = 8;

/// Grids of all films of a run.
pub(super) struct Grids {
    of_each: usize,
    positions: usize,
    ids: Vec<u16>,
}

// === impl Grids ===

impl Grids {
    /// The grid `number` of `film`, row by row.
    pub(super) fn grid(&self, film: usize, number: usize) -> &[u16] {
        let start = (film * self.of_each + number % self.of_each) * self.positions;
        &self.ids[start..start + self.positions]
    }

    /// The grids that `identity` tells from others: read where they were made before.
    pub(super) fn make(
        stage: &Stage<'_>,
        config: &DecoderConfig,
        model: &Model,
        tokens: &Tokens,
        identity: &str,
    ) -> Result<Self> {
        let of_each = config.grids as usize;
        let cache = Checkpoints::new(&stage.directory.stage("decoder").join("grids"), identity);
        let cached = match cache.latest(&Device::Cpu) {
            Ok(cached) => cached,
            Err(CheckpointError::OtherRun { .. } | CheckpointError::NoneWhole { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(mut checkpoint) = cached {
            let ids = checkpoint.take("grids").remove("ids").context("the cache of generated grids is empty")?;
            let ids = narrow(&ids.flatten_all()?.to_vec1()?)?;
            return Ok(Self { of_each, positions: tokens.positions, ids });
        }
        let ids = fill(stage, config, model, tokens)?;
        let tensor = Tensor::from_slice(&ids, (stage.films.len(), of_each, tokens.positions), &Device::Cpu)?;
        let group = BTreeMap::from([("ids".to_owned(), tensor)]);
        let groups = BTreeMap::from([("grids".to_owned(), group)]);
        cache.save(Checkpoint { step: 1, groups, ..Checkpoint::default() })?;
        Ok(Self { of_each, positions: tokens.positions, ids: narrow(&ids)? })
    }
}

fn fill(stage: &Stage<'_>, config: &DecoderConfig, model: &Model, tokens: &Tokens) -> Result<Vec<u32>> {
    let jobs: Vec<(usize, u32)> =
        (0..stage.films.len()).flat_map(|film| (0..config.grids).map(move |number| (film, number))).collect();
    let base =
        SamplingParams { step_count: config.sampling_steps, refinement: 0.0, ..stage.config.export.sampling.clone() };
    let mut progress = StageProgress::new("decoder: grids", 0, jobs.len() as u64, 1);
    let mut ids = Vec::with_capacity(jobs.len() * tokens.positions);
    for (done, jobs) in jobs.chunks(BATCH).enumerate() {
        let conditions: Vec<Condition> = jobs
            .iter()
            .map(|(film, _)| {
                let film = &stage.films.texts[*film];
                let view = Some(told(film.view)).filter(|view| model.info().knows_view(*view));
                Ok(model.condition_of_view(&model.tokenize(&film.impression)?, view)?)
            })
            .collect::<Result<_>>()?;
        let params: Vec<SamplingParams> = jobs
            .iter()
            .map(|(film, _)| SamplingParams { seed: stage.config.seed.wrapping_add(*film as u64), ..base.clone() })
            .collect();
        let mut states: Vec<SampleState> = jobs
            .iter()
            .map(|(film, number)| {
                let canvas = hide(tokens.grid(*film, 0), stage.config.seed, (*film, *number), config.masked, model);
                SampleState::from_canvas(canvas, model.info().mask_token_id, *number)
                    .with_width(model.info().grid_width)
            })
            .collect();
        let mut rows: Vec<Row<'_>> = conditions
            .iter()
            .zip(&params)
            .zip(&mut states)
            .map(|((condition, params), state)| Row { condition, negative: None, params, state })
            .collect();
        model.generate_rows(&mut rows)?;
        states.into_iter().for_each(|state| ids.extend(state.ids));
        progress.step((done * BATCH + jobs.len()) as u64, None);
    }
    Ok(ids)
}

/// Ids as they are kept: none is above what the token cache allows.
fn narrow(ids: &[u32]) -> Result<Vec<u16>> {
    ids.iter().map(|id| u16::try_from(*id).context("a token above 65,535")).collect()
}

/// A grid of which the share `masked` is hidden, at least one token.
fn hide(grid: &[u16], seed: u64, place: (usize, u32), masked: f64, model: &Model) -> Vec<u32> {
    let mut order: Vec<usize> = (0..grid.len()).collect();
    let mut stream = Randomness::new(seed, Purpose::EditMask).stream(place.0 as u64, u64::from(place.1));
    shuffle(&mut stream, &mut order);
    let count = ((grid.len() as f64 * masked).round() as usize).max(1);
    let mut canvas: Vec<u32> = grid.iter().map(|id| u32::from(*id)).collect();
    for position in order.into_iter().take(count) {
        canvas[position] = model.info().mask_token_id;
    }
    canvas
}
