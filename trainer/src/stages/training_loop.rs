//! The loop that every trained stage runs: steps, validations, checkpoints, going back after a failure, stopping and going on.

use anyhow::Result;

use super::{Stage, announce, refuse_fewer_steps};
use crate::config::{Cadence, OptimiserConfig, Safety};
use crate::optim::learning_rate;
use crate::run::{Checkpoint, Checkpoints, Guard, Journal, Subject};

/// How a stage is run.
pub(super) struct Course<'a> {
    /// The stage; its section in the configuration has this name.
    pub(super) stage: &'static str,
    /// What makes two runs of it the same run.
    pub(super) identity: &'a str,
    pub(super) steps: u64,
    pub(super) films_per_step: usize,
    pub(super) cadence: Cadence,
    pub(super) safety: Safety,
    pub(super) optimiser: OptimiserConfig,
}

/// What a step saw.
pub(super) struct StepReport {
    /// What is told as the progress, and watched for an explosion.
    pub(super) loss: f64,
    pub(super) gradient_norm: f64,
    /// More numbers, by name.
    pub(super) metrics: Vec<(&'static str, f64)>,
}

/// What a validation saw.
pub(super) struct Validation {
    /// Numbers that no sound network gives as NaN or infinite; the first is the one that tests may replace.
    pub(super) watched: Vec<f64>,
    pub(super) metrics: Vec<(String, f64)>,
    /// What the best checkpoint is chosen by: higher is better.
    pub(super) score: f64,
    /// All of it for people.
    pub(super) summary: String,
}

/// What learns: everything that changes from step to step.
pub(super) trait Trainee {
    /// Learns from the films of `step` (from 0) at the learning rate `rate`.
    /// It gets its films within `journal.data`, which tells how long they took.
    fn step(&mut self, step: u64, rate: f64, journal: &mut Journal) -> Result<StepReport>;

    /// The learning rate, where it does not follow the course's warm-up and cosine.
    fn learning_rate(&self) -> Option<f64> {
        None
    }

    /// The loss on validation films where an epoch ended with step `step`, if the learning rate goes by it.
    fn epoch_loss(&mut self, _step: u64) -> Result<Option<f64>> {
        Ok(None)
    }

    /// Takes in the loss of an epoch, which is a number; the learning rate from here on.
    fn observe(&mut self, loss: f64) -> f64 {
        loss
    }

    /// Judges what would be exported now.
    fn validate(&mut self) -> Result<Validation>;

    /// Draws what was judged last, after `step` steps; false where it is no picture, but NaN.
    fn draw(&self, step: u64) -> Result<bool>;

    /// All that a resume needs, after `step` steps.
    fn checkpoint(&self, step: u64) -> Result<Checkpoint>;

    /// Takes up a checkpoint; the steps that were done by then.
    fn restore(&mut self, checkpoint: Checkpoint) -> Result<u64>;
}

/// Trains to the end and gives the history of failures, which is part of what the weights depend on; or until asked to stop
/// (then `None`).
///
/// # Errors
/// Where the loss is no number and the stage is not to go back, or a file cannot be written.
pub(super) fn train(stage: &Stage<'_>, course: &Course<'_>, trainee: &mut impl Trainee) -> Result<Option<String>> {
    let name = course.stage;
    let folder = stage.directory.stage(name);
    let mut checkpoints = Checkpoints::new(&folder, course.identity).keeping(course.safety.keep);
    let mut guard = Guard::new(name, course.safety);
    if guard.goes_back() {
        checkpoints = checkpoints.going_back_by(course.cadence.checkpoint_every);
    }
    let mut step = match checkpoints.latest(stage.device)? {
        Some(mut checkpoint) => {
            guard.restore(&mut checkpoint)?;
            trainee.restore(checkpoint)?
        }
        None => 0,
    };
    refuse_fewer_steps(&format!("{name}.steps"), step, course.steps)?;
    // Only now: a configuration that does not fit what is there must not replace the record of what made it.
    stage.directory.record(stage.config)?;
    announce(name, step, course.steps);
    if step == course.steps {
        return Ok(Some(guard.history()));
    }
    if guard.goes_back() && checkpoints.newest().is_none() {
        checkpoints.save(guard.record(trainee.checkpoint(step)?)?)?;
    }
    let subject =
        Subject { run: &stage.config.name, stage: name, steps: course.steps, films_per_step: course.films_per_step };
    let mut journal = Journal::open(&folder, &subject, step)?;
    let validation_name = format!("{name} validation");
    while step < course.steps {
        let rate = trainee.learning_rate().unwrap_or_else(|| learning_rate(&course.optimiser, step, course.steps))
            * guard.learning_rate_factor();
        let report = trainee.step(step, rate, &mut journal)?;
        let seen = stage.observed(name, step, &guard, report.loss);
        let mut failure = guard.failure(step, seen, report.gradient_norm);
        let mut validation = None;
        if failure.is_none() {
            step += 1;
            journal.step(step, report.loss);
            let common = [("loss", report.loss), ("gradient_norm", report.gradient_norm), ("learning_rate", rate)];
            journal.write(step, "train", &[&common, report.metrics.as_slice()].concat())?;
            if let Some(loss) = trainee.epoch_loss(step)? {
                failure = Guard::validation_failure(step - 1, &[loss], report.gradient_norm);
                if failure.is_none() {
                    let rate = trainee.observe(loss) * guard.learning_rate_factor();
                    journal.write(step, "epoch", &[("validation_loss", loss), ("learning_rate", rate)])?;
                }
            }
            if failure.is_none() && (step % course.cadence.validate_every == 0 || step == course.steps) {
                let judged = trainee.validate()?;
                let mut watched = judged.watched.clone();
                if let Some(first) = watched.first_mut() {
                    *first = stage.observed(&validation_name, step - 1, &guard, *first);
                }
                failure = Guard::validation_failure(step - 1, &watched, report.gradient_norm);
                if failure.is_none() && !trainee.draw(step)? {
                    failure = Guard::validation_failure(step - 1, &[f64::NAN], report.gradient_norm);
                }
                validation = Some(judged);
            }
        }
        if let Some(failure) = failure {
            step = trainee.restore(guard.roll_back(&failure, &checkpoints, stage.device)?)?;
            checkpoints.save_returned(guard.record(trainee.checkpoint(step)?)?)?;
            journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
            continue;
        }
        if let Some(validation) = validation {
            let metrics: Vec<(&str, f64)> =
                validation.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            journal.write(step, "validate", &metrics)?;
            journal.draw_curves();
            journal.say(&format!("{name} step {step}: {}", validation.summary));
            if course.safety.keep_best {
                checkpoints.save_best(validation.score, || guard.record(trainee.checkpoint(step)?))?;
            }
        }
        let stopping = stage.stop.raised();
        if step % course.cadence.checkpoint_every == 0 || step == course.steps || stopping {
            checkpoints.save(guard.record(trainee.checkpoint(step)?)?)?;
        }
        if stopping && step < course.steps {
            journal.draw_curves();
            journal.say(&format!("{name}: saved at step {step}; the same command goes on from there"));
            return Ok(None);
        }
    }
    Ok(Some(guard.history()))
}

/// Metrics with names that are known beforehand.
pub(super) fn named<const N: usize>(metrics: [(&str, f64); N]) -> Vec<(String, f64)> {
    metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
