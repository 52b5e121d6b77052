//! What the stages hold in memory and leave on disk. Weights and their like are counted; activations are estimated from the
//! shapes of the layers, and are right to a factor of about two.

use serde::Serialize;

use super::Network;
use crate::config::{RunConfig, Variant};
use crate::stages::tokenizer::network_config;

/// Bytes of a number.
const F32: u64 = 4;
/// Maps of its level that a residual block keeps for the backward pass: norms, activations, convolutions, the sum.
const MAPS_PER_BLOCK: u64 = 8;
/// Activations that a layer keeps, in units of its width: norms, queries, keys, values, projections, sums.
const WIDTHS_PER_LAYER: u64 = 16;
/// The same of its feed-forward width.
const FEED_FORWARDS_PER_LAYER: u64 = 4;
/// Attention matrices that a layer keeps for each head: scores and probabilities.
const MATRICES_PER_HEAD: u64 = 2;
/// Copies of the logits: before and after the loss's softmax, and their gradient.
const LOGITS: u64 = 3;

/// Bytes in memory while a stage trains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights, those of a frozen network too.
    pub weights: u64,
    /// Gradients.
    pub gradients: u64,
    /// First and second moments.
    pub moments: u64,
    /// The moving average.
    pub average: u64,
    /// What the backward pass needs: an estimate.
    pub activations: u64,
}

impl Memory {
    /// A stage that trains `networks`.
    pub(super) fn of(networks: &[&Network], activations: u64) -> Self {
        let sum = |of: &dyn Fn(&Network) -> u64| F32 * networks.iter().map(|network| of(network)).sum::<u64>();
        Self {
            weights: sum(&|network| network.parameters),
            gradients: sum(&|network| network.trained),
            moments: sum(&|network| 2 * network.trained),
            average: sum(&|network| network.averaged),
            activations,
        }
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.average + self.activations
    }

    /// One checkpoint on disk: weights that may move, their average and moments.
    pub(super) fn checkpoint(networks: &[&Network]) -> u64 {
        F32 * networks.iter().map(|network| 2 * network.averaged + 2 * network.trained).sum::<u64>()
    }
}

/// Of a step of the tokenizer.
pub(super) fn tokenizer_activations(config: &RunConfig) -> u64 {
    let shape = network_config(config);
    let blocks = 2 * shape.residual_blocks as u64 + 1;
    let maps: u64 = shape
        .channel_multipliers
        .iter()
        .enumerate()
        .map(|(level, multiplier)| {
            let side = (shape.resolution >> level) as u64;
            side * side * (shape.channels * multiplier) as u64 * (MAPS_PER_BLOCK * blocks + 2)
        })
        .sum();
    F32 * config.tokenizer.batch as u64 * maps
}

/// Of a step of the transformer with texts of `text_length` word pieces.
pub(super) fn transformer_activations(config: &RunConfig, text_length: u64) -> u64 {
    let grid = network_config(config);
    let (model, text) = (&config.transformer.model, &config.transformer.text);
    let positions = grid.positions() as u64;
    let merge = model.token_merge.max(1) as u64;
    let trunk = positions / (merge * merge);
    let attention = |heads: usize, from: u64, to: u64| MATRICES_PER_HEAD * heads as u64 * from * to;
    let layer = |length: u64, width: usize, feed_forward: usize| {
        length * (WIDTHS_PER_LAYER * width as u64 + FEED_FORWARDS_PER_LAYER * feed_forward as u64)
    };
    // The published layers have a second attention for the text; ours attend to both at once.
    let second = if model.variant == Variant::Published { 2 } else { 1 };
    let trunk_layer = second * layer(trunk, model.width, model.feed_forward)
        + attention(model.heads, trunk, trunk + text_length)
        + 2 * text_length * model.width as u64;
    let local = 2 * model.local_blocks as u64 * MAPS_PER_BLOCK * positions * model.width as u64 / merge;
    let text_layer = layer(text_length, text.width, 4 * text.width) + attention(text.heads, text_length, text_length);
    let text_stays = text.frozen || config.transformer.freeze.iter().any(|part| part == "text");
    let text_layers = if text_stays { 0 } else { text.layers as u64 * text_layer };
    let logits = LOGITS * positions * grid.codebook_size as u64;
    F32 * config.transformer.batch as u64 * (model.layers as u64 * trunk_layer + local + text_layers + logits)
}
