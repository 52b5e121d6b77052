//! What a stage tells while it trains: metrics as JSON lines, TensorBoard events, curves, progress.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::disk::write_synced;
use super::guard::Failure;
use super::metrics::{MetricsLog, ROLL_BACK};
use super::progress::StageProgress;
use super::tensorboard::EventFile;
use super::waits::Waits;
use super::{curves, memory};

/// How often `progress.json` is written.
const INTERVAL: Duration = Duration::from_secs(5);
/// The file that `raygen-trainer status` reads.
const FILE: &str = "progress.json";
/// The event of a training step.
const TRAIN: &str = "train";
/// The metric of waiting for films.
const DATA_WAIT: &str = "data_wait";

/// The open records of a stage.
pub struct Journal {
    stage: &'static str,
    /// The run and the stage, above the curves.
    title: String,
    folder: PathBuf,
    steps: u64,
    metrics: MetricsLog,
    events: EventFile,
    progress: StageProgress,
    waits: Waits,
    written: Option<Instant>,
}

/// How fast a stage goes: what is left in `progress.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Films a second, validation and saving included.
    pub films_per_second: f64,
    /// Seconds to the last step at this pace.
    pub seconds_left: f64,
    /// Memory of the trainer, where it can be told.
    #[serde(default)]
    pub resident_bytes: Option<u64>,
    /// Share of the steps' time that they waited for their films.
    #[serde(default)]
    pub data_wait: Option<f64>,
}

/// What a journal is about.
pub struct Subject<'a> {
    /// The run.
    pub run: &'a str,
    /// The stage.
    pub stage: &'static str,
    /// Steps in all.
    pub steps: u64,
    /// Films a step.
    pub films_per_step: usize,
}

impl Journal {
    /// Opens the records in `folder` after `step` steps; what they hold of later ones is taken back.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn open(folder: &Path, subject: &Subject<'_>, step: u64) -> io::Result<Self> {
        Ok(Self {
            stage: subject.stage,
            title: format!("{}: {}", subject.run, subject.stage),
            folder: folder.to_owned(),
            steps: subject.steps,
            metrics: MetricsLog::open(folder, step)?,
            events: EventFile::create(folder, step)?,
            progress: StageProgress::new(subject.stage, step, subject.steps, subject.films_per_step),
            waits: Waits::default(),
            written: None,
        })
    }

    /// Goes back to `step`: what was recorded of later ones is taken back, but for having gone back before.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    fn go_back(&mut self, step: u64) -> io::Result<()> {
        self.metrics = MetricsLog::go_back(&self.folder, step)?;
        self.events = EventFile::create(&self.folder, step)?;
        self.progress.go_back(step);
        Ok(())
    }

    /// Where a step tells how long it waits for its films.
    pub fn waits(&mut self) -> &mut Waits {
        &mut self.waits
    }

    /// Records an event and its values; of a training step the share too that it waited for its films, as `data_wait`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn write(&mut self, step: u64, event: &str, values: &[(&str, f64)]) -> io::Result<()> {
        let mut values = values.to_vec();
        if event == TRAIN {
            values.extend(self.waits.step_ended().map(|share| (DATA_WAIT, share)));
        }
        self.metrics.write(step, event, &values)?;
        self.events.scalars(step, event, &values)?;
        if event == TRAIN
            && step == self.steps
            && let Some(share) = self.waits.share()
        {
            self.say(&format!("{}: the steps waited {:.1} % of their time for films", self.stage, 100.0 * share));
        }
        Ok(())
    }

    /// Takes the records back to `step` and says why.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn rolled_back(&mut self, step: u64, failure: &Failure, learning_rate_factor: f64) -> io::Result<()> {
        self.go_back(step)?;
        self.write(
            step,
            ROLL_BACK,
            &[
                ("failed_step", failure.step as f64),
                ("loss", failure.loss),
                ("gradient_norm", failure.gradient_norm),
                ("learning_rate_factor", learning_rate_factor),
            ],
        )?;
        let stage = self.stage;
        self.say(&format!("{stage}: {failure}; back to step {step}, the learning rate times {learning_rate_factor}"));
        Ok(())
    }

    /// Shows that `step` steps are done, the last with this loss.
    pub fn step(&mut self, step: u64, loss: f64) {
        self.progress.step(step, Some(loss));
        if step == self.steps || self.written.is_none_or(|written| written.elapsed() >= INTERVAL) {
            let (films_per_second, left) = self.progress.pace(step);
            let pace = Pace {
                step,
                steps: self.steps,
                films_per_second,
                seconds_left: left.as_secs_f64(),
                resident_bytes: memory::resident_bytes(),
                data_wait: self.waits.share(),
            };
            let written = serde_json::to_vec(&pace).map_err(io::Error::from);
            let written = written.and_then(|json| write_synced(&self.folder.join(FILE), &json));
            // It is a courtesy: a run does not end for it.
            if let Err(error) = written {
                self.say(&format!("{}: {FILE} cannot be written: {error}", self.stage));
            }
            self.written = Some(Instant::now());
        }
    }

    /// Draws the curves anew. A picture that cannot be drawn is told and ends no run.
    pub fn draw_curves(&self) {
        if let Err(error) = curves::draw(&self.folder, &self.title) {
            self.say(&format!("{}: the curves cannot be drawn: {error:#}", self.stage));
        }
    }

    /// Prints a line.
    pub fn say(&self, text: &str) {
        self.progress.say(text);
    }
}

// === impl Pace ===

impl Pace {
    /// What the stage in `folder` left, if it left any.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()
    }
}
