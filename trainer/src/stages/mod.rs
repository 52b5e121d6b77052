//! The stages of a run, in order: `tokenizer`, `encode`, `transformer`, `decoder` and `classifier` where
//! there are such, `export`. Each resumes from its last checkpoint.

mod adversary;
pub mod classifier;
mod decoder;
pub mod encode;
pub mod export;
mod left_out;
mod picture_loss;
mod ranks;
pub mod tokenizer;
mod training_loop;
pub mod transformer;

#[cfg(test)]
mod roll_back_tests;

pub(crate) use self::decoder::learns as decoder_learns;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use sha2::{Digest, Sha256};

use crate::config::RunConfig;
use crate::data::{FilmSet, OnBadFilms};
use crate::optim::Reduce;
use crate::run::disk::advised;
use crate::run::disk::hex;
use crate::run::{Guard, RunDirectory, StopSignal};

/// What every stage works with.
pub struct Stage<'a> {
    /// The configuration.
    pub config: &'a RunConfig,
    /// The films.
    pub films: &'a FilmSet,
    /// The run directory.
    pub directory: &'a RunDirectory,
    /// Where it computes.
    pub device: &'a Device,
    /// Whether to save and stop.
    pub stop: &'a StopSignal,
    /// The ranks that train together, of which this is one.
    pub reduce: &'a dyn Reduce,
    /// Failures that a test asks for.
    fault: Option<&'a Fault>,
}

/// A failure for tests: of (stage, step, times it went back before) the loss to be seen instead of the real one.
type Fault = dyn Fn(&str, u64, usize) -> Option<f64> + Sync;

/// How a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All its steps are done.
    Done,
    /// It was asked to stop, saved, and can go on later.
    Stopped,
}

/// Runs all stages of `config` in `out`, going on where an earlier run stopped.
///
/// # Errors
/// Says which stage could not go on and why; what was saved before stays.
pub fn run(config: &RunConfig, out: &Path, device: &Device, stop: &StopSignal) -> Result<Outcome> {
    run_on(config, out, std::slice::from_ref(device), stop)
}

/// The same on several devices, a rank each: every one takes `batch` films of a step.
///
/// # Errors
/// The same, with the rank that failed.
pub fn run_on(config: &RunConfig, out: &Path, devices: &[Device], stop: &StopSignal) -> Result<Outcome> {
    run_with(config, out, devices, stop, None).map_err(advised)
}

fn run_with(
    config: &RunConfig,
    out: &Path,
    devices: &[Device],
    stop: &StopSignal,
    fault: Option<&Fault>,
) -> Result<Outcome> {
    for (key, path) in config.files_of_later_stages() {
        if !path.exists() {
            bail!("{key}: {} is not there", path.display());
        }
    }
    let directory = RunDirectory::open(out)?;
    let Some(films) = FilmSet::open(&config.film_source(&directory.stage("films"))?, stop)? else {
        return Ok(Outcome::Stopped);
    };
    if config.data.bad_films == OnBadFilms::LeaveOut {
        left_out::record(&directory.stage("left_out.json"), &films.left_out)?;
    }
    eprintln!(
        "{}: {} films to learn from, {} to validate on, {} px",
        config.name,
        films.train.len(),
        films.val.len(),
        films.side
    );
    let outcome = ranks::on_each(devices, |device, reduce| {
        let stage = Stage { config, films: &films, directory: &directory, device, stop, reduce, fault };
        if config.makes_pictures() { pictures(&stage) } else { classifier_alone(&stage) }
    })?;
    if outcome == Outcome::Done {
        eprintln!("bundle: {}", directory.bundle().display());
    }
    Ok(outcome)
}

/// The stages of a run that makes pictures.
fn pictures(stage: &Stage<'_>) -> Result<Outcome> {
    let Some(tokenizer) = tokenizer::train(stage).context("stage tokenizer")? else { return Ok(Outcome::Stopped) };
    let Some(tokens) = encode::tokens(stage, &tokenizer).context("stage encode")? else {
        return Ok(Outcome::Stopped);
    };
    let Some(trained) = transformer::train(stage, &tokenizer, &tokens).context("stage transformer")? else {
        return Ok(Outcome::Stopped);
    };
    let tokenizer = match &stage.config.decoder {
        Some(decoder) => {
            let tuned = decoder::train(stage, decoder, &tokenizer, &tokens, &trained).context("stage decoder")?;
            let Some(tuned) = tuned else { return Ok(Outcome::Stopped) };
            tuned
        }
        None => tokenizer,
    };
    let classifier = match &stage.config.classifier {
        Some(section) => {
            let Some(classifier) = classifier::train(stage, section).context("stage classifier")? else {
                return Ok(Outcome::Stopped);
            };
            Some(classifier)
        }
        None => None,
    };
    stage.notice("stage export: begins");
    stage
        .reduce
        .once(|| export::export(stage, &tokenizer, &trained, classifier.as_ref(), &stage.directory.bundle()))
        .context("stage export")?;
    Ok(Outcome::Done)
}

/// The stages of a run of a classifier alone.
fn classifier_alone(stage: &Stage<'_>) -> Result<Outcome> {
    let section =
        stage.config.classifier.as_ref().context("the run has no stage: no [tokenizer] and no [classifier]")?;
    let Some(classifier) = classifier::train(stage, section).context("stage classifier")? else {
        return Ok(Outcome::Stopped);
    };
    stage.notice("stage export: begins");
    stage.reduce.once(|| classifier::export(stage, &classifier)).context("stage export")?;
    Ok(Outcome::Done)
}

impl Stage<'_> {
    /// The loss as the guard sees it.
    fn observed(&self, stage: &str, step: u64, guard: &Guard, loss: f64) -> f64 {
        self.fault.and_then(|fault| fault(stage, step, guard.roll_backs())).unwrap_or(loss)
    }

    /// Tells a person something once, however many ranks there are.
    fn notice(&self, line: &str) {
        if self.reduce.leads() {
            eprintln!("{line}");
        }
    }
}

/// Says where a stage stands before it goes on.
fn announce(stage: &Stage<'_>, name: &str, step: u64, steps: u64) {
    let state = match step {
        _ if step == steps => "up to date",
        0 => "begins",
        _ => "resumes",
    };
    stage.notice(&format!("stage {name}: {state} ({step}/{steps})"));
}

/// A checkpoint from beyond the last step would be exported as if it were from the last step.
fn refuse_fewer_steps(key: &str, done: u64, steps: u64) -> Result<()> {
    if done > steps {
        bail!("{done} steps are done already, but {key} is {steps}; set it to {done} or more, or give another --out");
    }
    Ok(())
}

/// SHA-256 of what a stage's result depends on.
fn fingerprint(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    hex(&digest.finalize())
}
