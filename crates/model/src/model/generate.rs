//! Whole generations in one call, for programs that have no engine of their own.

use crate::sampler::{SampleState, SamplingParams, advance, combine, guidance_at};

use super::{Condition, Model, ModelError};

/// One sample of a batch whose samples have nothing in common.
#[derive(Debug)]
pub struct Row<'a> {
    /// What it is generated from.
    pub condition: &'a Condition,
    /// What guidance moves away from; none takes the null condition of the same view.
    pub negative: Option<&'a Condition>,
    /// How it is sampled.
    pub params: &'a SamplingParams,
    /// The sample, which is filled.
    pub state: &'a mut SampleState,
}

impl Model {
    /// Fills every state by all steps of `params`. `negative` is what guidance moves away from; none takes the null
    /// condition of the same view. The tokens are those that any other batching of the same samples gives (on CPU).
    ///
    /// # Errors
    /// A step failed for one of the samples; see [`Self::logits`] and [`advance`].
    pub fn generate(
        &self,
        condition: &Condition,
        negative: Option<&Condition>,
        params: &SamplingParams,
        states: &mut [SampleState],
    ) -> Result<(), ModelError> {
        let mut rows: Vec<Row<'_>> =
            states.iter_mut().map(|state| Row { condition, negative, params, state }).collect();
        self.generate_rows(&mut rows)
    }

    /// Fills the state of every row, each by all steps of its own parameters.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_rows(&self, rows: &mut [Row<'_>]) -> Result<(), ModelError> {
        self.generate_rows_watched(rows, |_| {})
    }

    /// The same, and `watch` sees the rows after every step.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn generate_rows_watched(
        &self,
        rows: &mut [Row<'_>],
        mut watch: impl FnMut(&[Row<'_>]),
    ) -> Result<(), ModelError> {
        let steps = rows.iter().map(|row| row.params.step_count).max().unwrap_or(0);
        for step in 0..steps {
            let mut running: Vec<&mut Row<'_>> = rows.iter_mut().filter(|row| step < row.params.step_count).collect();
            let conditional: Vec<_> = running.iter().map(|row| (row.state.ids.as_slice(), row.condition)).collect();
            let mut logits = self.logits(&conditional)?;
            let guided: Vec<usize> =
                (0..running.len()).filter(|row| guidance_at(running[*row].params, step) != 1.0).collect();
            if !guided.is_empty() {
                let away = guided
                    .iter()
                    .map(|row| match running[*row].negative {
                        Some(negative) => Ok(negative.clone()),
                        None => self.null_condition_of_view(running[*row].condition.view),
                    })
                    .collect::<Result<Vec<Condition>, ModelError>>()?;
                let away: Vec<_> =
                    guided.iter().zip(&away).map(|(row, away)| (running[*row].state.ids.as_slice(), away)).collect();
                for (row, without) in guided.iter().zip(self.logits(&away)?) {
                    logits[*row] = combine(&logits[*row], &without, guidance_at(running[*row].params, step));
                }
            }
            for (row, logits) in running.iter_mut().zip(&logits) {
                advance(row.state, row.params, logits)?;
            }
            watch(rows);
        }
        Ok(())
    }

    /// An empty sample of this model.
    pub fn empty_state(&self, sample_index: u32) -> SampleState {
        SampleState::new(self.info.positions(), self.info.mask_token_id, sample_index).with_width(self.info.grid_width)
    }
}
