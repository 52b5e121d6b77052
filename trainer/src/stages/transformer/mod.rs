//! Stage `transformer`: trains the masked transformer together with its text encoder, on token grids and impressions.

mod batch;
mod likeness;
mod network;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use raygen_model::text::{Normaliser, TextConfig, TextTokenizer};
use raygen_nn::{cross_entropy, cross_entropy_of_likeness};

use self::batch::{Batches, MaskedBatch};
use self::likeness::code_likeness;
pub use self::network::{Networks, Shapes};
use super::encode::Tokens;
use super::tokenizer::Tokenizer;
use super::{Stage, fingerprint, refuse_fewer_steps};
use crate::config::{RunConfig, TransformerStageConfig};
use crate::optim::{AdamW, MovingAverage, learning_rate};
use crate::run::{Checkpoint, Checkpoints, MetricsLog, StageProgress};

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
    let words = batch::training_words(stage.films);
    let text_config = text_config(stage.config, &words);
    let text = TextTokenizer::from_words(&words, &text_config).context("the vocabulary of the impressions")?;
    let shapes = Shapes::new(stage.config, &tokenizer.config, text.vocabulary_size());
    let identity = identity(stage.config, &tokens.fingerprint, &stage.films.texts_fingerprint)?;
    let checkpoints = Checkpoints::new(&folder, &identity);
    let mut training = Training::new(stage, &shapes, tokenizer)?;
    let mut step = match checkpoints.latest(stage.device)? {
        Some(checkpoint) => training.restore(checkpoint)?,
        None => 0,
    };
    refuse_fewer_steps("transformer.steps", step, config.steps)?;
    let mut batches = Batches::new(stage, tokens, &text, shapes.codebook_size())?;
    if step < config.steps {
        let mut log = MetricsLog::open(&folder, step)?;
        let mut progress = StageProgress::new("transformer", step, config.steps, config.batch);
        while step < config.steps {
            let rate = learning_rate(&config.optimiser, step, config.steps);
            let batch = batches.train(step)?;
            let (loss, gradient_norm) = training.step(config, &batch, step, rate)?;
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
            if step % config.cadence.validate_every == 0 || step == config.steps {
                let networks = training.averaged(stage, &shapes)?;
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
                checkpoints.save(training.checkpoint(step))?;
            }
            if stopping && step < config.steps {
                progress.say(&format!("transformer: saved at step {step}; the same command goes on from there"));
                return Ok(None);
            }
        }
    }
    let networks = training.averaged(stage, &shapes)?;
    let validation = validate::validate(&networks, &batches)?;
    let (transformer, text_encoder) = networks.tensors();
    Ok(Some(Trained { shapes, text, text_config, transformer, text_encoder, validation }))
}

fn text_config(config: &RunConfig, words: &[String]) -> TextConfig {
    TextConfig {
        normaliser: Normaliser::Plain,
        supported_terms: config.export.supported_terms.clone(),
        known_words: words.to_vec(),
        pass_over_unknown_words: true,
        condition_dropout: config.transformer.condition_dropout > 0.0,
        ..TextConfig::plain(config.transformer.text.max_tokens)
    }
}

/// What makes two runs of this stage the same run. The number of steps may grow later, and cadence changes no weight.
fn identity(config: &RunConfig, tokens: &str, texts: &str) -> Result<String> {
    let settings = TransformerStageConfig { steps: 0, cadence: Default::default(), ..config.transformer.clone() };
    let settings = toml::to_string(&settings).context("settings")?;
    Ok(fingerprint(&["transformer", &settings, &config.seed.to_string(), tokens, texts]))
}

// === impl Training ===

impl Training {
    fn new(stage: &Stage<'_>, shapes: &Shapes, tokenizer: &Tokenizer) -> Result<Self> {
        let config = &stage.config.transformer;
        let networks = Networks::initialised(shapes, stage.config.seed, stage.device)?;
        if config.start_from_codebook {
            networks.start_from_codebook(tokenizer, stage.config.seed)?;
        }
        let variables = networks.variables();
        Ok(Self {
            optimiser: AdamW::new(config.optimiser, &variables)?,
            average: MovingAverage::new(config.optimiser.ema_decay, &variables)?,
            networks,
            likeness: match config.code_smoothing {
                0.0 => None,
                share => Some(code_likeness(tokenizer.network.codebook(), share, config.label_smoothing)?),
            },
        })
    }

    /// One update; the loss and the gradient's norm.
    fn step(
        &mut self,
        config: &TransformerStageConfig,
        batch: &MaskedBatch,
        step: u64,
        rate: f64,
    ) -> Result<(f64, f64)> {
        let logits = self.networks.logits(batch)?;
        let (rows, positions, codes) = logits.dims3()?;
        let (targets, weights) = (batch.targets.flatten_all()?, batch.weights.flatten_all()?);
        let logits = logits.reshape((rows * positions, codes))?;
        let loss = match &self.likeness {
            Some(likeness) => cross_entropy_of_likeness(&logits, &targets, &weights, likeness)?,
            None => cross_entropy(&logits, &targets, &weights, config.label_smoothing)?,
        };
        let gradients = loss.backward()?;
        let variables = self.networks.variables();
        let report = self.optimiser.step(&variables, &gradients, rate)?;
        if report.without_gradient > 0 {
            bail!("{} tensors of the networks got no gradient: they would not learn", report.without_gradient);
        }
        self.average.update(&variables, step)?;
        Ok((f64::from(loss.to_scalar::<f32>()?), report.gradient_norm))
    }

    /// The networks over the averaged weights.
    fn averaged(&self, stage: &Stage<'_>, shapes: &Shapes) -> Result<Networks> {
        Networks::from_tensors(shapes, self.average.averages().clone(), stage.device)
    }

    fn checkpoint(&self, step: u64) -> Checkpoint {
        let (updates, first, second) = self.optimiser.state();
        let weights =
            self.networks.variables().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        Checkpoint {
            step,
            updates,
            fingerprint: String::new(),
            groups: BTreeMap::from([
                ("weights".to_owned(), weights),
                ("first".to_owned(), first.clone()),
                ("second".to_owned(), second.clone()),
                ("average".to_owned(), self.average.averages().clone()),
            ]),
        }
    }

    fn restore(&mut self, mut checkpoint: Checkpoint) -> Result<u64> {
        let weights = checkpoint.take("weights");
        for (name, var) in self.networks.variables() {
            let saved = weights.get(&name).with_context(|| format!("the checkpoint lacks tensor {name}"))?;
            var.set(saved)?;
        }
        self.optimiser.restore(checkpoint.updates, checkpoint.take("first"), checkpoint.take("second"))?;
        self.average.restore(checkpoint.take("average"))?;
        Ok(checkpoint.step)
    }
}
