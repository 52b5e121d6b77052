//! Choosing an id for one position, as the MaskGIT and Halton samplers do.

use crate::random::{Purpose, Randomness};

use super::filter::{decimal, keep_count, keep_largest};
use super::{SampleState, SamplingParams};

/// An id chosen for a position.
pub(super) struct Choice {
    pub(super) id: u32,
    /// Its probability under the network, at temperature 1 and unfiltered.
    pub(super) probability: f32,
}

/// Chooses ids for `positions`, each from its own random number, so that no position depends on another.
pub(super) fn choose(
    state: &SampleState,
    params: &SamplingParams,
    logits: &[f32],
    codebook: usize,
    positions: &[usize],
) -> Vec<Choice> {
    let keep = keep_count(codebook, params.top_k_filter);
    let temperature = decimal(params.temperature);
    let mut places = Randomness::new(params.seed, Purpose::TokenChoice).places(state.sample_index(), state.step);
    let mut filtered = Vec::with_capacity(codebook);
    positions
        .iter()
        .map(|&position| {
            let row = &logits[position * codebook..(position + 1) * codebook];
            filtered.clear();
            filtered.extend_from_slice(row);
            keep_largest(&mut filtered, keep);
            let id = if temperature == 0.0 {
                argmax(&filtered)
            } else {
                draw(&filtered, temperature, places.draws(position as u32).uniform())
            };
            Choice { id: id as u32, probability: probability_of(row, id) }
        })
        .collect()
}

/// The index of the largest value; the first of equal ones.
pub(super) fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value > values[best] {
            best = index;
        }
    }
    best
}

/// The softmax probability of `id`, in f32 as the published code has it.
pub(super) fn probability_of(logits: &[f32], id: usize) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|value| (value - largest).exp()).sum();
    (logits[id] - largest).exp() / sum
}

/// Inverts the cumulative distribution of softmax(logits / temperature) at `uniform`.
fn draw(logits: &[f32], temperature: f64, uniform: f32) -> usize {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // In f64 and relative to the largest: a temperature near zero gives 0 and 1, never NaN.
    let weight = |value: f32| (f64::from(value - largest) / temperature).exp();
    let total: f64 = logits.iter().map(|&value| weight(value)).sum();
    let target = f64::from(uniform) * total;
    let mut sum = 0.0;
    let mut last = 0;
    for (index, &value) in logits.iter().enumerate() {
        let weight = weight(value);
        if weight > 0.0 {
            last = index;
            sum += weight;
            if sum > target {
                return index;
            }
        }
    }
    // Rounding may leave the sum a hair under the target: the last id with any weight is meant.
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        let logits = [0.0, 1.0, f32::NEG_INFINITY, 2.0];
        let mut counts = [0usize; 4];
        let draws = 20_000;
        for i in 0..draws {
            counts[draw(&logits, 2.0, (i as f32 + 0.5) / draws as f32)] += 1;
        }
        let weights = [1.0, 0.5f64.exp(), 0.0, 1.0f64.exp()];
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            assert!((*count as f64 / draws as f64 - weight / total).abs() < 1e-3, "{counts:?}");
        }
    }

    #[test]
    fn a_tiny_temperature_is_greedy_and_finite() {
        for uniform in [1e-7, 0.5, 0.999_999_9] {
            assert_eq!(draw(&[-3.0, 80.0, 79.9], 1e-38, uniform), 1);
        }
    }
}
