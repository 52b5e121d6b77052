//! The MaskGIT sampler (Chang et al. 2022): constant temperature, Gumbel noise on the log-confidence that falls to zero.

use crate::random::{Purpose, Randomness, gumbel};

use super::choice::choose;
use super::schedule::masked_after;
use super::{SampleState, SamplingParams};

pub(super) fn advance(state: &mut SampleState, params: &SamplingParams, logits: &[f32], codebook: usize) {
    let undecided = state.undecided();
    let choices = choose(state, params, logits, codebook, &undecided);
    let left = masked_after(state.total(), state.step, params.fill_steps()).min(undecided.len());

    let ratio = f64::from(state.step + 1) / f64::from(params.fill_steps());
    let noise_scale = params.choice_temperature * (1.0 - ratio) as f32;
    let mut places = Randomness::new(params.seed, Purpose::Confidence).places(state.sample_index(), state.step);
    let mut ranked: Vec<(f32, usize)> = undecided
        .iter()
        .zip(&choices)
        .enumerate()
        .map(|(index, (&position, choice))| {
            let noise = gumbel(places.draws(position as u32).uniform());
            (choice.probability.ln() + noise_scale * noise, index)
        })
        .collect();
    // The surest first; of equal ones the lowest position.
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for &(_, index) in &ranked[..undecided.len() - left] {
        state.decide(undecided[index], choices[index].id, choices[index].probability);
    }
}
