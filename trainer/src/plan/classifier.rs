//! What the stage `classifier` will take.

use anyhow::{Context, Result};
use raygen_manifest::Split;
use raygen_model::bundle::Bundle;
use raygen_model::densenet::{DenseNet, DenseNetConfig, is_running};

use super::networks::tensor_sizes;
use super::{FilmList, Memory, Network, Plan, StagePlan, epochs, kept};
use crate::config::{ClassifierConfig, RunConfig};

/// The stage, as `StagePlan` calls it.
pub(super) const STAGE: &str = "classifier";
/// Bytes of a number.
const F32: u64 = 4;

impl Plan {
    /// Adds the stage, if the run has it.
    pub(super) fn add_classifier(&mut self, run: &RunConfig, films: &FilmList) -> Result<()> {
        let Some(config) = &run.classifier else { return Ok(()) };
        if let Some(bundle) = run.classifier_start() {
            Bundle::open(&bundle).with_context(|| format!("classifier.start_from: the bundle {}", bundle.display()))?;
        }
        let shape = config.network(run.data.image_size);
        let network = network(config, &shape)?;
        let activations = if config.steps == 0 { 0 } else { activations(&shape, config.batch as u64) };
        self.stages.push(StagePlan {
            stage: STAGE,
            steps: config.steps,
            batch: config.batch,
            // Of all films: how many of them have a label is not counted here.
            epochs: epochs(config.steps, config.batch, films.of(Split::Train).count()),
            memory: Memory::of(&[&network], activations),
            checkpoint_bytes: Memory::checkpoint(&[&network]) * kept(config.steps, &config.safety()),
            step: None,
            seconds: None,
        });
        self.networks.push(network);
        Ok(())
    }
}

fn network(config: &ClassifierConfig, shape: &DenseNetConfig) -> Result<Network> {
    let sizes = tensor_sizes(|vb| DenseNet::new(shape, vb).map(drop).map_err(Into::into))?;
    let frozen = config.steps == 0;
    let trained: u64 = sizes.iter().filter(|(name, _)| !is_running(name)).map(|(_, size)| size).sum();
    let parameters = sizes.values().sum();
    let (trained, averaged) = if frozen { (0, 0) } else { (trained, parameters) };
    Ok(Network { name: STAGE, parameters, trained, averaged, frozen })
}

/// Bytes that the backward pass of a step needs: the maps that every layer makes. Each dense layer makes a new copy of all maps
/// before it, and another one where it normalises them.
fn activations(shape: &DenseNetConfig, batch: u64) -> u64 {
    let (growth, bottleneck) = (shape.growth_rate as u64, (shape.bottleneck * shape.growth_rate) as u64);
    let area = |side: u64| side * side;
    let mut side = (shape.image_size as u64).div_ceil(2);
    let mut channels = shape.initial_features as u64;
    let mut maps = shape.in_channels as u64 * area(shape.image_size as u64);
    // The first convolution, its norm, and the pool.
    maps += 2 * channels * area(side);
    side = side.div_ceil(2);
    maps += channels * area(side);
    for (block, layers) in shape.block_layers.iter().enumerate() {
        for _ in 0..*layers {
            maps += (2 * (channels + bottleneck + growth)) * area(side);
            channels += growth;
        }
        if block + 1 < shape.block_layers.len() {
            maps += (channels + channels / 2) * area(side);
            (channels, side) = (channels / 2, side / 2);
            maps += channels * area(side);
        }
    }
    F32 * batch * (maps + channels * area(side))
}
