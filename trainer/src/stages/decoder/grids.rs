//! The grids that the decoder is fine-tuned on: films of which the transformer filled in a part.

use std::collections::BTreeMap;
use std::sync::Arc;

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
/// How often the grids are saved while they are made.
const SAVES: usize = 50;

/// Grids of all films of a run. Clones share them.
#[derive(Clone)]
pub(super) struct Grids {
    of_each: usize,
    positions: usize,
    ids: Arc<Vec<u16>>,
}

// === impl Grids ===

impl Grids {
    /// The grid `number` of `film`, row by row.
    pub(super) fn grid(&self, film: usize, number: usize) -> &[u16] {
        let start = (film * self.of_each + number % self.of_each) * self.positions;
        &self.ids[start..start + self.positions]
    }

    /// The grids that `identity` tells from others, going on where an earlier start stopped; none where it is asked to stop.
    pub(super) fn make(
        stage: &Stage<'_>,
        config: &DecoderConfig,
        model: &Model,
        tokens: &Tokens,
        identity: &str,
    ) -> Result<Option<Self>> {
        let jobs: Vec<(usize, u32)> =
            (0..stage.films.len()).flat_map(|film| (0..config.grids).map(move |number| (film, number))).collect();
        let cache = Checkpoints::new(&stage.directory.stage("decoder").join("grids"), identity).keeping(1);
        let mut ids = match cache.latest(&Device::Cpu) {
            Ok(None) => Vec::new(),
            Ok(Some(mut checkpoint)) => {
                let ids = checkpoint.take("grids").remove("ids").context("the cache of generated grids is empty")?;
                narrow(&ids.flatten_all()?.to_vec1()?)?
            }
            // Grids of another model, or damaged ones: made anew.
            Err(CheckpointError::OtherRun { .. } | CheckpointError::NoneWhole { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut done = ids.len() / tokens.positions;
        let mut progress = StageProgress::new("decoder: grids", done as u64, jobs.len() as u64, 1);
        // What is saved is saved whole each time: often enough to lose little, and not more often than that.
        let every = jobs.len().div_ceil(SAVES).next_multiple_of(BATCH);
        while done < jobs.len() {
            let batch = &jobs[done..jobs.len().min(done + BATCH)];
            ids.extend(narrow(&fill(stage, config, model, tokens, batch)?)?);
            done += batch.len();
            progress.step(done as u64, None);
            let stopping = stage.stop.raised();
            if done.is_multiple_of(every) || done == jobs.len() || stopping {
                let wide: Vec<u32> = ids.iter().map(|id| u32::from(*id)).collect();
                let group = BTreeMap::from([("ids".to_owned(), Tensor::from_vec(wide, ids.len(), &Device::Cpu)?)]);
                let groups = BTreeMap::from([("grids".to_owned(), group)]);
                cache.save(Checkpoint { step: done as u64, groups, ..Checkpoint::default() })?;
            }
            if stopping && done < jobs.len() {
                eprintln!("decoder: {done} of {} grids are there; the same command goes on", jobs.len());
                return Ok(None);
            }
        }
        Ok(Some(Self { of_each: config.grids as usize, positions: tokens.positions, ids: Arc::new(ids) }))
    }
}

/// The grids of some films and numbers, one after another.
fn fill(
    stage: &Stage<'_>,
    config: &DecoderConfig,
    model: &Model,
    tokens: &Tokens,
    jobs: &[(usize, u32)],
) -> Result<Vec<u32>> {
    let base =
        SamplingParams { step_count: config.sampling_steps, refinement: 0.0, ..stage.config.export.sampling.clone() };
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
            SampleState::from_canvas(canvas, model.info().mask_token_id, *number).with_width(model.info().grid_width)
        })
        .collect();
    let mut rows: Vec<Row<'_>> = conditions
        .iter()
        .zip(&params)
        .zip(&mut states)
        .map(|((condition, params), state)| Row { condition, negative: None, params, state })
        .collect();
    model.generate_rows(&mut rows)?;
    Ok(states.into_iter().flat_map(|state| state.ids).collect())
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
