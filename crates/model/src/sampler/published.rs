//! The published sampler (RayGen's `ModelV2.generate`): greedy confidence, temperature falling linearly to zero.
//!
//! At step i of K, n_i positions are undecided; each takes argmax(filtered logits / T_i + Gumbel noise); then all but
//! the n_{i+1} least probable of them stay. T_i = T0 * (K - 1 - i) / K, so the last step is greedy.

use crate::random::{Places, Purpose, Randomness};

use super::choice::{argmax, probability_of};
use super::filter::{decimal, keep_count, keep_largest};
use super::schedule::masked_before_published;
use super::{SampleState, SamplingError, SamplingParams};

/// Where the published sampler's uniform numbers come from.
pub trait Noise {
    /// The uniform number in [0, 1] of a candidate id at a position. Asked for every candidate of an undecided
    /// position, in ascending order, and not at all for a greedy step.
    fn uniform(&mut self, position: usize, candidate: usize) -> f32;
}

/// One step with noise of the caller's own, such as a recorded one.
///
/// # Errors
/// As [`super::advance`].
pub fn advance_with_noise(
    state: &mut SampleState,
    params: &SamplingParams,
    logits: &[f32],
    noise: &mut impl Noise,
) -> Result<(), SamplingError> {
    let codebook = super::check(state, params, logits)?;
    fill_and_remask(state, params, logits, codebook, noise);
    state.step += 1;
    Ok(())
}

pub(super) fn advance(state: &mut SampleState, params: &SamplingParams, logits: &[f32], codebook: usize) {
    let places = Randomness::new(params.seed, Purpose::TokenChoice).places(state.sample_index(), state.step);
    fill_and_remask(state, params, logits, codebook, &mut CounterNoise { places, numbers: Vec::new(), codebook });
}

/// The noise of a request: the candidates of a position take its numbers in order.
struct CounterNoise {
    places: Places,
    /// The numbers of the current position.
    numbers: Vec<f32>,
    codebook: usize,
}

impl Noise for CounterNoise {
    fn uniform(&mut self, position: usize, candidate: usize) -> f32 {
        if candidate == 0 {
            let mut draws = self.places.draws(position as u32);
            self.numbers.clear();
            self.numbers.extend((0..self.codebook).map(|_| draws.uniform()));
        }
        self.numbers.get(candidate).copied().unwrap_or(0.5)
    }
}

/// Below this the published code's temperature does not fall: noise has no effect any more.
const LEAST_TEMPERATURE: f64 = 1e-10;

fn fill_and_remask(
    state: &mut SampleState,
    params: &SamplingParams,
    logits: &[f32],
    codebook: usize,
    noise: &mut impl Noise,
) {
    let keep = keep_count(codebook, params.top_k_filter);
    let steps_left = f64::from(params.step_count - 1 - state.step);
    let temperature = decimal(params.temperature) * (steps_left / f64::from(params.step_count));
    let greedy = temperature <= LEAST_TEMPERATURE;

    let undecided = state.undecided();
    let mut scores = Vec::with_capacity(undecided.len());
    let mut filtered = Vec::with_capacity(codebook);
    for &position in &undecided {
        let row = &logits[position * codebook..(position + 1) * codebook];
        filtered.clear();
        filtered.extend_from_slice(row);
        keep_largest(&mut filtered, keep);
        if !greedy {
            for (candidate, value) in filtered.iter_mut().enumerate() {
                let uniform = noise.uniform(position, candidate);
                if value.is_finite() {
                    *value = *value / temperature as f32 + clamped_gumbel(uniform);
                }
            }
        }
        let id = argmax(&filtered);
        let probability = probability_of(row, id);
        state.decide(position, id as u32, probability);
        scores.push((position, 1.0 - probability));
    }

    // The grid that the next step reads: the least probable go back to undecided.
    if state.step + 1 < params.step_count {
        let remask = masked_before_published(state.total(), state.step + 1, params.step_count).min(scores.len());
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mask_id = state.mask_id();
        for &(position, _) in &scores[..remask] {
            state.decide(position, mask_id, 0.0);
        }
    }
}

/// Gumbel noise with the published code's clamps, which keep it within -2.63 and 13.82.
fn clamped_gumbel(uniform: f32) -> f32 {
    -(-uniform.max(1e-6).ln()).max(1e-6).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;

    #[test]
    fn noise_stays_within_the_published_bounds() {
        assert!((clamped_gumbel(0.0) + 2.626).abs() < 1e-3);
        assert!((clamped_gumbel(1.0) - 13.8155).abs() < 1e-3);
    }

    #[test]
    fn the_least_probable_positions_are_decided_again() {
        // Three ids; position p favours id 0 by p: higher positions are surer.
        let positions = 16;
        let logits: Vec<f32> = (0..positions).flat_map(|p| [p as f32, 0.0, 0.0]).collect();
        let params = SamplingParams { temperature: 0.0, top_k_filter: 0.0, ..SamplingParams::published() };
        let mut state = SampleState::new(positions, 3, 0);
        crate::sampler::advance(&mut state, &params, &logits).unwrap();
        // floor(16 * cos(pi / 4)) = 11.
        assert_eq!(state.undecided(), (0..11).collect::<Vec<_>>());
        assert_eq!(params.sampler, Sampler::Published);
    }

    #[test]
    fn injected_noise_decides_between_equal_ids() {
        struct Favours(usize);
        impl Noise for Favours {
            fn uniform(&mut self, _: usize, candidate: usize) -> f32 {
                if candidate == self.0 { 0.99 } else { 0.01 }
            }
        }
        let params = SamplingParams { step_count: 2, top_k_filter: 0.0, ..SamplingParams::published() };
        for favourite in 0..4 {
            let mut state = SampleState::new(9, 4, 0);
            advance_with_noise(&mut state, &params, &[0.0; 36], &mut Favours(favourite)).unwrap();
            assert!(state.ids.iter().all(|&id| id == 4 || id == favourite as u32));
            assert_eq!(state.undecided().len(), 1);
        }
    }
}
