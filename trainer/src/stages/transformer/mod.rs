//! Stage `transformer`: trains the masked transformer together with its text encoder, on token grids and impressions.

mod batch;
mod freeze;
mod layered;
mod likeness;
mod network;
mod regions;
mod start;
mod text;
pub mod trial;
mod update;
#[cfg(test)]
mod update_tests;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use candle_core::{Device, Tensor};
use raygen_model::text::{TextConfig, TextTokenizer};

use self::batch::{Batches, MaskedBatch};
pub use self::freeze::Freeze;
use self::likeness::code_likeness;
pub use self::network::{Networks, Shapes};
pub use self::start::{Starts, TransformerStart};
pub use self::text::TextStart;
use super::encode::Tokens;
use super::tokenizer::Tokenizer;
use super::{Stage, announce, fingerprint, refuse_fewer_steps};
use crate::config::{ComputeType, RunConfig, TransformerStageConfig};
use crate::data::{FilmSet, told};
use crate::optim::{AdamW, MovingAverage, Plateau, learning_rate};
use crate::run::{Checkpoint, Checkpoints, Guard, Journal, Subject};

/// The stage.
const NAME: &str = "transformer";
/// Its validation, to the hook of tests.
const VALIDATION: &str = "transformer validation";
/// Group of the plateau rule's state in a checkpoint.
const PLATEAU: &str = "plateau";
/// The text encoder's table of word pieces: where it stays as it is, a new word is not learnt.
const WORDS: &str = "bert.embeddings.word_embeddings.weight";

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

/// How many word pieces the text encoder of `config` has for the training impressions `impressions`.
///
/// # Errors
/// The tokenizer cannot be built.
pub fn vocabulary<'t>(config: &RunConfig, impressions: impl Iterator<Item = &'t str>) -> Result<usize> {
    let words = text::training_words(impressions, config.transformer.text.cleaning);
    Ok(text::reading(config, &words, None, false)?.1.vocabulary_size())
}

/// Everything that changes from step to step.
struct Training {
    networks: Networks,
    shapes: Shapes,
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
    let folder = stage.directory.stage(NAME);
    let impressions = stage.films.train.iter().map(|film| stage.films.texts[*film].impression.as_str());
    let words = text::training_words(impressions, config.text.cleaning);
    let starts = Starts::read(stage.config, stage.device)?;
    let shapes = Shapes::new(stage.config, &tokenizer.config, 0);
    let pad_to_maximum = shapes.transformer.pads_text_to_maximum();
    let (text_config, text) = text::reading(stage.config, &words, starts.text.as_ref(), pad_to_maximum)?;
    let views: Vec<_> = stage.films.train.iter().map(|film| told(stage.films.texts[*film].view)).collect();
    let shapes = Shapes::new(stage.config, &tokenizer.config, text.vocabulary_size())
        .with_text_encoder(starts.text.as_ref())
        .with_views(&views, starts.transformer.as_ref().map_or(&[], TransformerStart::views));
    if stage.config.transformer.model.views && stage.films.texts.iter().all(|film| film.view.is_none()) {
        eprintln!("transformer.model.views: the manifest says no film's view, so there is one view to learn: frontal");
    }
    if let Some(start) = &starts.transformer {
        start.check_shape(&shapes)?;
        start.check_codebook(tokenizer)?;
    }
    let identity = identity(stage.config, &tokens.fingerprint, stage.films, &starts)?;
    let mut checkpoints = Checkpoints::new(&folder, &identity).keeping(config.keep);
    let mut training = Training::new(stage.config, &shapes, tokenizer, &starts, stage.device)?;
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
    refuse_fewer_steps("transformer.steps", step, config.steps)?;
    announce(NAME, step, config.steps);
    if let Some(start) = &starts.text
        && let Some(line) = start.unknown_words(&words, freeze(config)?.holds(WORDS))?
    {
        eprintln!("{line}");
    }
    drop(starts);
    if config.dtype == ComputeType::Bf16 && stage.device.is_cpu() {
        eprintln!("transformer.dtype = \"bf16\" is made for CUDA: on a CPU it is much slower than f32");
    }
    let mut batches = Batches::new(stage, tokens, &text, &shapes)?;
    if step < config.steps {
        if guard.goes_back() && checkpoints.newest().is_none() {
            checkpoints.save(guard.record(training.checkpoint(step)?)?)?;
        }
        let subject = Subject {
            run: &stage.config.name,
            stage: NAME,
            steps: config.steps,
            films_per_step: config.films_a_step(),
        };
        let mut journal = Journal::open(&folder, &subject, step)?;
        while step < config.steps {
            let rate = match &training.plateau {
                Some(plateau) => plateau.learning_rate(),
                None => learning_rate(&config.optimiser, step, config.steps),
            } * guard.learning_rate_factor();
            let (loss, gradient_norm) = training.step(stage.config, &batches.train(step)?, stage.reduce, step, rate)?;
            let seen = stage.observed(NAME, step, &guard, loss);
            if let Some(failure) = guard.failure(step, seen, gradient_norm) {
                step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                checkpoints.save_returned(guard.record(training.checkpoint(step)?)?)?;
                journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                continue;
            }
            step += 1;
            journal.step(step, loss);
            journal.write(
                step,
                "train",
                &[("loss", loss), ("gradient_norm", gradient_norm), ("learning_rate", rate)],
            )?;
            if let (Some(epoch), Some(plateau)) = (batches.ended_epoch(step), config.optimiser.plateau) {
                let masked = batches.validation_once(plateau.masks, epoch)?;
                let loss = validate::masked_loss(&training.averaged(&shapes)?, &masked)?;
                if let Some(failure) = Guard::validation_failure(step - 1, &[loss], gradient_norm) {
                    step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                    checkpoints.save_returned(guard.record(training.checkpoint(step)?)?)?;
                    journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                    continue;
                }
                let rate = training.observe(loss) * guard.learning_rate_factor();
                journal.write(step, "epoch", &[("validation_loss", loss), ("learning_rate", rate)])?;
            }
            if step % config.cadence.validate_every == 0 || step == config.steps {
                let networks = training.averaged(&shapes)?;
                let report = validate::validate(&networks, &batches)?;
                let sheet = folder.join(format!("samples/step-{step:06}.png"));
                let seen = stage.observed(VALIDATION, step - 1, &guard, report.nll);
                let mut failure = Guard::validation_failure(step - 1, &[seen, report.nll_without_text], gradient_norm);
                if failure.is_none() && !validate::draw(&networks, stage, tokenizer, &text, &sheet)? {
                    failure = Guard::validation_failure(step - 1, &[f64::NAN], gradient_norm);
                }
                if let Some(failure) = failure {
                    step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                    checkpoints.save_returned(guard.record(training.checkpoint(step)?)?)?;
                    journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                    continue;
                }
                journal.write(
                    step,
                    "validate",
                    &[
                        ("nll", report.nll),
                        ("nll_without_text", report.nll_without_text),
                        ("accuracy", report.accuracy),
                    ],
                )?;
                journal.draw_curves();
                journal.say(&format!(
                    "transformer step {step}: val {:.4} nats a masked token, {:.4} without the text, accuracy {:.3}",
                    report.nll, report.nll_without_text, report.accuracy
                ));
                if config.keep_best {
                    checkpoints.save_best(-report.nll, || guard.record(training.checkpoint(step)?))?;
                }
            }
            let stopping = stage.stop.raised();
            if step % config.cadence.checkpoint_every == 0 || step == config.steps || stopping {
                checkpoints.save(guard.record(training.checkpoint(step)?)?)?;
            }
            if stopping && step < config.steps {
                journal.draw_curves();
                journal.say(&format!("transformer: saved at step {step}; the same command goes on from there"));
                return Ok(None);
            }
        }
    }
    let networks = training.averaged(&shapes)?;
    let validation = validate::validate(&networks, &batches)?;
    let (transformer, text_encoder) = networks.tensors();
    Ok(Some(Trained { shapes, text, text_config, transformer, text_encoder, validation }))
}

/// What stays as it is.
fn freeze(config: &TransformerStageConfig) -> Result<Freeze> {
    Freeze::of(config).map_err(|problem| anyhow!("transformer.freeze {problem}"))
}

/// What makes two runs of this stage the same run.
fn identity(config: &RunConfig, tokens: &str, films: &FilmSet, starts: &Starts) -> Result<String> {
    let settings = toml::to_string(&config.transformer.identity()).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["transformer", &settings, &seed, tokens, &films.texts_fingerprint];
    parts.extend(starts.digests());
    // What else of the films is looked at, where it is.
    let train = || films.train.iter().map(|film| &films.texts[*film]);
    let labels = format!("{:?}", train().map(|film| film.labels.class_flags()).collect::<Vec<_>>());
    let views = format!("{:?}", films.texts.iter().map(|film| film.view).collect::<Vec<_>>());
    parts.extend((config.transformer.class_balance > 0.0).then_some(labels.as_str()));
    parts.extend(config.transformer.model.views.then_some(views.as_str()));
    Ok(fingerprint(&parts))
}

// === impl Training ===

impl Training {
    fn new(run: &RunConfig, shapes: &Shapes, tokenizer: &Tokenizer, starts: &Starts, device: &Device) -> Result<Self> {
        let config = &run.transformer;
        let networks = Networks::initialised(shapes, starts, &freeze(config)?, run.seed, device)?;
        if config.start_from_codebook && starts.transformer.is_none() {
            networks.start_from_codebook(tokenizer, run.seed)?;
        }
        Ok(Self {
            optimiser: AdamW::new(config.optimiser, &networks.trained())?,
            average: MovingAverage::new(config.optimiser.ema_decay, &networks.variables())?,
            plateau: config.optimiser.plateau.map(|plateau| Plateau::new(plateau, config.optimiser.learning_rate)),
            networks,
            shapes: shapes.clone(),
            likeness: match config.code_smoothing {
                0.0 => None,
                share => Some(code_likeness(tokenizer.network.codebook(), share, config.label_smoothing)?),
            },
        })
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
        Ok(Checkpoint { step, updates, groups, ..Checkpoint::default() })
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
