//! Stage `classifier`: trains a DenseNet that says of each finding whether a film shows it. Batches normalise themselves in
//! training; what is validated and exported goes by running statistics, so that a film's findings are its own. (The published
//! classifier never left training: its AUROC depends on which films are looked at together.)

mod answers;
mod batch;
mod export;
mod report;
mod start;
mod training;
pub(crate) mod trial;
mod validate;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_model::densenet::{DenseNet, DenseNetConfig};

use self::answers::{Answer, Answers};
use self::batch::Films;
pub(super) use self::export::export;
use self::start::Start;
use self::training::Training;
pub use self::validate::{ClassReport, Report};
use super::{Stage, announce, fingerprint, refuse_fewer_steps};
use crate::config::ClassifierConfig;
use crate::data::FilmOrder;
use crate::optim::learning_rate;
use crate::run::{Checkpoints, Guard, Journal, Subject};

/// The stage.
const NAME: &str = "classifier";
/// Its validation, to the hook of tests.
const VALIDATION: &str = "classifier validation";

/// A trained classifier.
pub struct Classifier {
    /// Its shape.
    pub config: DenseNetConfig,
    /// Its tensors, running statistics too, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Steps that it was trained for.
    pub steps: u64,
    /// Films to learn from that show each class.
    pub train_positives: Vec<usize>,
    /// What it says of the validation films.
    pub validation: Report,
}

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// No film has a label, the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>, config: &ClassifierConfig) -> Result<Option<Classifier>> {
    let shape = config.network(stage.films.side);
    let folder = stage.directory.stage(NAME);
    let start = stage.config.classifier_start().map(|bundle| Start::read(&bundle, &shape, stage.device)).transpose()?;
    let answers = Answers::of(stage.films, config, &shape.classes)?;
    let films =
        Films { seed: stage.config.seed, films: stage.films, answers: &answers, shape: &shape, device: stage.device };
    let identity = identity(stage, config, &answers, start.as_ref())?;
    let mut checkpoints = Checkpoints::new(&folder, &identity).keeping(config.keep);
    let mut training = Training::new(stage.config.seed, config, &shape, start.as_ref(), stage.device)?;
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
    refuse_fewer_steps("classifier.steps", step, config.steps)?;
    stage.directory.record(stage.config)?;
    announce(NAME, step, config.steps);
    for notice in answers.notices(config.min_positives) {
        eprintln!("{notice}");
    }
    if let Some(start) = start.as_ref().filter(|_| step == 0) {
        start.notices().iter().for_each(|notice| eprintln!("{notice}"));
    }
    if step < config.steps {
        if guard.goes_back() && checkpoints.newest().is_none() {
            checkpoints.save(guard.record(training.checkpoint(step))?)?;
        }
        let subject =
            Subject { run: &stage.config.name, stage: NAME, steps: config.steps, films_per_step: config.batch };
        let mut journal = Journal::open(&folder, &subject, step)?;
        let mut order = FilmOrder::new(stage.config.seed, answers.train.len());
        while step < config.steps {
            let rate = learning_rate(&config.optimiser, step, config.steps) * guard.learning_rate_factor();
            let batch = films.to_learn(config, &mut order, step)?;
            let done = training.step(config, &batch, step, rate)?;
            let seen = stage.observed(NAME, step, &guard, done.loss);
            if let Some(failure) = guard.failure(step, seen, done.gradient_norm) {
                step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                checkpoints.save_returned(guard.record(training.checkpoint(step))?)?;
                journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                continue;
            }
            step += 1;
            journal.step(step, done.loss);
            journal.write(
                step,
                "train",
                &[("loss", done.loss), ("gradient_norm", done.gradient_norm), ("learning_rate", rate)],
            )?;
            if step % config.cadence.validate_every == 0 || step == config.steps {
                let network = network(&shape, training.exported(), stage.device)?;
                let report = validate::validate(&network, &films)?;
                let seen = stage.observed(VALIDATION, step - 1, &guard, report.cross_entropy);
                if let Some(failure) = Guard::validation_failure(step - 1, &[seen], done.gradient_norm) {
                    step = training.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
                    checkpoints.save_returned(guard.record(training.checkpoint(step))?)?;
                    journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
                    continue;
                }
                let values = report.metrics();
                let values: Vec<(&str, f64)> = values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
                journal.write(step, "validate", &values)?;
                journal.draw_curves();
                journal.say(&format!("classifier step {step}: {report}"));
                if config.keep_best {
                    // Without any defined AUROC there is no best.
                    let score = report.macro_auroc().unwrap_or(f64::NAN);
                    checkpoints.save_best(score, || guard.record(training.checkpoint(step)))?;
                }
            }
            let stopping = stage.stop.raised();
            if step % config.cadence.checkpoint_every == 0 || step == config.steps || stopping {
                checkpoints.save(guard.record(training.checkpoint(step))?)?;
            }
            if stopping && step < config.steps {
                journal.draw_curves();
                journal.say(&format!("classifier: saved at step {step}; the same command goes on from there"));
                return Ok(None);
            }
        }
    }
    let tensors = training.exported();
    let network = network(&shape, tensors.clone(), stage.device)?;
    let validation = validate::validate(&network, &films)?;
    let train_positives = (0..shape.classes.len()).map(|class| answers.count(class, Answer::Yes)).collect();
    Ok(Some(Classifier { config: shape, tensors, steps: config.steps, train_positives, validation }))
}

/// What makes two runs of this stage the same run.
fn identity(stage: &Stage<'_>, config: &ClassifierConfig, answers: &Answers, start: Option<&Start>) -> Result<String> {
    let settings = toml::to_string(&config.identity()).context("settings")?;
    let (seed, answers) = (stage.config.seed.to_string(), answers.fingerprint());
    let mut parts = vec![NAME, &settings, &seed, &stage.films.pixels_fingerprint, &answers];
    parts.extend(start.map(|start| start.digest.as_str()));
    Ok(fingerprint(&parts))
}

/// The network that predicts.
fn network(shape: &DenseNetConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<DenseNet> {
    let tensors = tensors.into_iter().collect();
    Ok(DenseNet::new(shape, VarBuilder::from_tensors(tensors, DType::F32, device))?)
}
