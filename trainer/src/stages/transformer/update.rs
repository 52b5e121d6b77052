//! One update of the weights: batches forward and backward, their gradients added up over batches and ranks.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use raygen_nn::{cross_entropy, cross_entropy_of_likeness};

use super::Training;
use super::batch::MaskedBatch;
use super::network::Networks;
use crate::config::{ComputeType, RunConfig, TransformerStageConfig};
use crate::optim::{Gradients, Reduce};

impl Training {
    /// One update by all batches of a step; the mean loss of its masked tokens, and the gradient's norm.
    pub(super) fn step(
        &mut self,
        run: &RunConfig,
        batches: &[MaskedBatch],
        reduce: &dyn Reduce,
        step: u64,
        rate: f64,
    ) -> Result<(f64, f64)> {
        let config = &run.transformer;
        let copies = match config.dtype {
            ComputeType::F32 => None,
            // Anew in each step, after the weights moved; gradients come back to the weights in f32.
            ComputeType::Bf16 => Some(self.networks.computing_in(&self.shapes, DType::BF16)?),
        };
        let networks = copies.as_ref().unwrap_or(&self.networks);
        let trained = self.networks.trained();
        let own: f64 = batches.iter().map(|batch| batch.masked as f64).sum();
        let masked = sum(reduce, own)?;
        let (mut loss, mut gradients) = (0.0, None);
        for batch in batches {
            // The mean of a batch is over its own masked tokens: of those of the step it has this share.
            let share = batch.masked as f64 / masked;
            let mean = self.loss(networks, config, batch, run.seed)?;
            let counted = if share == 1.0 { mean } else { (mean * share)? };
            loss += f64::from(counted.to_scalar::<f32>()?);
            let of_batch = Gradients::of(&trained, &counted.backward()?);
            gradients = Some(match gradients.take() {
                Some(sum) => of_batch.plus(sum)?,
                None => of_batch,
            });
        }
        let gradients = reduce.sum_gradients(gradients.context("a step without films")?)?;
        let report = self.optimiser.update(&trained, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the networks got no gradient: they would not learn", report.without_gradient);
        }
        self.average.update(&self.networks.variables(), step)?;
        Ok((sum(reduce, loss)?, report.gradient_norm))
    }

    /// The mean cross-entropy of a batch's masked tokens.
    fn loss(
        &self,
        networks: &Networks,
        config: &TransformerStageConfig,
        batch: &MaskedBatch,
        seed: u64,
    ) -> Result<Tensor> {
        let logits = networks.logits_in_training(batch, config.attention_dropout, seed)?;
        let (rows, positions, codes) = logits.dims3()?;
        let (targets, weights) = (batch.targets.flatten_all()?, batch.weights.flatten_all()?);
        let logits = logits.reshape((rows * positions, codes))?;
        Ok(match &self.likeness {
            Some(likeness) => cross_entropy_of_likeness(&logits, &targets, &weights, likeness)?,
            None => cross_entropy(&logits, &targets, &weights, config.label_smoothing)?,
        })
    }
}

fn sum(reduce: &dyn Reduce, number: f64) -> Result<f64> {
    Ok(reduce.sum_numbers(vec![number])?.first().copied().unwrap_or(number))
}
