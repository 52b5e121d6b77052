//! Stage `tokenizer`: trains the VQ-GAN. Reconstruction, multi-scale structure and commitment losses, perceptual and adversarial
//! ones where asked for; the codebook follows the latents by moving averages, and codes that fall out of use are restarted.

mod codebook;
mod start;
mod training;
pub(crate) mod trial;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use raygen_model::vqgan::{QuantiserKind, VqGan, VqGanConfig};

use self::start::Start;
use self::training::Training;
pub(super) use self::validate::pictures;
use super::{Stage, announce, fingerprint, refuse_fewer_steps};
use crate::config::RunConfig;
use crate::data::{FilmOrder, FilmSet, random_shift, shifted};
use crate::optim::learning_rate;
use crate::run::{Checkpoints, Guard, Journal, Subject};

/// The stage.
const NAME: &str = "tokenizer";
/// Its validation, to the hook of tests.
const VALIDATION: &str = "tokenizer validation";
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

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// Where the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>) -> Result<Option<Tokenizer>> {
    let config = &stage.config.tokenizer;
    let shape = network_config(stage.config);
    let folder = stage.directory.stage(NAME);
    let start = stage.config.tokenizer_start().map(|bundle| Start::read(&bundle, &shape, stage.device)).transpose()?;
    let losses = Training::losses(stage.config, stage.device)?;
    let digests = [start.as_ref().map(|start| start.digest.as_str()), losses.digest()];
    let identity = identity(stage.config, &stage.films.pixels_fingerprint, digests)?;
    let mut checkpoints = Checkpoints::new(&folder, &identity).keeping(config.keep);
    let mut training = Training::new(stage.config, &shape, start, losses, stage.device)?;
    let mut guard = Guard::new(NAME, config.safety());
    if guard.goes_back() {
        checkpoints = checkpoints.going_back_by(config.cadence.checkpoint_every);
    }
    let mut step = match checkpoints.latest(stage.device)? {
        Some(mut checkpoint) => {
            guard.restore(&mut checkpoint)?;
            training.restore(checkpoint)?
        }
        None => 0,
    };
    refuse_fewer_steps("tokenizer.steps", step, config.steps)?;
    // Only now: a configuration that does not fit what is there must not replace the record of what made it.
    stage.directory.record(stage.config)?;
    announce(NAME, step, config.steps);
    if step < config.steps {
        if guard.goes_back() && checkpoints.newest().is_none() {
            checkpoints.save(guard.record(training.checkpoint(step)?)?)?;
        }
        let subject =
            Subject { run: &stage.config.name, stage: NAME, steps: config.steps, films_per_step: config.batch };
        let mut journal = Journal::open(&folder, &subject, step)?;
        let mut order = FilmOrder::new(stage.config.seed, stage.films.train.len());
        while step < config.steps {
            let rate = learning_rate(&config.optimiser, step, config.steps) * guard.learning_rate_factor();
            let images = batch(stage, &mut order, step)?;
            let losses = training.step(config, &images, step, rate)?;
            let seen = stage.observed(NAME, step, &guard, losses.total);
            if let Some(failure) = guard.failure(step, seen, losses.gradient_norm) {
                step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                checkpoints.save_returned(guard.record(training.checkpoint(step)?)?)?;
                journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                continue;
            }
            step += 1;
            journal.step(step, losses.total);
            let mut metrics = vec![
                ("loss", losses.total),
                ("reconstruction", losses.reconstruction),
                ("commitment", losses.commitment),
                ("gradient_norm", losses.gradient_norm),
                ("learning_rate", rate),
                ("restarted_codes", losses.restarted_codes as f64),
            ];
            metrics.extend(losses.others);
            journal.write(step, "train", &metrics)?;
            if step % config.cadence.validate_every == 0 || step == config.steps {
                let tensors = training.exported();
                let network = build(&shape, &tensors, stage.device)?;
                let report = validate::validate(&network, stage.films, stage.device)?;
                let seen = stage.observed(VALIDATION, step - 1, &guard, report.psnr);
                if let Some(failure) = Guard::validation_failure(step - 1, &[seen], losses.gradient_norm) {
                    step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                    checkpoints.save_returned(guard.record(training.checkpoint(step)?)?)?;
                    journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                    continue;
                }
                validate::draw(
                    &network,
                    stage.films,
                    stage.device,
                    &folder.join(format!("samples/step-{step:06}.png")),
                )?;
                journal.write(
                    step,
                    "validate",
                    &[
                        ("psnr", report.psnr),
                        ("codes_used", report.codes_used as f64),
                        ("perplexity", report.perplexity),
                    ],
                )?;
                journal.draw_curves();
                journal.say(&format!(
                    "tokenizer step {step}: val PSNR {:.2} dB, {} of {} codes in use, perplexity {:.0}",
                    report.psnr, report.codes_used, shape.codebook_size, report.perplexity
                ));
                if config.keep_best {
                    checkpoints.save_best(report.psnr, || guard.record(training.checkpoint(step)?))?;
                }
            }
            let stopping = stage.stop.raised();
            if step % config.cadence.checkpoint_every == 0 || step == config.steps || stopping {
                checkpoints.save(guard.record(training.checkpoint(step)?)?)?;
            }
            if stopping && step < config.steps {
                journal.draw_curves();
                journal.say(&format!("tokenizer: saved at step {step}; the same command goes on from there"));
                return Ok(None);
            }
        }
    }
    let tensors = training.exported();
    let network = build(&shape, &tensors, stage.device)?;
    let (steps, history) = (config.steps.to_string(), guard.history());
    let mut parts = vec![identity.as_str(), &steps];
    // After a failure the weights depend on it too; without one, the fingerprint is what it always was.
    parts.extend((!history.is_empty()).then_some(history.as_str()));
    let fingerprint = fingerprint(&parts);
    let validation_psnr = validate::validate(&network, stage.films, stage.device)?.psnr;
    Ok(Some(Tokenizer { config: shape, tensors, network, fingerprint, validation_psnr }))
}

/// What makes two runs of this stage the same run; `files` are the digests of those that it reads.
fn identity(config: &RunConfig, films: &str, files: [Option<&str>; 2]) -> Result<String> {
    let settings = toml::to_string(&config.tokenizer.identity()).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["tokenizer", &settings, &seed, films];
    parts.extend(files.into_iter().flatten());
    Ok(fingerprint(&parts))
}

/// Films of a step, shifted, as [batch, channels, side, side] in [-1, 1].
fn batch(stage: &Stage<'_>, order: &mut FilmOrder, step: u64) -> Result<Tensor> {
    let config = &stage.config.tokenizer;
    let side = stage.films.side;
    let mut pixels = Vec::with_capacity(config.batch * side * side);
    for (place, epoch) in order.batch(step, config.batch) {
        let film = stage.films.train[place];
        let shift = random_shift(stage.config.seed, film, epoch, config.shift);
        shifted(stage.films.pixels(film), side, shift, &mut pixels);
    }
    let gray = Tensor::from_vec(pixels, (config.batch, 1, side, side), stage.device)?;
    in_channels(gray, config.model.image_channels)
}

/// Gray films [batch, 1, side, side] as a tokenizer of so many channels sees them: all channels alike.
pub(super) fn in_channels(gray: Tensor, channels: usize) -> Result<Tensor> {
    Ok(if channels == 1 { gray } else { gray.repeat((1, channels, 1, 1))? })
}

fn build(config: &VqGanConfig, tensors: &BTreeMap<String, Tensor>, device: &Device) -> Result<VqGan> {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    Ok(VqGan::new(config, candle_nn::VarBuilder::from_tensors(tensors, DType::F32, device))?)
}

/// Films as [count, channels, side, side] in [-1, 1], unshifted.
pub(super) fn film_tensor(films: &FilmSet, indices: &[usize], channels: usize, device: &Device) -> Result<Tensor> {
    let mut pixels = Vec::with_capacity(indices.len() * films.side * films.side);
    for index in indices {
        shifted(films.pixels(*index), films.side, (0, 0), &mut pixels);
    }
    let gray = Tensor::from_vec(pixels, (indices.len(), 1, films.side, films.side), device)?;
    in_channels(gray, channels)
}
