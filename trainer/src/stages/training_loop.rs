//! The loop that every trained stage runs: steps, validations, checkpoints, going back after a failure, stopping and going on.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use candle_core::Device;

use super::{Stage, announce, refuse_fewer_steps};
use crate::config::{Cadence, OptimiserConfig, Safety};
use crate::optim::learning_rate;
use crate::run::{Checkpoint, Checkpoints, Failure, Guard, Journal, Subject, Waits};

/// How a stage is run.
pub(super) struct Course<'a> {
    /// The stage; its section in the configuration has this name.
    pub(super) stage: &'static str,
    /// What makes two runs of it the same run.
    pub(super) identity: &'a str,
    pub(super) steps: u64,
    /// Of one rank.
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
    /// Learns from the films of `step` (from 0) at the learning rate `rate`; what it sees is the same on all ranks.
    /// It gets its films within `waits.data`, which tells how long they took.
    fn step(&mut self, step: u64, rate: f64, waits: &mut Waits) -> Result<StepReport>;

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
/// (then `None`). All ranks come here together. Only rank 0 reads, writes, judges and is asked to stop; what comes of it the others
/// are told, so that all leave at the same step.
///
/// # Errors
/// Where the loss is no number and the stage is not to go back, or a file cannot be written.
pub(super) fn train(stage: &Stage<'_>, course: &Course<'_>, trainee: &mut impl Trainee) -> Result<Option<String>> {
    let (name, ranks, leads) = (course.stage, stage.reduce, stage.reduce.leads());
    let folder = stage.directory.stage(name);
    let mut checkpoints = Checkpoints::new(&folder, course.identity).keeping(course.safety.keep);
    let mut guard = Guard::new(name, course.safety);
    if guard.goes_back() {
        checkpoints = checkpoints.going_back_by(course.cadence.checkpoint_every);
    }
    let mut step = match read(stage, |device| Ok(checkpoints.latest(device)?))? {
        Some(mut checkpoint) => {
            guard.restore(&mut checkpoint)?;
            trainee.restore(checkpoint)?
        }
        None => 0,
    };
    refuse_fewer_steps(&format!("{name}.steps"), step, course.steps)?;
    if leads {
        // Only now: a configuration that does not fit what is there must not replace the record of what made it.
        stage.directory.record(stage.config)?;
    }
    announce(stage, name, step, course.steps);
    if step == course.steps {
        return hand_on(stage, course, &checkpoints, trainee, guard.history()).map(Some);
    }
    if leads && guard.goes_back() && checkpoints.newest().is_none() {
        checkpoints.save(guard.record(trainee.checkpoint(step)?)?)?;
    }
    let films_per_step = course.films_per_step * ranks.ranks();
    let subject = Subject { run: &stage.config.name, stage: name, steps: course.steps, films_per_step };
    let mut journal = if leads { Some(Journal::open(&folder, &subject, step)?) } else { None };
    let mut untold = Waits::default();
    let validation_name = format!("{name} validation");
    while step < course.steps {
        let rate = trainee.learning_rate().unwrap_or_else(|| learning_rate(&course.optimiser, step, course.steps))
            * guard.learning_rate_factor();
        let report = trainee.step(step, rate, journal.as_mut().map_or(&mut untold, Journal::waits))?;
        let seen = stage.observed(name, step, &guard, report.loss);
        let mut failure = guard.failure(step, seen, report.gradient_norm);
        let mut validation = None;
        if failure.is_none() {
            step += 1;
            if let Some(journal) = &mut journal {
                journal.step(step, report.loss);
                let common = [("loss", report.loss), ("gradient_norm", report.gradient_norm), ("learning_rate", rate)];
                journal.write(step, "train", &[&common, report.metrics.as_slice()].concat())?;
            }
            if let Some(loss) = ranks.once(|| trainee.epoch_loss(step))? {
                failure = Guard::validation_failure(step - 1, &[loss], report.gradient_norm);
                if failure.is_none() {
                    let rate = trainee.observe(loss) * guard.learning_rate_factor();
                    if let Some(journal) = &mut journal {
                        journal.write(step, "epoch", &[("validation_loss", loss), ("learning_rate", rate)])?;
                    }
                }
            }
            if failure.is_none() && (step % course.cadence.validate_every == 0 || step == course.steps) {
                failure = ranks.once(|| -> Result<Option<Failure>> {
                    let judged = trainee.validate()?;
                    let mut watched = judged.watched.clone();
                    if let Some(first) = watched.first_mut() {
                        *first = stage.observed(&validation_name, step - 1, &guard, *first);
                    }
                    let mut failure = Guard::validation_failure(step - 1, &watched, report.gradient_norm);
                    if failure.is_none() && !trainee.draw(step)? {
                        failure = Guard::validation_failure(step - 1, &[f64::NAN], report.gradient_norm);
                    }
                    validation = Some(judged);
                    Ok(failure)
                })?;
            }
        }
        if let Some(failure) = failure {
            let back = || read(stage, |device| Ok(checkpoints.to_go_back_to(device)?));
            step = trainee.restore(guard.roll_back(&failure, &checkpoints, back)?)?;
            if let Some(journal) = &mut journal {
                checkpoints.save_returned(guard.record(trainee.checkpoint(step)?)?)?;
                journal.rolled_back(step, &failure, guard.learning_rate_factor())?;
            }
            continue;
        }
        if let (Some(validation), Some(journal)) = (validation, &mut journal) {
            let metrics: Vec<(&str, f64)> =
                validation.metrics.iter().map(|(name, value)| (name.as_str(), *value)).collect();
            journal.write(step, "validate", &metrics)?;
            journal.draw_curves();
            journal.say(&format!("{name} step {step}: {}", validation.summary));
            if course.safety.keep_best {
                checkpoints.save_best(validation.score, || guard.record(trainee.checkpoint(step)?))?;
            }
        }
        let stopping = stopping(stage, step, &report)?;
        if leads && (step % course.cadence.checkpoint_every == 0 || step == course.steps || stopping) {
            checkpoints.save(guard.record(trainee.checkpoint(step)?)?)?;
        }
        if stopping && step < course.steps {
            if let Some(journal) = &journal {
                journal.draw_curves();
                journal.say(&format!("{name}: saved at step {step}; the same command goes on from there"));
            }
            return Ok(None);
        }
    }
    hand_on(stage, course, &checkpoints, trainee, guard.history()).map(Some)
}

/// What is handed on: the trainee as it is, or as it was at its best validation. Which of them belongs to the history.
fn hand_on(
    stage: &Stage<'_>,
    course: &Course<'_>,
    checkpoints: &Checkpoints,
    trainee: &mut impl Trainee,
    history: String,
) -> Result<String> {
    if !stage.config.export.best || !course.safety.keep_best {
        return Ok(history);
    }
    let best = read(stage, |device| Ok(checkpoints.best(device)?)).context("export.best")?;
    let Some(best) = best.filter(|best| best.step < course.steps) else { return Ok(history) };
    let step = trainee.restore(best)?;
    stage.notice(&format!("{}: step {step} of {} was the best, and is what is handed on", course.stage, course.steps));
    Ok(format!("{history}best at {step};"))
}

/// The checkpoint that rank 0 reads with `read`, on the device of each rank.
fn read(stage: &Stage<'_>, read: impl FnOnce(&Device) -> Result<Option<Checkpoint>>) -> Result<Option<Checkpoint>> {
    if stage.reduce.ranks() == 1 {
        return read(stage.device);
    }
    let shared = stage.reduce.once(|| -> Result<_> { Ok(read(&Device::Cpu)?.map(Arc::new)) })?;
    Ok(shared.map(|checkpoint| checkpoint.copy_on(stage.device)).transpose()?)
}

/// Whether rank 0 was asked to stop. Where a rank saw another step than rank 0 did, its weights have come apart from the others':
/// that ends the run.
fn stopping(stage: &Stage<'_>, step: u64, report: &StepReport) -> Result<bool> {
    let own = (stage.stop.raised(), report.loss, report.gradient_norm);
    let first = stage.reduce.once(|| Ok::<_, anyhow::Error>(own))?;
    if (first.1.to_bits(), first.2.to_bits()) != (own.1.to_bits(), own.2.to_bits()) {
        bail!(
            "its step {step} has the loss {} and the gradient's norm {}, on rank 0 they are {} and {}: the ranks have come apart",
            own.1,
            own.2,
            first.1,
            first.2
        );
    }
    Ok(first.0)
}

/// Metrics with names that are known beforehand.
pub(super) fn named<const N: usize>(metrics: [(&str, f64); N]) -> Vec<(String, f64)> {
    metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
