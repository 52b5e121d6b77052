//! One step over all running rows of one model, and the decoding of grids; a row that fails, fails alone.

use rayon::prelude::*;

use raygen_model::image::Picture;
use raygen_model::sampler::{SampleState, SamplingError, SamplingParams, advance, combine};

use super::error::EngineError;
use super::model::{LoadedModel, ModelFault, ModelRow};

/// Grids decoded at once.
const DECODE_BATCH: usize = 4;

/// What one row brings to a step.
pub(super) struct StepRow<'a> {
    pub(super) state: SampleState,
    pub(super) params: &'a SamplingParams,
    pub(super) condition: &'a super::model::Condition,
    /// Scale and condition of the guidance row, if any.
    pub(super) guidance: Option<(f32, &'a super::model::Condition)>,
}

/// Takes one step with every row; returns the new states in the order of the rows, and the number of rows computed.
pub(super) fn step(model: &LoadedModel, rows: Vec<StepRow<'_>>) -> (Vec<Result<SampleState, EngineError>>, usize) {
    // Conditional rows first, then the guidance rows of those that have one.
    let mut batch: Vec<ModelRow<'_>> = rows.iter().map(|row| (row.state.ids.as_slice(), row.condition)).collect();
    let mut guides = Vec::with_capacity(rows.len());
    for row in &rows {
        guides.push(row.guidance.map(|(scale, condition)| {
            batch.push((row.state.ids.as_slice(), condition));
            (scale, batch.len() - 1)
        }));
    }
    let computed = batch.len();
    let logits = logits_of_each(model, &batch);
    drop(batch);
    let states =
        rows.into_par_iter().enumerate().map(|(place, row)| advance_row(row, &logits, place, guides[place])).collect();
    (states, computed)
}

fn advance_row(
    mut row: StepRow<'_>,
    logits: &[Result<Vec<f32>, ModelFault>],
    place: usize,
    guide: Option<(f32, usize)>,
) -> Result<SampleState, EngineError> {
    let of = |index: usize| logits[index].as_ref().map_err(|fault| EngineError::from(fault.clone()));
    let with = of(place)?;
    let advanced = match guide {
        None => advance(&mut row.state, row.params, with),
        Some((scale, index)) => advance(&mut row.state, row.params, &combine(with, of(index)?, scale)),
    };
    match advanced {
        Ok(()) => Ok(row.state),
        Err(SamplingError::NotFinite { step, .. }) => Err(EngineError::Numeric { step: Some(step + 1) }),
        Err(error) => Err(EngineError::Model { detail: error.to_string() }),
    }
}

/// The logits of each row. When the batch fails, each row is tried alone, so that only the bad one fails.
fn logits_of_each(model: &LoadedModel, batch: &[ModelRow<'_>]) -> Vec<Result<Vec<f32>, ModelFault>> {
    match model.model.logits(batch) {
        Ok(logits) if logits.len() == batch.len() => logits.into_iter().map(Ok).collect(),
        Ok(logits) => {
            let fault = ModelFault::Failed(format!("{} rows of logits came for {} rows", logits.len(), batch.len()));
            vec![Err(fault); batch.len()]
        }
        // Nothing will be computed on a lost device, for no row.
        Err(fault @ ModelFault::DeviceLost(_)) => vec![Err(fault); batch.len()],
        Err(fault) if batch.len() == 1 => vec![Err(fault)],
        Err(_) => batch.iter().flat_map(|row| logits_of_each(model, std::slice::from_ref(row))).collect(),
    }
}

/// The picture of each grid. When a batch fails, each grid is tried alone.
pub(super) fn decode_each(model: &LoadedModel, grids: &[&[u32]]) -> Vec<Result<Picture, EngineError>> {
    grids.chunks(DECODE_BATCH).flat_map(|batch| decode_batch(model, batch)).collect()
}

fn decode_batch(model: &LoadedModel, batch: &[&[u32]]) -> Vec<Result<Picture, EngineError>> {
    match model.model.decode(batch) {
        Ok(pictures) if pictures.len() == batch.len() => pictures.into_iter().map(finite).collect(),
        Ok(pictures) => {
            let detail = format!("{} pictures came for {} grids", pictures.len(), batch.len());
            vec![Err(EngineError::Model { detail }); batch.len()]
        }
        Err(fault @ ModelFault::DeviceLost(_)) => vec![Err(fault.into()); batch.len()],
        Err(fault) if batch.len() == 1 => vec![Err(fault.into())],
        Err(_) => batch.iter().flat_map(|grid| decode_batch(model, std::slice::from_ref(grid))).collect(),
    }
}

fn finite(picture: Picture) -> Result<Picture, EngineError> {
    if picture.pixels.iter().all(|pixel| pixel.is_finite()) {
        Ok(picture)
    } else {
        Err(EngineError::Numeric { step: None })
    }
}
