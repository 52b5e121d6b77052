//! One step over all running rows of one model, and the decoding of grids; a row that fails, fails alone.

use rayon::prelude::*;

use raygen_model::image::Picture;
use raygen_model::sampler::{SampleState, SamplingError, SamplingParams, advance, combine};

use super::error::EngineError;
use super::model::{BatchLimit, LoadedModel, ModelFault, ModelRow};

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

/// The logits of each row, in batches of as many rows as are known to fit.
fn logits_of_each(model: &LoadedModel, batch: &[ModelRow<'_>]) -> Vec<Result<Vec<f32>, ModelFault>> {
    in_batches(batch, &model.step_rows, &model.name, "rows of a step", &|rows| model.model.logits(rows))
}

/// The picture of each grid.
pub(super) fn decode_each(model: &LoadedModel, grids: &[&[u32]]) -> Vec<Result<Picture, EngineError>> {
    let pictures = in_batches(grids, &model.decode_rows, &model.name, "grids", &|grids| model.model.decode(grids));
    pictures.into_iter().map(|picture| picture.map_err(EngineError::from).and_then(finite)).collect()
}

/// A model's function over a batch.
type Compute<'a, I, O> = dyn Fn(&[I]) -> Result<Vec<O>, ModelFault> + 'a;

/// One result for each input. A batch that runs out of memory is halved and tried again, and so are later ones from the
/// beginning; when one fails otherwise, each input is tried alone, so that only the bad one fails.
fn in_batches<I, O>(
    inputs: &[I],
    limit: &BatchLimit,
    model: &str,
    what: &str,
    run: &Compute<'_, I, O>,
) -> Vec<Result<O, ModelFault>> {
    let mut results = Vec::with_capacity(inputs.len());
    while results.len() < inputs.len() {
        let rest = &inputs[results.len()..];
        let batch = &rest[..rest.len().min(limit.rows())];
        match run(batch) {
            Ok(outputs) if outputs.len() == batch.len() => results.extend(outputs.into_iter().map(Ok)),
            Ok(outputs) => {
                let detail = format!("{} results came for {} {what}", outputs.len(), batch.len());
                results.extend(batch.iter().map(|_| Err(ModelFault::Failed(detail.clone()))));
            }
            // Nothing will be computed on a lost device, for nobody.
            Err(fault @ ModelFault::DeviceLost(_)) => results.extend(rest.iter().map(|_| Err(fault.clone()))),
            Err(fault) if batch.len() == 1 => results.push(Err(fault)),
            Err(ModelFault::OutOfMemory(detail)) => {
                limit.halve(batch.len());
                tracing::warn!(
                    model,
                    rows = batch.len(),
                    now = limit.rows(),
                    detail,
                    "out of memory; {what}: fewer at once"
                );
            }
            Err(_) => {
                for input in batch {
                    let alone = run(std::slice::from_ref(input)).and_then(|mut outputs| {
                        outputs.pop().ok_or_else(|| ModelFault::Failed(format!("nothing came for one of the {what}")))
                    });
                    let lost = matches!(alone, Err(ModelFault::DeviceLost(_)));
                    results.push(alone);
                    if lost {
                        break;
                    }
                }
            }
        }
    }
    results
}

fn finite(picture: Picture) -> Result<Picture, EngineError> {
    if picture.pixels.iter().all(|pixel| pixel.is_finite()) {
        Ok(picture)
    } else {
        Err(EngineError::Numeric { step: None })
    }
}
