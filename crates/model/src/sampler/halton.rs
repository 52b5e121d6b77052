//! The Halton sampler (Besnier et al. 2025): positions in the order of a Halton (2, 3) sequence, rolled per sample.

use crate::random::{Purpose, Randomness};

use super::choice::choose;
use super::schedule::masked_after;
use super::{SampleState, SamplingParams};

pub(super) fn advance(state: &mut SampleState, params: &SamplingParams, logits: &[f32], codebook: usize) {
    let positions = state.ids.len();
    let mut order = order(positions / state.width().max(1), state.width());
    let roll = Randomness::new(params.seed, Purpose::HaltonRoll).uniform(state.sample_index(), 0, 0);
    order.rotate_left(((roll * positions as f32) as usize).min(positions.saturating_sub(1)));

    let undecided: Vec<usize> = order.into_iter().filter(|&position| state.ids[position] == state.mask_id()).collect();
    let left = masked_after(state.total(), state.step, params.fill_steps()).min(undecided.len());
    let now = &undecided[..undecided.len() - left];
    let choices = choose(state, params, logits, codebook, now);
    for (&position, choice) in now.iter().zip(&choices) {
        state.decide(position, choice.id, choice.probability);
    }
}

/// All positions of a grid, in the order in which a Halton (2, 3) sequence first visits them.
fn order(height: usize, width: usize) -> Vec<usize> {
    let positions = height * width;
    let mut seen = vec![false; positions];
    let mut order = Vec::with_capacity(positions);
    // The sequence is dense, but its last cells come late: after many points the rest follow row by row.
    for index in 1..=positions.saturating_mul(64) {
        if order.len() == positions {
            return order;
        }
        let row = (radical_inverse(index, 2) * height as f64) as usize;
        let column = (radical_inverse(index, 3) * width as f64) as usize;
        let position = row.min(height - 1) * width + column.min(width - 1);
        if !std::mem::replace(&mut seen[position], true) {
            order.push(position);
        }
    }
    order.extend((0..positions).filter(|&position| !seen[position]));
    order
}

/// The digits of `index` in `base`, mirrored at the point: in [0, 1).
fn radical_inverse(mut index: usize, base: usize) -> f64 {
    let mut result = 0.0;
    let mut weight = 1.0 / base as f64;
    while index > 0 {
        result += (index % base) as f64 * weight;
        index /= base;
        weight /= base as f64;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_starts_as_haltons_does() {
        let first: Vec<(f64, f64)> = (1..=4).map(|i| (radical_inverse(i, 2), radical_inverse(i, 3))).collect();
        let expected = [(0.5, 1.0 / 3.0), (0.25, 2.0 / 3.0), (0.75, 1.0 / 9.0), (0.125, 4.0 / 9.0)];
        for (ours, theirs) in first.iter().zip(expected) {
            assert!((ours.0 - theirs.0).abs() < 1e-12 && (ours.1 - theirs.1).abs() < 1e-12);
        }
    }

    #[test]
    fn the_order_visits_every_position_once() {
        for (height, width) in [(1, 1), (1, 7), (8, 8), (16, 16), (32, 32), (5, 3)] {
            let mut positions = order(height, width);
            positions.sort_unstable();
            assert_eq!(positions, (0..height * width).collect::<Vec<_>>());
        }
    }

    #[test]
    fn early_positions_are_spread_over_the_grid() {
        let mut quadrants = [0; 4];
        for position in order(16, 16).into_iter().take(32) {
            quadrants[(position / 16 / 8) * 2 + (position % 16) / 8] += 1;
        }
        assert!(quadrants.iter().all(|&count| (6..=10).contains(&count)), "{quadrants:?}");
    }
}
