//! Stage `tokenizer`: trains the VQ-GAN. Reconstruction, multi-scale structure and commitment losses, perceptual and adversarial
//! ones where asked for; the codebook follows the latents by moving averages, and codes that fall out of use are restarted.

mod codebook;
mod start;
mod training;
pub mod trial;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use raygen_model::vqgan::{QuantiserKind, VqGan, VqGanConfig};

use self::start::Start;
pub(crate) use self::start::check as check_tokenizer_start;
use self::training::Training;
pub(super) use self::validate::{pictures, sum_of_psnr};
use super::training_loop::{self, Course, StepReport, Trainee, Validation, named};
use super::{Stage, fingerprint};
use crate::config::{RunConfig, TokenizerConfig};
use crate::data::{Ahead, FilmOrder, FilmSet, random_shift, shifted};
use crate::run::{Checkpoint, Waits};

/// The stage.
const NAME: &str = "tokenizer";
/// The codebook's tensor: it follows moving averages instead of a gradient.
pub(crate) const CODEBOOK: &str = "quantize.embedding.weight";

/// A trained tokenizer.
pub struct Tokenizer {
    /// Its shape.
    pub config: VqGanConfig,
    /// Its tensors (the moving average of the weights), by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The network over them.
    pub network: VqGan,
    /// What it was trained with, and for how long.
    pub fingerprint: String,
    /// Peak signal-to-noise ratio of its reconstructions of the validation films, in dB.
    pub validation_psnr: f64,
}

/// The VQ-GAN that `config` describes.
#[must_use]
pub fn network_config(config: &RunConfig) -> VqGanConfig {
    let model = &config.tokenizer.model;
    VqGanConfig {
        channels: model.channels,
        channel_multipliers: model.channel_multipliers.clone(),
        residual_blocks: model.residual_blocks,
        attention_resolutions: model.attention_resolutions.clone(),
        resolution: config.data.image_size,
        in_channels: model.image_channels,
        out_channels: model.image_channels,
        z_channels: model.z_channels,
        embed_dim: model.embed_dim,
        codebook_size: model.codebook_size,
        norm_groups: model.norm_groups,
        quantiser: QuantiserKind::Nearest,
    }
}

/// The tokenizer at work.
struct Pupil<'a> {
    stage: &'a Stage<'a>,
    training: Training,
    /// The films of the coming steps, once it steps.
    films: Option<Ahead<Vec<f32>>>,
    /// What was judged last.
    judged: Option<VqGan>,
}

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// Where the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>) -> Result<Option<Tokenizer>> {
    let config = &stage.config.tokenizer;
    let shape = network_config(stage.config);
    let start = stage.config.tokenizer_start().map(|bundle| Start::read(&bundle, &shape, stage.device)).transpose()?;
    let losses = Training::losses(stage.config, stage.device)?;
    let digests = [start.as_ref().map(|start| start.digest.as_str()), losses.digest()];
    let identity = identity(stage, digests)?;
    let training = Training::new(stage.config, &shape, start, losses, stage.device)?;
    let mut pupil = Pupil { stage, training, films: None, judged: None };
    let course = Course {
        stage: NAME,
        identity: &identity,
        steps: config.steps,
        films_per_step: config.batch,
        cadence: config.cadence,
        safety: config.safety(),
        optimiser: config.optimiser,
    };
    let Some(history) = training_loop::train(stage, &course, &mut pupil)? else { return Ok(None) };
    let tensors = pupil.training.exported();
    let network = build(&shape, &tensors, stage.device)?;
    let steps = config.steps.to_string();
    let mut parts = vec![identity.as_str(), &steps];
    // After a failure the weights depend on it too; without one, the fingerprint is what it always was.
    parts.extend((!history.is_empty()).then_some(history.as_str()));
    let fingerprint = fingerprint(&parts);
    let validation_psnr =
        stage.reduce.once(|| validate::validate(&network, stage.films, stage.device).map(|report| report.psnr))?;
    Ok(Some(Tokenizer { config: shape, tensors, network, fingerprint, validation_psnr }))
}

/// What makes two runs of this stage the same run; `files` are the digests of those that it reads.
fn identity(stage: &Stage<'_>, files: [Option<&str>; 2]) -> Result<String> {
    let config = stage.config;
    // Two ranks do what one does with twice the batch: the run may change from one to the other.
    let batch = config.tokenizer.batch * stage.reduce.ranks();
    let settings = TokenizerConfig { batch, ..config.tokenizer.identity() };
    let settings = toml::to_string(&settings).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["tokenizer", &settings, &seed, &stage.films.pixels_fingerprint];
    parts.extend(files.into_iter().flatten());
    Ok(fingerprint(&parts))
}

/// Films of a step, shifted, as [batch, channels, side, side] in [-1, 1].
fn batch(stage: &Stage<'_>, films: &mut Ahead<Vec<f32>>, step: u64) -> Result<Tensor> {
    let config = &stage.config.tokenizer;
    pixel_tensor(films.take(step)?, config.batch, stage.films.side, config.model.image_channels, stage.device)
}

/// Loads this rank's films of the steps from `step` up to `end`, `batch` each, and shifts them, ahead of the steps.
pub(super) fn films_ahead(
    stage: &Stage<'_>,
    (step, end): (u64, u64),
    batch: usize,
    largest_shift: usize,
) -> Result<Ahead<Vec<f32>>> {
    let (seed, side, place) = (stage.config.seed, stage.films.side, stage.reduce.place());
    let (train, films) = (stage.films.train.clone(), stage.films.shared_pixels());
    let mut order = FilmOrder::new(seed, train.len());
    Ok(Ahead::new(step, end, move |step| {
        let mut pixels = Vec::with_capacity(batch * side * side);
        for (film, epoch) in order.batch_of(step, batch, place) {
            let shift = random_shift(seed, train[film], epoch, largest_shift);
            shifted(&films.film(train[film])?, side, shift, &mut pixels);
        }
        Ok(pixels)
    })?)
}

/// Gray films [batch, 1, side, side] as a tokenizer of so many channels sees them: all channels alike.
pub(super) fn in_channels(gray: Tensor, channels: usize) -> Result<Tensor> {
    Ok(if channels == 1 { gray } else { gray.repeat((1, channels, 1, 1))? })
}

pub(super) fn build(config: &VqGanConfig, tensors: &BTreeMap<String, Tensor>, device: &Device) -> Result<VqGan> {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Ok(VqGan::new(config, candle_nn::VarBuilder::from_tensors(tensors, DType::F32, device))?)
}

/// Films as [count, channels, side, side] in [-1, 1], unshifted.
pub(super) fn film_tensor(films: &FilmSet, indices: &[usize], channels: usize, device: &Device) -> Result<Tensor> {
    let mut pixels = Vec::with_capacity(indices.len() * films.side * films.side);
    for index in indices {
        shifted(&films.pixels(*index)?, films.side, (0, 0), &mut pixels);
    }
    pixel_tensor(pixels, indices.len(), films.side, channels, device)
}

/// Pixels of gray films, one after another, as [count, channels, side, side].
pub(super) fn pixel_tensor(
    pixels: Vec<f32>,
    count: usize,
    side: usize,
    channels: usize,
    device: &Device,
) -> Result<Tensor> {
    in_channels(Tensor::from_vec(pixels, (count, 1, side, side), device)?, channels)
}

// === impl Trainee for Pupil ===

impl Trainee for Pupil<'_> {
    fn step(&mut self, step: u64, rate: f64, waits: &mut Waits) -> Result<StepReport> {
        let films = match &mut self.films {
            Some(films) => films,
            None => {
                let config = &self.stage.config.tokenizer;
                self.films.insert(films_ahead(self.stage, (step, config.steps), config.batch, config.shift)?)
            }
        };
        let images = waits.data(|| batch(self.stage, films, step))?;
        let losses = self.training.step(&self.stage.config.tokenizer, &images, self.stage.reduce, step, rate)?;
        let mut metrics = vec![
            ("reconstruction", losses.reconstruction),
            ("commitment", losses.commitment),
            ("restarted_codes", losses.restarted_codes as f64),
        ];
        metrics.extend(losses.others);
        Ok(StepReport { loss: losses.total, gradient_norm: losses.gradient_norm, metrics })
    }

    fn validate(&mut self) -> Result<Validation> {
        let shape = network_config(self.stage.config);
        let network = build(&shape, &self.training.exported(), self.stage.device)?;
        let report = validate::validate(&network, self.stage.films, self.stage.device)?;
        self.judged = Some(network);
        Ok(Validation {
            watched: vec![report.psnr],
            metrics: named([
                ("psnr", report.psnr),
                ("train_psnr", report.train_psnr),
                ("codes_used", report.codes_used as f64),
                ("perplexity", report.perplexity),
            ]),
            score: report.psnr,
            summary: format!(
                "val PSNR {:.2} dB ({:.2} on films it learnt from), {} of {} codes in use, perplexity {:.0}",
                report.psnr, report.train_psnr, report.codes_used, shape.codebook_size, report.perplexity
            ),
        })
    }

    fn draw(&self, step: u64) -> Result<bool> {
        let Some(network) = &self.judged else { return Ok(true) };
        let sheet = self.stage.directory.stage(NAME).join(format!("samples/step-{step:06}.png"));
        validate::draw(network, self.stage.films, self.stage.device, &sheet)?;
        Ok(true)
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        self.training.checkpoint(step)
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<u64> {
        self.training.restore(checkpoint)
    }
}
