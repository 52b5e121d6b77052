//! Steps of the classifier on noise, to see how long they take on a machine.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::batch::Batch;
use super::training::Training;
use crate::config::{ClassifierConfig, RunConfig};
use crate::optim::Alone;

/// A fresh classifier at its first steps.
pub(crate) struct Trial {
    config: ClassifierConfig,
    training: Training,
    batch: Batch,
    step: u64,
}

impl Trial {
    /// Steps of `films` films each.
    pub(crate) fn new(run: &RunConfig, config: &ClassifierConfig, films: usize, device: &Device) -> Result<Self> {
        let shape = config.network(run.data.image_size);
        let (side, answers) = (shape.image_size, (films, shape.classes.len()));
        let batch = Batch {
            images: Tensor::rand(-1f32, 1f32, (films, shape.in_channels, side, side), device)?,
            targets: Tensor::rand(0f32, 1f32, answers, device)?,
            weights: Tensor::ones(answers, DType::F32, device)?,
        };
        let training = Training::new(run.seed, config, &shape, None, device)?;
        Ok(Self { config: config.clone(), training, batch, step: 0 })
    }

    /// Forward, backward and update.
    pub(crate) fn step(&mut self) -> Result<()> {
        self.training.step(&self.config, &self.batch, &Alone, self.step, self.config.optimiser.learning_rate)?;
        self.step += 1;
        Ok(())
    }
}
