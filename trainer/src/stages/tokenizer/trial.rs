//! Steps of the tokenizer on noise, to see how long they take on a machine.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Tokenizer, Training, build, in_channels, network_config};
use crate::config::RunConfig;
use crate::optim::Alone;

/// A fresh tokenizer at its first steps.
pub struct Trial {
    config: RunConfig,
    training: Training,
    images: Tensor,
    step: u64,
}

// === impl Trial ===

impl Trial {
    /// Steps of `batch` films each.
    ///
    /// # Errors
    /// Where a network cannot be built.
    pub fn new(config: &RunConfig, batch: usize, device: &Device) -> Result<Self> {
        let losses = Training::losses(config, device)?;
        let training = Training::new(config, &network_config(config), None, losses, device)?;
        Ok(Self { config: config.clone(), training, images: noise(config, batch, device)?, step: 0 })
    }

    /// Numbers in all tensors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.training.parameter_count()
    }

    /// Forward, backward and update.
    ///
    /// # Errors
    /// Where the step fails as one of a run would.
    pub fn step(&mut self) -> Result<()> {
        let config = &self.config.tokenizer;
        self.training.step(config, &self.images, &Alone, self.step, config.optimiser.learning_rate)?;
        self.step += 1;
        Ok(())
    }
}

/// A tokenizer that has learnt nothing.
pub(crate) fn untrained(config: &RunConfig, device: &Device) -> Result<Tokenizer> {
    let shape = network_config(config);
    let losses = Training::losses(config, device)?;
    let tensors: BTreeMap<String, Tensor> = Training::new(config, &shape, None, losses, device)?.exported();
    let network = build(&shape, &tensors, device)?;
    Ok(Tokenizer { config: shape, tensors, network, fingerprint: String::new(), validation_psnr: 0.0 })
}

/// Films of noise [batch, channels, side, side].
pub(crate) fn noise(config: &RunConfig, batch: usize, device: &Device) -> Result<Tensor> {
    let side = config.data.image_size;
    in_channels(Tensor::rand(-1f32, 1f32, (batch, 1, side, side), device)?, config.tokenizer.model.image_channels)
}
