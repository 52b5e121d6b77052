//! Steps of the transformer on noise, to see how long they take on a machine.

use anyhow::Result;
use candle_core::{DType, Device, Tensor};

use super::{MaskedBatch, Shapes, Starts, Training};
use crate::config::RunConfig;
use crate::optim::Alone;
use crate::stages::tokenizer::trial::untrained;

/// A fresh transformer at its first steps.
pub struct Trial {
    config: RunConfig,
    training: Training,
    batch: MaskedBatch,
    step: u64,
}

// === impl Trial ===

impl Trial {
    /// Steps of `batch` films each, with texts of `text_length` out of `vocabulary` word pieces.
    ///
    /// # Errors
    /// Where a network cannot be built.
    pub fn new(
        config: &RunConfig,
        batch: usize,
        (text_length, vocabulary): (usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let tokenizer = untrained(config, device)?;
        let starts = Starts::read(config, device)?;
        let shapes = Shapes::new(config, &tokenizer.config, vocabulary).with_text_encoder(starts.text.as_ref());
        let training = Training::new(config, &shapes, &tokenizer, &starts, device)?;
        let grids = (batch, tokenizer.config.positions());
        let texts = (batch, text_length);
        // Below the number of ids also where rounding is at its worst.
        let ids = |count: usize, shape: (usize, usize)| {
            Tensor::rand(0f32, count as f32 - 0.5, shape, device)?.to_dtype(DType::U32)
        };
        let masked = MaskedBatch {
            ids: ids(tokenizer.config.codebook_size, grids)?,
            targets: ids(tokenizer.config.codebook_size, grids)?,
            weights: Tensor::ones(grids, DType::F32, device)?,
            text_ids: ids(vocabulary, texts)?,
            text_mask: Tensor::ones(texts, DType::F32, device)?,
            views: vec![None; batch],
            masked: batch * grids.1,
            places: (0..batch as u64).map(|film| (film, 0)).collect(),
        };
        Ok(Self { config: config.clone(), training, batch: masked, step: 0 })
    }

    /// Numbers in all tensors.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.training.networks.variables().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Forward, backward and update.
    ///
    /// # Errors
    /// Where the step fails as one of a run would.
    pub fn step(&mut self) -> Result<()> {
        let rate = self.config.transformer.optimiser.learning_rate;
        self.training.step(&self.config, std::slice::from_ref(&self.batch), &Alone, self.step, rate)?;
        self.step += 1;
        Ok(())
    }
}
