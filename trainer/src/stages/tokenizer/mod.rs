//! Stage `tokenizer`: trains the VQ-GAN. Reconstruction, multi-scale structure and commitment losses; the codebook follows
//! the latents by moving averages, and codes that fall out of use are restarted.

mod codebook;
mod start;
pub(crate) mod trial;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::vqgan::{QuantiserKind, VqGan, VqGanConfig};
use raygen_nn::{Parameters, straight_through};

use self::codebook::CodebookAverages;
use self::start::Start;
pub(crate) use self::start::check as check_tokenizer_start;
pub(super) use self::validate::pictures;
use super::{Stage, announce, fingerprint, refuse_fewer_steps};
use crate::config::{RunConfig, TokenizerConfig};
use crate::data::{Ahead, FilmOrder, FilmSet, random_shift, shifted};
use crate::loss::structure_loss;
use crate::optim::{AdamW, MovingAverage, learning_rate};
use crate::run::{Checkpoint, Checkpoints, Guard, Journal, Subject};

/// The stage.
const NAME: &str = "tokenizer";
/// Its validation, to the hook of tests.
const VALIDATION: &str = "tokenizer validation";
/// The codebook's tensor: it follows moving averages instead of a gradient.
pub(crate) const CODEBOOK: &str = "quantize.embedding.weight";
/// Scales of the structure loss.
const STRUCTURE_SCALES: usize = 3;

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

/// Everything that changes from step to step.
struct Training {
    parameters: Parameters,
    network: VqGan,
    /// Trained by gradient: all but the codebook.
    trained: Vec<(String, Var)>,
    codebook: CodebookAverages,
    /// Whether the codes are still those of a fresh network, to be placed among the first latents.
    fresh: bool,
    optimiser: AdamW,
    average: MovingAverage,
}

/// Losses of one step.
struct Losses {
    total: f64,
    reconstruction: f64,
    commitment: f64,
    gradient_norm: f64,
    restarted_codes: usize,
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
    let identity = identity(stage.config, &stage.films.pixels_fingerprint, start.as_ref())?;
    let mut checkpoints = Checkpoints::new(&folder, &identity).keeping(config.keep);
    let mut training = Training::new(stage.config, &shape, start, stage.device)?;
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
        let mut films = films_ahead(stage, step)?;
        while step < config.steps {
            let rate = learning_rate(&config.optimiser, step, config.steps) * guard.learning_rate_factor();
            let images = journal.data(|| batch(stage, &mut films, step))?;
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
            journal.write(
                step,
                "train",
                &[
                    ("loss", losses.total),
                    ("reconstruction", losses.reconstruction),
                    ("commitment", losses.commitment),
                    ("gradient_norm", losses.gradient_norm),
                    ("learning_rate", rate),
                    ("restarted_codes", losses.restarted_codes as f64),
                ],
            )?;
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

/// What makes two runs of this stage the same run.
fn identity(config: &RunConfig, films: &str, start: Option<&Start>) -> Result<String> {
    let settings = toml::to_string(&config.tokenizer.identity()).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["tokenizer", &settings, &seed, films];
    parts.extend(start.map(|start| start.digest.as_str()));
    Ok(fingerprint(&parts))
}

/// Films of a step, shifted, as [batch, channels, side, side] in [-1, 1].
fn batch(stage: &Stage<'_>, films: &mut Ahead<Vec<f32>>, step: u64) -> Result<Tensor> {
    let (config, side) = (&stage.config.tokenizer, stage.films.side);
    let gray = Tensor::from_vec(films.take(step)?, (config.batch, 1, side, side), stage.device)?;
    in_channels(gray, config.model.image_channels)
}

/// Loads and shifts the films of the steps from `step` on, ahead of them.
fn films_ahead(stage: &Stage<'_>, step: u64) -> Result<Ahead<Vec<f32>>> {
    let (config, seed, side) = (&stage.config.tokenizer, stage.config.seed, stage.films.side);
    let (batch, largest_shift) = (config.batch, config.shift);
    let (train, films) = (stage.films.train.clone(), stage.films.shared_pixels());
    let mut order = FilmOrder::new(seed, train.len());
    Ok(Ahead::new(step, config.steps, move |step| {
        let mut pixels = Vec::with_capacity(batch * side * side);
        for (place, epoch) in order.batch(step, batch) {
            let shift = random_shift(seed, train[place], epoch, largest_shift);
            shifted(&films.film(train[place])?, side, shift, &mut pixels);
        }
        Ok(pixels)
    })?)
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
        shifted(&films.pixels(*index)?, films.side, (0, 0), &mut pixels);
    }
    let gray = Tensor::from_vec(pixels, (indices.len(), 1, films.side, films.side), device)?;
    in_channels(gray, channels)
}

// === impl Training ===

impl Training {
    fn new(run: &RunConfig, shape: &VqGanConfig, start: Option<Start>, device: &Device) -> Result<Self> {
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
        let codebook = named
            .into_iter()
            .find_map(|(name, var)| (name == CODEBOOK).then_some(var))
            .with_context(|| format!("the tokenizer has no tensor {CODEBOOK}"))?;
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
        })
    }

    fn step(&mut self, config: &TokenizerConfig, images: &Tensor, step: u64, rate: f64) -> Result<Losses> {
        let latent = self.network.latent(images)?;
        if step == 0 && self.fresh {
            self.codebook.start_from(&latent)?;
        }
        let ids = self.network.nearest(&latent.detach())?;
        let quantised = self.network.codes(&ids)?.detach();
        let reconstruction = self.network.decode_latent(&straight_through(&latent, &quantised)?)?;
        let absolute = (&reconstruction - images)?.abs()?.mean_all()?;
        let commitment = (&latent - &quantised)?.sqr()?.mean_all()?;
        let structure = structure_loss(&reconstruction, images, STRUCTURE_SCALES)?;
        let loss = ((&absolute + (structure * config.structure)?)? + (&commitment * config.commitment)?)?;
        let gradients = loss.backward()?;
        let report = self.optimiser.step(&self.trained, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the tokenizer got no gradient: it would not learn", report.without_gradient);
        }
        let restarted_codes = self.codebook.follow(&latent.detach(), &ids, step)?;
        self.average.update(&self.parameters.named(), step)?;
        Ok(Losses {
            total: scalar(&loss)?,
            reconstruction: scalar(&absolute)?,
            commitment: scalar(&commitment)?,
            gradient_norm: report.gradient_norm,
            restarted_codes,
        })
    }

    /// What is validated and exported: the averages (without averaging, the weights themselves).
    fn exported(&self) -> BTreeMap<String, Tensor> {
        self.average.averages().clone()
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        let (updates, first, second) = self.optimiser.state();
        let weights = self.parameters.named().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        Ok(Checkpoint {
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
        })
    }

    fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in self.parameters.named() {
            let saved = weights.get(&name).with_context(|| format!("the checkpoint lacks tensor {name}"))?;
            var.set(saved)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        self.codebook.restore(&checkpoint.take("codebook"))?;
        Ok(checkpoint.step)
    }
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_dtype(DType::F32)?.to_scalar::<f32>()?))
}
