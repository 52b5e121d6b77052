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
pub(crate) use self::text::check as check_text_start;
use super::encode::Tokens;
use super::tokenizer::Tokenizer;
use super::training_loop::{self, Course, StepReport, Trainee, Validation, named};
use super::{Stage, fingerprint};
use crate::config::{ComputeType, RunConfig, TransformerStageConfig};
use crate::data::told;
use crate::optim::{AdamW, MovingAverage, Plateau};
use crate::run::{Checkpoint, Waits};

/// The stage.
const NAME: &str = "transformer";
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

/// The networks at work.
struct Pupil<'a> {
    stage: &'a Stage<'a>,
    tokenizer: &'a Tokenizer,
    shapes: &'a Shapes,
    text: &'a TextTokenizer,
    batches: Batches<'a>,
    training: Training,
    /// What was judged last.
    judged: Option<Networks>,
}

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// Where the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>, tokenizer: &Tokenizer, tokens: &Tokens) -> Result<Option<Trained>> {
    let config = &stage.config.transformer;
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
        stage.notice(
            "transformer.model.views: the manifest says no film's view, so there is one view to learn: frontal",
        );
    }
    if let Some(start) = &starts.transformer {
        start.check_shape(&shapes)?;
        if let Some(line) = start.check_codebook(tokenizer)? {
            stage.notice(&line);
        }
    }
    let identity = identity(stage, &tokens.fingerprint, &starts)?;
    let training = Training::new(stage.config, &shapes, tokenizer, &starts, stage.device)?;
    if let Some(start) = &starts.text
        && let Some(line) = start.unknown_words(&words, freeze(config)?.holds(WORDS))?
    {
        stage.notice(&line);
    }
    drop(starts);
    if config.dtype == ComputeType::Bf16 && stage.device.is_cpu() {
        stage.notice("transformer.dtype = \"bf16\" is made for CUDA: on a CPU it is much slower than f32");
    }
    let batches = Batches::new(stage, tokens, &text, &shapes)?;
    let mut pupil = Pupil { stage, tokenizer, shapes: &shapes, text: &text, batches, training, judged: None };
    let course = Course {
        stage: NAME,
        identity: &identity,
        steps: config.steps,
        films_per_step: config.films_a_step(),
        cadence: config.cadence,
        safety: config.safety(),
        optimiser: config.optimiser,
    };
    if training_loop::train(stage, &course, &mut pupil)?.is_none() {
        return Ok(None);
    }
    let networks = pupil.training.averaged(&shapes)?;
    let validation = stage.reduce.once(|| validate::validate(&networks, &pupil.batches))?;
    drop(pupil);
    let (transformer, text_encoder) = networks.tensors();
    Ok(Some(Trained { shapes, text, text_config, transformer, text_encoder, validation }))
}

/// What stays as it is.
fn freeze(config: &TransformerStageConfig) -> Result<Freeze> {
    Freeze::of(config).map_err(|problem| anyhow!("transformer.freeze {problem}"))
}

/// What makes two runs of this stage the same run.
fn identity(stage: &Stage<'_>, tokens: &str, starts: &Starts) -> Result<String> {
    let (config, films) = (stage.config, stage.films);
    // Two ranks do what one does that accumulates two batches: the run may change from one to the other.
    let accumulate = config.transformer.accumulate * stage.reduce.ranks();
    let settings = TransformerStageConfig { accumulate, ..config.transformer.identity() };
    let settings = toml::to_string(&settings).context("settings")?;
    let seed = config.seed.to_string();
    let mut parts = vec!["transformer", &settings, &seed, tokens, &films.texts_fingerprint];
    parts.extend(starts.digests());
    // What else of the films is looked at, where it is.
    let train = || films.train.iter().map(|film| &films.texts[*film]);
    let labels = format!("{:?}", train().map(|film| film.labels.class_flags()).collect::<Vec<_>>());
    // Only where something is: without, the fingerprint is what it always was.
    let uncertain = format!("{:?}", train().map(|film| &film.uncertain).collect::<Vec<_>>());
    let doubts = config.transformer.class_balance > 0.0 && train().any(|film| !film.uncertain.is_empty());
    let views = format!("{:?}", films.texts.iter().map(|film| film.view).collect::<Vec<_>>());
    parts.extend((config.transformer.class_balance > 0.0).then_some(labels.as_str()));
    parts.extend(doubts.then_some(uncertain.as_str()));
    parts.extend(config.transformer.model.views.then_some(views.as_str()));
    Ok(fingerprint(&parts))
}

// === impl Trainee for Pupil ===

impl Trainee for Pupil<'_> {
    fn step(&mut self, step: u64, rate: f64, waits: &mut Waits) -> Result<StepReport> {
        let batches = waits.data(|| self.batches.train(step))?;
        let (loss, gradient_norm) = self.training.step(self.stage.config, &batches, self.stage.reduce, step, rate)?;
        Ok(StepReport { loss, gradient_norm, metrics: Vec::new() })
    }

    fn learning_rate(&self) -> Option<f64> {
        self.training.plateau.as_ref().map(Plateau::learning_rate)
    }

    fn epoch_loss(&mut self, step: u64) -> Result<Option<f64>> {
        let plateau = self.stage.config.transformer.optimiser.plateau;
        let (Some(epoch), Some(plateau)) = (self.batches.ended_epoch(step), plateau) else { return Ok(None) };
        let masked = self.batches.validation_once(plateau.masks, epoch)?;
        validate::masked_loss(&self.training.averaged(self.shapes)?, &masked).map(Some)
    }

    fn observe(&mut self, loss: f64) -> f64 {
        self.training.observe(loss)
    }

    fn validate(&mut self) -> Result<Validation> {
        let networks = self.training.averaged(self.shapes)?;
        let report = validate::validate(&networks, &self.batches)?;
        self.judged = Some(networks);
        Ok(Validation {
            watched: vec![report.nll, report.nll_without_text],
            metrics: named([
                ("nll", report.nll),
                ("nll_without_text", report.nll_without_text),
                ("accuracy", report.accuracy),
            ]),
            score: -report.nll,
            summary: format!(
                "val {:.4} nats a masked token, {:.4} without the text, accuracy {:.3}",
                report.nll, report.nll_without_text, report.accuracy
            ),
        })
    }

    fn draw(&self, step: u64) -> Result<bool> {
        let Some(networks) = &self.judged else { return Ok(true) };
        let sheet = self.stage.directory.stage(NAME).join(format!("samples/step-{step:06}.png"));
        validate::draw(networks, self.stage, self.tokenizer, self.text, &sheet)
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        self.training.checkpoint(step)
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<u64> {
        self.training.restore(checkpoint)
    }
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
