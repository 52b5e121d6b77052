//! What decoded pictures lose against the films: absolute difference, structure, and where a run has them what a trained
//! network sees and what a discriminator thinks.

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::vqgan::VqGan;

use super::adversary::{Adversary, Lesson};
use crate::config::{AdversarialConfig, PerceptualConfig};
use crate::loss::{Perceptual, structure_loss};
use crate::optim::{Gradients, Reduce};
use crate::run::Checkpoint;

/// The decoder's last layer, at which an adversarial loss is balanced against the others.
pub(super) const LAST_LAYER: &str = "decoder.conv_out.weight";
/// Scales of the structure loss.
const STRUCTURE_SCALES: usize = 3;
/// The adaptive weight is never above this, as published.
const LARGEST_WEIGHT: f64 = 1e4;
/// Keeps the adaptive weight from a division by zero, as published.
const SMALLEST_NORM: f64 = 1e-4;

/// What the losses of a stage are made of.
pub(super) struct PictureLossConfig<'a> {
    pub(super) structure: f64,
    /// With its files as they lie on disk.
    pub(super) perceptual: Option<PerceptualConfig>,
    pub(super) adversarial: Option<&'a AdversarialConfig>,
    pub(super) image_channels: usize,
    pub(super) seed: u64,
}

/// The losses of a stage's pictures, and the discriminator that is trained along.
pub(super) struct PictureLoss {
    structure: f64,
    perceptual: Option<(Perceptual, f64)>,
    adversary: Option<Adversary>,
}

/// Pictures on their way out of the decoder, each [batch, channels, height, width].
pub(super) struct Decoded<'a> {
    pub(super) network: &'a VqGan,
    /// The variable of [`LAST_LAYER`].
    pub(super) last_layer: &'a Var,
    /// What the last layer read.
    pub(super) maps: &'a Tensor,
    /// What it made.
    pub(super) pictures: &'a Tensor,
}

/// Numbers by name.
type Metrics = Vec<(&'static str, f64)>;

/// What the pictures of a step lost.
pub(super) struct PictureLosses {
    /// To be sent back through the decoder. With an adversarial loss its value means nothing, its gradient is right.
    pub(super) loss: Tensor,
    /// All but the adversarial loss, whose value rises and falls with the discriminator.
    pub(super) total: Tensor,
    /// The mean absolute difference.
    pub(super) absolute: f64,
    /// Metrics by name, for those losses that a run need not have.
    pub(super) others: Metrics,
}

// === impl PictureLoss ===

impl PictureLoss {
    /// Reads the networks that the losses need.
    pub(super) fn new(config: &PictureLossConfig<'_>, device: &Device) -> Result<Self> {
        let perceptual = config.perceptual.as_ref().map(|perceptual| -> Result<_> {
            let network = Perceptual::read(&perceptual.features, perceptual.linear.as_deref(), device)?;
            Ok((network, perceptual.weight))
        });
        let adversary = config
            .adversarial
            .map(|adversarial| Adversary::new(adversarial, config.image_channels, config.seed, device));
        Ok(Self { structure: config.structure, perceptual: perceptual.transpose()?, adversary: adversary.transpose()? })
    }

    /// What tells the network of the perceptual loss from others, if there is one.
    pub(super) fn digest(&self) -> Option<&str> {
        self.perceptual.as_ref().map(|(network, _)| network.digest.as_str())
    }

    /// What `decoded` loses against `films` [batch, channels, height, width], both of this rank.
    pub(super) fn of(
        &self,
        decoded: &Decoded<'_>,
        films: &Tensor,
        reduce: &dyn Reduce,
        step: u64,
    ) -> Result<PictureLosses> {
        let weight = self.adversary.as_ref().and_then(|adversary| Some((adversary, adversary.weight(step)?)));
        let Some((adversary, weight)) = weight else {
            return self.plain(decoded.pictures, films).map(|(total, absolute, others)| PictureLosses {
                loss: total.clone(),
                total,
                absolute,
                others,
            });
        };
        // The losses are computed on a copy of the pictures: each network is run through once, and the weight that balances
        // them needs only the last layer. One pass through the decoder then carries the sum of their gradients.
        let leaf = Var::from_tensor(&decoded.pictures.detach())?;
        let (total, absolute, mut others) = self.plain(leaf.as_tensor(), films)?;
        let gradients = total.backward()?;
        let plain = gradients.get(leaf.as_tensor()).context("the pictures got no gradient")?;
        let opinion = adversary.opinion(decoded.pictures)?;
        let norms = decoded.norms_at_last_layer([plain, &opinion.gradient], reduce)?;
        let balance = norms[0] / (norms[1] + SMALLEST_NORM);
        let balance = balance.clamp(0.0, LARGEST_WEIGHT);
        let gradient = (plain + (opinion.gradient * (balance * weight))?)?;
        others.push(("adversarial", opinion.loss));
        others.push(("adversarial_weight", balance * weight));
        Ok(PictureLosses {
            loss: (decoded.pictures * gradient.detach())?.sum_all()?,
            total: total.detach(),
            absolute,
            others,
        })
    }

    /// Lets the discriminator learn from the step, where there is one that has begun.
    pub(super) fn learn(
        &mut self,
        films: &Tensor,
        pictures: &Tensor,
        reduce: &dyn Reduce,
        step: u64,
        rate: f64,
    ) -> Result<Option<Lesson>> {
        match &mut self.adversary {
            Some(adversary) if adversary.weight(step).is_some() => {
                adversary.learn(films, pictures, reduce, rate).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// All but the adversarial loss: as a tensor, its mean absolute difference, and the others by name.
    fn plain(&self, pictures: &Tensor, films: &Tensor) -> Result<(Tensor, f64, Metrics)> {
        let absolute = (pictures - films)?.abs()?.mean_all()?;
        let structure = structure_loss(pictures, films, STRUCTURE_SCALES)?;
        let mut total = (&absolute + (structure * self.structure)?)?;
        let mut others = Vec::new();
        if let Some((network, weight)) = &self.perceptual {
            let perceptual = network.loss(pictures, films)?;
            others.push(("perceptual", scalar(&perceptual)?));
            total = (total + (perceptual * *weight)?)?;
        }
        Ok((total, scalar(&absolute)?, others))
    }

    /// Adds what a resume needs to a checkpoint.
    pub(super) fn record(&self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.adversary.as_ref().map_or(Ok(()), |adversary| adversary.record(checkpoint))
    }

    /// Takes up what [`record`](Self::record) added.
    pub(super) fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.adversary.as_mut().map_or(Ok(()), |adversary| adversary.restore(checkpoint))
    }
}

// === impl Decoded ===

impl Decoded<'_> {
    /// The length of the last layer's gradient, the mean over all ranks, where that of the pictures is each of `gradients`.
    fn norms_at_last_layer(&self, gradients: [&Tensor; 2], reduce: &dyn Reduce) -> Result<[f64; 2]> {
        let mut norms = [0.0; 2];
        for (norm, gradient) in norms.iter_mut().zip(gradients) {
            let pictures = self.network.last_layer(&self.maps.detach())?;
            let last_layer = [(LAST_LAYER.to_owned(), self.last_layer.clone())];
            let loss = (pictures * gradient.detach())?.sum_all()?;
            let gradients = Gradients::of_mean(&last_layer, &loss, reduce)?;
            let gradient = gradients.get(LAST_LAYER).context("the decoder's last layer got no gradient")?;
            *norm = scalar(&gradient.sqr()?.sum_all()?)?.sqrt();
        }
        Ok(norms)
    }
}

/// The number that a tensor of one holds.
pub(super) fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}

#[cfg(test)]
#[path = "picture_loss_tests.rs"]
mod tests;
