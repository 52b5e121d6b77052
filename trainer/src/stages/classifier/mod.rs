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
use self::batch::{Drawn, Films};
pub(super) use self::export::export;
use self::start::Start;
use self::training::Training;
pub use self::validate::{ClassReport, Report};
use super::training_loop::{self, Course, StepReport, Trainee, Validation};
use super::{Stage, fingerprint};
use crate::config::ClassifierConfig;
use crate::data::Ahead;
use crate::run::{Checkpoint, Waits};

/// The stage.
const NAME: &str = "classifier";

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

/// The classifier at work.
struct Pupil<'a> {
    stage: &'a Stage<'a>,
    config: &'a ClassifierConfig,
    films: &'a Films<'a>,
    training: Training,
    /// The films of the coming steps, once it steps.
    coming: Option<Ahead<Drawn>>,
}

/// Trains to the end, or until asked to stop (then `None`).
///
/// # Errors
/// No film has a label, the loss is no number, or a file cannot be written.
pub fn train(stage: &Stage<'_>, config: &ClassifierConfig) -> Result<Option<Classifier>> {
    let shape = config.network(stage.films.side);
    let start = stage.config.classifier_start().map(|bundle| Start::read(&bundle, &shape, stage.device)).transpose()?;
    let answers = Answers::of(stage.films, config, &shape.classes)?;
    let films =
        Films { seed: stage.config.seed, films: stage.films, answers: &answers, shape: &shape, device: stage.device };
    let identity = identity(stage, config, &answers, start.as_ref())?;
    let training = Training::new(stage.config.seed, config, &shape, start.as_ref(), stage.device)?;
    for notice in answers.notices(config.min_positives) {
        stage.notice(&notice);
    }
    if let Some(start) = &start {
        start.notices().iter().for_each(|notice| stage.notice(notice));
    }
    let mut pupil = Pupil { stage, config, films: &films, training, coming: None };
    let course = Course {
        stage: NAME,
        identity: &identity,
        steps: config.steps,
        films_per_step: config.batch,
        cadence: config.cadence,
        safety: config.safety(),
        optimiser: config.optimiser,
    };
    if training_loop::train(stage, &course, &mut pupil)?.is_none() {
        return Ok(None);
    }
    let tensors = pupil.training.exported();
    let network = network(&shape, tensors.clone(), stage.device)?;
    let validation = stage.reduce.once(|| validate::validate(&network, &films))?;
    let train_positives = (0..shape.classes.len()).map(|class| answers.count(class, Answer::Yes)).collect();
    Ok(Some(Classifier { config: shape, tensors, steps: config.steps, train_positives, validation }))
}

/// What makes two runs of this stage the same run.
fn identity(stage: &Stage<'_>, config: &ClassifierConfig, answers: &Answers, start: Option<&Start>) -> Result<String> {
    let settings = toml::to_string(&config.identity()).context("settings")?;
    let (seed, answers) = (stage.config.seed.to_string(), answers.fingerprint());
    let mut parts = vec![NAME, &settings, &seed, &stage.films.pixels_fingerprint, &answers];
    parts.extend(start.map(|start| start.digest.as_str()));
    // Each rank normalises its own batches: no other number of ranks, whatever the batch, does the same.
    let ranks = format!("{} ranks", stage.reduce.ranks());
    parts.extend((stage.reduce.ranks() > 1).then_some(ranks.as_str()));
    Ok(fingerprint(&parts))
}

/// The network that predicts.
fn network(shape: &DenseNetConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<DenseNet> {
    let tensors = tensors.into_iter().collect();
    Ok(DenseNet::new(shape, VarBuilder::from_tensors(tensors, DType::F32, device))?)
}

// === impl Trainee for Pupil ===

impl Trainee for Pupil<'_> {
    fn step(&mut self, step: u64, rate: f64, waits: &mut Waits) -> Result<StepReport> {
        let coming = match &mut self.coming {
            Some(coming) => coming,
            None => self.coming.insert(self.films.ahead(self.config, step, self.stage.reduce.place())?),
        };
        let batch = waits.data(|| self.films.to_learn(coming.take(step)?))?;
        let done = self.training.step(self.config, &batch, self.stage.reduce, step, rate)?;
        Ok(StepReport { loss: done.loss, gradient_norm: done.gradient_norm, metrics: Vec::new() })
    }

    fn validate(&mut self) -> Result<Validation> {
        let network = network(self.films.shape, self.training.exported(), self.films.device)?;
        let report = validate::validate(&network, self.films)?;
        Ok(Validation {
            watched: vec![report.cross_entropy],
            metrics: report.metrics(),
            // Without any defined AUROC there is no best.
            score: report.macro_auroc().unwrap_or(f64::NAN),
            summary: report.to_string(),
        })
    }

    fn draw(&self, _step: u64) -> Result<bool> {
        Ok(true)
    }

    fn checkpoint(&self, step: u64) -> Result<Checkpoint> {
        Ok(self.training.checkpoint(step))
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> Result<u64> {
        self.training.restore(checkpoint)
    }
}
