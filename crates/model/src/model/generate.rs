//! A whole generation in one call, for programs that have no engine of their own.

use crate::sampler::{SampleState, SamplingParams, advance, combine, guidance_at};

use super::{Condition, Model, ModelError};

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
        for step in 0..params.step_count {
            let scale = guidance_at(params, step);
            let conditional: Vec<_> = states.iter().map(|state| (state.ids.as_slice(), condition)).collect();
            let mut logits = self.logits(&conditional)?;
            if scale != 1.0 {
                let away = match negative {
                    Some(negative) => negative.clone(),
                    None => self.null_condition_of_view(condition.view)?,
                };
                let rows: Vec<_> = states.iter().map(|state| (state.ids.as_slice(), &away)).collect();
                let unconditional = self.logits(&rows)?;
                for (with, without) in logits.iter_mut().zip(&unconditional) {
                    *with = combine(with, without, scale);
                }
            }
            for (state, logits) in states.iter_mut().zip(&logits) {
                advance(state, params, logits)?;
            }
        }
        Ok(())
    }

    /// An empty sample of this model.
    pub fn empty_state(&self, sample_index: u32) -> SampleState {
        SampleState::new(self.info.positions(), self.info.mask_token_id, sample_index).with_width(self.info.grid_width)
    }
}
