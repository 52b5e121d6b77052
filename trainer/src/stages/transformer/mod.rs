//! Stage `transformer`: trains the masked transformer together with its text encoder, on token grids and impressions.

mod batch;
mod likeness;
mod network;
mod text;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use raygen_model::text::{TextConfig, TextTokenizer};
use raygen_nn::{cross_entropy, cross_entropy_of_likeness};

use self::batch::{Batches, MaskedBatch};
use self::likeness::code_likeness;
pub use self::network::{Networks, Shapes};
pub use self::text::TextStart;
use super::encode::Tokens;
use super::tokenizer::Tokenizer;
use super::{Stage, fingerprint, refuse_fewer_steps};
use crate::config::{RunConfig, TextModel, TransformerStageConfig};
use crate::optim::{AdamW, MovingAverage, Plateau, learning_rate};
use crate::run::{Checkpoint, Checkpoints, MetricsLog, StageProgress};

/// Group of the plateau rule's state in a checkpoint.
const PLATEAU: &str = "plateau";

/// What the stage makes.
pub struct Trained {
    /// Shapes of the two networks.
    pub shapes: Shapes,
    /// The text tokenizer, its vocabulary from the training impressions.
    pub text: TextTokenizer,
    /// How the model reads text.
    pub text_config: TextConfig,
    /// Tensors of the transformer (the moving average), by name.
    pub transformer: BTreeMap<String, Tensor>,
    /// Tensors of the text encoder (the moving average), by name.
    pub text_encoder: BTreeMap<String, Tensor>,
    /// Last validation: negative log-likelihood in nats per masked token, with the film's impression and with the empty text.
    pub validation: validate::Report,
}

/// Everything that changes from step to step.
struct Training {
    networks: Networks,
    optimiser: AdamW,
    average: MovingAverage,
    /// Where the learning rate follows the validation loss.
    plateau: Option<Plateau>,
    /// The target distribution of each code [codes, codes], where codes that look alike share their targets.
    likeness: Option<Tensor>,
}

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// Where the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>, tokenizer: &Tokenizer, tokens: &Tokens) -> Result<Option<Trained>> {
    let config = &stage.config.transformer;
    let folder = stage.directory.stage("transformer");
    let words = text::training_words(stage.films, config.text.cleaning);
    let start = stage.config.text_start();
    let start = start.map(|bundle| TextStart::read(&bundle, stage.config, stage.device)).transpose()?;
    let shapes = Shapes::new(stage.config, &tokenizer.config, 0);
    let pad_to_maximum = shapes.transformer.pads_text_to_maximum();
    let (text_config, text) = text::reading(stage.config, &words, start.as_ref(), pad_to_maximum)?;
    let shapes = Shapes::new(stage.config, &tokenizer.config, text.vocabulary_size()).with_text_encoder(start.as_ref());
    let identity = identity(stage.config, &tokens.fingerprint, &stage.films.texts_fingerprint, start.as_ref())?;
    let checkpoints = Checkpoints::new(&folder, &identity);
    let mut training = Training::new(stage, &shapes, tokenizer, start.as_ref())?;
    drop(start);
    let mut step = match checkpoints.latest(stage.device)? {
        Some(checkpoint) => training.restore(checkpoint)?,
        None => 0,
    };
    refuse_fewer_steps("transformer.steps", step, config.steps)?;
    let mut batches = Batches::new(stage, tokens, &text, &shapes)?;
    if step < config.steps {
        let mut log = MetricsLog::open(&folder, step)?;
        let mut progress = StageProgress::new("transformer", step, config.steps, config.batch);
        while step < config.steps {
            let rate = match &training.plateau {
                Some(plateau) => plateau.learning_rate(),
                None => learning_rate(&config.optimiser, step, config.steps),
            };
            let batch = batches.train(step)?;
            let (loss, gradient_norm) = training.step(stage.config, &batch, step, rate)?;
            if !loss.is_finite() || !gradient_norm.is_finite() {
                bail!(
                    "the loss is {loss} and the gradient's norm {gradient_norm} at step {step}; the last checkpoint in {} is \
                     from before: lower transformer.optimiser.learning_rate and run again",
                    folder.display()
                );
            }
            step += 1;
            progress.step(step, Some(loss));
            log.write(step, "train", &[("loss", loss), ("gradient_norm", gradient_norm), ("learning_rate", rate)])?;
            if let (Some(epoch), Some(plateau)) = (batches.ended_epoch(step), config.optimiser.plateau) {
                let masked = batches.validation_once(plateau.masks, epoch)?;
                let loss = validate::masked_loss(&training.averaged(&shapes)?, &masked)?;
                let rate = training.observe(loss);
                log.write(step, "epoch", &[("validation_loss", loss), ("learning_rate", rate)])?;
            }
            if step % config.cadence.validate_every == 0 || step == config.steps {
                let networks = training.averaged(&shapes)?;
                let report = validate::validate(&networks, &batches)?;
                let sheet = folder.join(format!("samples/step-{step:06}.png"));
                validate::draw(&networks, stage, tokenizer, &text, &sheet)?;
                log.write(
                    step,
                    "validate",
                    &[
                        ("nll", report.nll),
                        ("nll_without_text", report.nll_without_text),
                        ("accuracy", report.accuracy),
                    ],
                )?;
                progress.say(&format!(
                    "transformer step {step}: val {:.4} nats a masked token, {:.4} without the text, accuracy {:.3}",
                    report.nll, report.nll_without_text, report.accuracy
                ));
            }
            let stopping = stage.stop.raised();
            if step % config.cadence.checkpoint_every == 0 || step == config.steps || stopping {
                checkpoints.save(training.checkpoint(step)?)?;
            }
            if stopping && step < config.steps {
                progress.say(&format!("transformer: saved at step {step}; the same command goes on from there"));
                return Ok(None);
            }
        }
    }
    let networks = training.averaged(&shapes)?;
    let validation = validate::validate(&networks, &batches)?;
    let (transformer, text_encoder) = networks.tensors();
    Ok(Some(Trained { shapes, text, text_config, transformer, text_encoder, validation }))
}

/// What makes two runs of this stage the same run. The number of steps may grow later, and cadence changes no weight.
fn identity(config: &RunConfig, tokens: &str, texts: &str, start: Option<&TextStart>) -> Result<String> {
    // What a run starts from counts by its contents: the bundle may be moved.
    let text = TextModel { start_from: None, ..config.transformer.text.clone() };
    let settings = TransformerStageConfig { steps: 0, cadence: Default::default(), text, ..config.transformer.clone() };
    let settings = toml::to_string(&settings).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["transformer", &settings, &seed, tokens, texts];
    parts.extend(start.map(|start| start.digest.as_str()));
    Ok(fingerprint(&parts))
}

// === impl Training ===

impl Training {
    fn new(stage: &Stage<'_>, shapes: &Shapes, tokenizer: &Tokenizer, start: Option<&TextStart>) -> Result<Self> {
        let config = &stage.config.transformer;
        let networks = Networks::initialised(shapes, start, config.text.frozen, stage.config.seed, stage.device)?;
        if config.start_from_codebook {
            networks.start_from_codebook(tokenizer, stage.config.seed)?;
        }
        Ok(Self {
            optimiser: AdamW::new(config.optimiser, &networks.trained())?,
            average: MovingAverage::new(config.optimiser.ema_decay, &networks.variables())?,
            plateau: config.optimiser.plateau.map(|plateau| Plateau::new(plateau, config.optimiser.learning_rate)),
            networks,
            likeness: match config.code_smoothing {
                0.0 => None,
                share => Some(code_likeness(tokenizer.network.codebook(), share, config.label_smoothing)?),
            },
        })
    }

    /// One update; the loss and the gradient's norm.
    fn step(&mut self, run: &RunConfig, batch: &MaskedBatch, step: u64, rate: f64) -> Result<(f64, f64)> {
        let config = &run.transformer;
        let logits = self.networks.logits_in_training(batch, config.attention_dropout, run.seed)?;
        let (rows, positions, codes) = logits.dims3()?;
        let (targets, weights) = (batch.targets.flatten_all()?, batch.weights.flatten_all()?);
        let logits = logits.reshape((rows * positions, codes))?;
        let loss = match &self.likeness {
            Some(likeness) => cross_entropy_of_likeness(&logits, &targets, &weights, likeness)?,
            None => cross_entropy(&logits, &targets, &weights, config.label_smoothing)?,
        };
        let gradients = loss.backward()?;
        let report = self.optimiser.step(&self.networks.trained(), &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the networks got no gradient: they would not learn", report.without_gradient);
        }
        self.average.update(&self.networks.variables(), step)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), report.gradient_norm))
    }

    /// Tells the plateau rule the validation loss of an epoch; the learning rate from here on.
    fn observe(&mut self, loss: f64) -> f64 {
        self.plateau.as_mut().map_or(f64::NAN, |plateau| {
            plateau.observe(loss);
            plateau.learning_rate()
        })
    }

    /// The networks over the averaged weights.
    fn averaged(&self, shapes: &Shapes) -> Result<Networks> {
        self.networks.with_tensors(shapes, self.average.averages().clone())
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        let (updates, first, second) = self.optimiser.state();
        let weights =
            self.networks.variables().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        let mut groups = BTreeMap::from([
            ("weights".to_owned(), weights),
            ("first".to_owned(), first.clone()),
            ("second".to_owned(), second.clone()),
            ("average".to_owned(), self.average.averages().clone()),
        ]);
        if let Some(plateau) = &self.plateau {
            groups.insert(PLATEAU.to_owned(), BTreeMap::from([("state".to_owned(), plateau.state()?)]));
        }
        Ok(Checkpoint { step, updates, fingerprint: String::new(), groups })
    }

    fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in self.networks.variables() {
            let saved = weights.get(&name).with_context(|| format!("the checkpoint lacks tensor {name}"))?;
            var.set(saved)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        if let Some(plateau) = &mut self.plateau {
            let state = checkpoint.take(PLATEAU);
            plateau.restore(state.get("state").context("the checkpoint lacks the state of the plateau rule")?)?;
        }
        Ok(checkpoint.step)
    }
}
