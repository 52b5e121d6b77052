//! The discriminator at work: what it teaches the pictures, and what it learns from them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use raygen_nn::Parameters;

use super::picture_loss::scalar;
use crate::config::{AdversarialConfig, OptimiserConfig};
use crate::loss::{Discriminator, adversarial_loss, hinge_loss};
use crate::optim::{AdamW, Gradients, Reduce};
use crate::run::Checkpoint;

/// Decay of the moments of a discriminator's optimiser, as is usual for one.
const BETAS: (f64, f64) = (0.5, 0.9);
/// Its tensors, moments and number of updates in a checkpoint.
const GROUP: &str = "discriminator";
const FIRST: &str = "discriminator_first";
const SECOND: &str = "discriminator_second";
const UPDATES: &str = "discriminator_updates";

/// A discriminator that is trained along with the pictures.
pub(super) struct Adversary {
    config: AdversarialConfig,
    named: Vec<(String, Var)>,
    network: Discriminator,
    /// The same weights without a gradient of their own: for the pictures' step.
    still: Discriminator,
    optimiser: AdamW,
}

/// What the discriminator makes of pictures.
pub(super) struct Opinion {
    /// The gradient of the adversarial loss in the pictures, [batch, channels, height, width].
    pub(super) gradient: Tensor,
    /// The loss.
    pub(super) loss: f64,
}

/// What it lost, and its scores on average.
pub(super) struct Lesson {
    pub(super) loss: f64,
    pub(super) film_score: f64,
    pub(super) picture_score: f64,
    pub(super) gradient_norm: f64,
}

// === impl Lesson ===

impl Lesson {
    /// What it is told by.
    pub(super) fn metrics(&self) -> [(&'static str, f64); 3] {
        [("discriminator", self.loss), ("film_score", self.film_score), ("picture_score", self.picture_score)]
    }
}

// === impl Adversary ===

impl Adversary {
    pub(super) fn new(config: &AdversarialConfig, image_channels: usize, seed: u64, device: &Device) -> Result<Self> {
        let parameters = Parameters::initialised(seed, device);
        let build = |vb: VarBuilder<'static>| {
            Discriminator::new(image_channels, config.channels, config.layers, vb.pp("discriminator"))
        };
        let network = build(parameters.builder(DType::F32))?;
        let named = parameters.named();
        // A variable's detached tensor shares its memory: an update is seen by both networks.
        let shared = named.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let still = build(VarBuilder::from_tensors(shared, DType::F32, device))?;
        let optimiser = AdamW::new(
            OptimiserConfig {
                learning_rate: config.rate,
                beta1: BETAS.0,
                beta2: BETAS.1,
                weight_decay: 0.0,
                warm_up_steps: 0,
                clip_norm: f64::INFINITY,
                final_ratio: 1.0,
                ema_decay: 0.0,
                plateau: None,
            },
            &named,
        )?;
        Ok(Self { config: config.clone(), named, network, still, optimiser })
    }

    /// What the adversarial loss weighs at `step`, before the adaptive weight; none before it begins.
    pub(super) fn weight(&self, step: u64) -> Option<f64> {
        let since = step.checked_sub(self.config.start)?;
        let risen = if self.config.ramp == 0 { 1.0 } else { ((since + 1) as f64 / self.config.ramp as f64).min(1.0) };
        Some(self.config.weight * risen)
    }

    /// What it makes of `pictures` [batch, channels, height, width].
    pub(super) fn opinion(&self, pictures: &Tensor) -> Result<Opinion> {
        let pictures = Var::from_tensor(&pictures.detach())?;
        let loss = adversarial_loss(&self.still.scores(pictures.as_tensor())?)?;
        let gradients = loss.backward()?;
        let gradient = gradients.get(pictures.as_tensor()).context("the discriminator gave no gradient")?.clone();
        Ok(Opinion { gradient, loss: scalar(&loss)? })
    }

    /// A score for each patch of `pictures` [batch, channels, height, width].
    #[cfg(test)]
    pub(super) fn scores(&self, pictures: &Tensor) -> candle_core::Result<Tensor> {
        self.network.scores(pictures)
    }

    /// Learns to tell `pictures` from `films`, both [batch, channels, height, width], and those of the other ranks; `rate` is the
    /// pictures' learning rate. The numbers of the lesson, but for the gradient's norm, are of this rank.
    pub(super) fn learn(
        &mut self,
        films: &Tensor,
        pictures: &Tensor,
        reduce: &dyn Reduce,
        rate: f64,
    ) -> Result<Lesson> {
        let films = self.network.scores(&films.detach())?;
        let pictures = self.network.scores(&pictures.detach())?;
        let loss = hinge_loss(&films, &pictures)?;
        let gradients = Gradients::of_mean(&self.named, &loss, reduce)?;
        let report = self.optimiser.update(&self.named, &gradients, rate * self.config.rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the discriminator got no gradient: it would not learn", report.without_gradient);
        }
        Ok(Lesson {
            loss: scalar(&loss)?,
            film_score: scalar(&films.mean_all()?)?,
            picture_score: scalar(&pictures.mean_all()?)?,
            gradient_norm: report.gradient_norm,
        })
    }

    /// Adds what a resume needs to a checkpoint.
    pub(super) fn record(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        let (updates, first, second) = self.optimiser.state();
        let weights = self.named.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect();
        let updates = Tensor::new(&[i64::try_from(updates)?], &Device::Cpu)?;
        checkpoint.groups.extend([
            (GROUP.to_owned(), weights),
            (FIRST.to_owned(), first.clone()),
            (SECOND.to_owned(), second.clone()),
            (UPDATES.to_owned(), BTreeMap::from([("count".to_owned(), updates)])),
        ]);
        Ok(())
    }

    /// Takes up what [`record`](Self::record) added.
    pub(super) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        let weights = checkpoint.take(GROUP);
        for (name, var) in &self.named {
            var.set(weights.get(name).with_context(|| format!("the checkpoint lacks tensor {name}"))?)?;
        }
        let updates = checkpoint.take(UPDATES);
        let updates = updates.get("count").context("the checkpoint lacks the discriminator's number of updates")?;
        let updates = updates.to_vec1::<i64>()?.first().copied().and_then(|count| u64::try_from(count).ok());
        let updates = updates.context("the checkpoint's number of updates of the discriminator is none")?;
        self.optimiser.restore(updates, checkpoint.take(FIRST), checkpoint.take(SECOND))?;
        Ok(())
    }
}
