//! Refinement: once the grid is full, a share of its tokens is hidden again in every step and decided anew, fewer each time
//! and at a falling temperature. A token that was chosen before its neighbours were known gets a second chance
//! (re-masking as in ReMDM, Wang et al. 2025; a blocked Gibbs sampler over the network's conditionals).

use crate::random::{Purpose, Randomness};

use super::choice::choose;
use super::{SampleState, SamplingParams};

/// Share of the tokens hidden again at first, and that towards which it falls.
const SHARES: (f32, f32) = (0.5, 0.25);
/// What the temperature is multiplied by at the end.
const COOLING: f32 = 0.85;

/// Decides all that is hidden.
pub(super) fn advance(state: &mut SampleState, params: &SamplingParams, logits: &[f32], codebook: usize) {
    let temperature = params.temperature * (1.0 + (COOLING - 1.0) * progress(params, state.step + 1));
    let cooled = SamplingParams { temperature, ..params.clone() };
    let undecided = state.undecided();
    let choices = choose(state, &cooled, logits, codebook, &undecided);
    for (&position, choice) in undecided.iter().zip(&choices) {
        state.decide(position, choice.id, choice.probability);
    }
}

/// Hides what the next step decides anew, if the grid is full and a step is left. The caller's own tokens stay.
pub(super) fn hide(state: &mut SampleState, params: &SamplingParams) {
    if state.step < params.fill_steps() || state.step >= params.step_count {
        return;
    }
    let share = SHARES.0 + (SHARES.1 - SHARES.0) * progress(params, state.step);
    let mut places = Randomness::new(params.seed, Purpose::Refinement).places(state.sample_index(), state.step);
    for position in state.generated().to_vec() {
        if places.draws(position as u32).uniform() < share {
            state.hide(position);
        }
    }
}

/// How much of the refinement is done after `steps` steps, 0 to 1.
fn progress(params: &SamplingParams, steps: u32) -> f32 {
    let fill = params.fill_steps();
    (steps.saturating_sub(fill)) as f32 / (params.step_count - fill).max(1) as f32
}
