//! Everything of the tokenizer that changes from step to step, and one step of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::vqgan::{VqGan, VqGanConfig};
use raygen_nn::{Parameters, straight_through};

use super::CODEBOOK;
use super::codebook::CodebookAverages;
use super::start::Start;
use crate::config::{RunConfig, TokenizerConfig};
use crate::optim::{AdamW, Gradients, MovingAverage, Reduce};
use crate::run::Checkpoint;
use crate::stages::picture_loss::{Decoded, LAST_LAYER, PictureLoss, PictureLossConfig, scalar};

/// Everything that changes from step to step.
pub(super) struct Training {
    parameters: Parameters,
    network: VqGan,
    /// Trained by gradient: all but the codebook.
    trained: Vec<(String, Var)>,
    codebook: CodebookAverages,
    /// Whether the codes are still those of a fresh network, to be placed among the first latents.
    fresh: bool,
    optimiser: AdamW,
    average: MovingAverage,
    losses: PictureLoss,
    last_layer: Var,
}

/// Losses of one step.
pub(super) struct Losses {
    /// All but the adversarial one.
    pub(super) total: f64,
    pub(super) reconstruction: f64,
    pub(super) commitment: f64,
    pub(super) gradient_norm: f64,
    pub(super) restarted_codes: usize,
    /// Those that a run need not have, by name.
    pub(super) others: Vec<(&'static str, f64)>,
}

// === impl Training ===

impl Training {
    /// The losses that `run` asks for, with their networks.
    pub(super) fn losses(run: &RunConfig, device: &Device) -> Result<PictureLoss> {
        let config = &run.tokenizer;
        let losses = PictureLossConfig {
            structure: config.structure,
            perceptual: run.tokenizer_perceptual(),
            adversarial: config.adversarial.as_ref(),
            image_channels: config.model.image_channels,
            seed: run.seed,
        };
        PictureLoss::new(&losses, device).context("tokenizer.perceptual")
    }

    pub(super) fn new(
        run: &RunConfig,
        shape: &VqGanConfig,
        start: Option<Start>,
        losses: PictureLoss,
        device: &Device,
    ) -> Result<Self> {
        let config = &run.tokenizer;
        let parameters = Parameters::initialised(run.seed, device);
        let network = VqGan::new(shape, parameters.builder(DType::F32))?;
        let named = parameters.named();
        let fresh = start.is_none();
        if let Some(start) = start {
            for (name, var) in &named {
                var.set(start.tensor(name)?)?;
            }
        }
        let trained: Vec<_> = named.iter().filter(|(name, _)| name != CODEBOOK).cloned().collect();
        let find = |wanted: &str| {
            let found = named.iter().find(|(name, _)| name == wanted).map(|(_, var)| var.clone());
            found.with_context(|| format!("the tokenizer has no tensor {wanted}"))
        };
        let (codebook, last_layer) = (find(CODEBOOK)?, find(LAST_LAYER)?);
        let mut codebook = CodebookAverages::new(codebook, config.codebook_decay, config.restart_below, run.seed)?;
        if !fresh {
            codebook.start_from_codes()?;
        }
        Ok(Self {
            codebook,
            fresh,
            optimiser: AdamW::new(config.optimiser, &trained)?,
            // With the codebook, so that averaged encoder, codes and decoder fit each other.
            average: MovingAverage::new(config.optimiser.ema_decay, &parameters.named())?,
            parameters,
            network,
            trained,
            losses,
            last_layer,
        })
    }

    /// One update by the films [batch, channels, side, side] of this rank and as many of each other; what it gives are means over
    /// all ranks.
    pub(super) fn step(
        &mut self,
        config: &TokenizerConfig,
        images: &Tensor,
        reduce: &dyn Reduce,
        step: u64,
        rate: f64,
    ) -> Result<Losses> {
        let latent = self.network.latent(images)?;
        if step == 0 && self.fresh {
            self.codebook.start_from(&latent, reduce)?;
        }
        let ids = self.network.nearest(&latent.detach())?;
        let quantised = self.network.codes(&ids)?.detach();
        let maps = self.network.before_last_layer(&straight_through(&latent, &quantised)?)?;
        let pictures = self.network.last_layer(&maps)?;
        let decoded =
            Decoded { network: &self.network, last_layer: &self.last_layer, maps: &maps, pictures: &pictures };
        let losses = self.losses.of(&decoded, images, reduce, step)?;
        let commitment = (&latent - &quantised)?.sqr()?.mean_all()?;
        let weighted = (&commitment * config.commitment)?;
        let gradients = Gradients::of_mean(&self.trained, &(&losses.loss + &weighted)?, reduce)?;
        let report = self.optimiser.update(&self.trained, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the tokenizer got no gradient: it would not learn", report.without_gradient);
        }
        let restarted_codes = self.codebook.follow(&latent.detach(), &ids, step, reduce)?;
        self.average.update(&self.parameters.named(), step)?;
        let mut others = losses.others;
        let mut gradient_norm = report.gradient_norm;
        if let Some(lesson) = self.losses.learn(images, &pictures, reduce, step, rate)? {
            others.extend(lesson.metrics());
            // A discriminator that broke down breaks the pictures at the next step.
            gradient_norm = if lesson.gradient_norm.is_finite() { gradient_norm } else { lesson.gradient_norm };
        }
        let mut means = [scalar(&(losses.total + weighted)?)?, losses.absolute, scalar(&commitment)?];
        let names = others.iter().map(|(name, _)| *name);
        let all = reduce.mean_numbers(means.into_iter().chain(others.iter().map(|(_, value)| *value)).collect())?;
        let (first, rest) = all.split_at(means.len());
        means.copy_from_slice(first);
        let [total, reconstruction, commitment] = means;
        let others = names.zip(rest.iter().copied()).collect();
        Ok(Losses { total, reconstruction, commitment, gradient_norm, restarted_codes, others })
    }

    /// Numbers in all tensors of the network.
    pub(super) fn parameter_count(&self) -> usize {
        self.parameters.named().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// What is validated and exported: the averages (without averaging, the weights themselves).
    pub(super) fn exported(&self) -> BTreeMap<String, Tensor> {
        self.average.averages().clone()
    }

    pub(super) fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        let (updates, first, second) = self.optimiser.state();
        let weights = self.parameters.named().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        let mut checkpoint = Checkpoint {
            step,
            updates,
            groups: BTreeMap::from([
                ("weights".to_owned(), weights),
                ("first".to_owned(), first.clone()),
                ("second".to_owned(), second.clone()),
                ("average".to_owned(), self.average.averages().clone()),
                ("codebook".to_owned(), self.codebook.state()?),
            ]),
            ..Checkpoint::default()
        };
        self.losses.record(&mut checkpoint)?;
        Ok(checkpoint)
    }

    pub(super) fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in self.parameters.named() {
            let saved = weights.get(&name).with_context(|| format!("the checkpoint lacks tensor {name}"))?;
            var.set(saved)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        self.codebook.restore(&checkpoint.take("codebook"))?;
        self.losses.restore(&mut checkpoint)?;
        Ok(checkpoint.step)
    }
}
