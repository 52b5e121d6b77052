//! Progress of a stage: a bar on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::memory::{readable, resident_bytes};

/// How often a plain line is printed where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(20);

/// Progress over the steps of one stage.
pub struct StageProgress {
    bar: Option<ProgressBar>,
    stage: &'static str,
    steps: u64,
    first: u64,
    films_per_step: usize,
    started: Instant,
    last_line: Instant,
}

impl StageProgress {
    /// Starts at `step` of `steps`.
    #[must_use]
    pub fn new(stage: &'static str, step: u64, steps: u64, films_per_step: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps).with_position(step);
            let template = "{prefix:12} {bar:30} {pos}/{len} {elapsed} {msg}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(stage);
            bar
        });
        let now = Instant::now();
        Self { bar, stage, steps, first: step, films_per_step, started: now, last_line: now }
    }

    /// `step` steps are done, the last with this loss, where the stage has one.
    pub fn step(&mut self, step: u64, loss: Option<f64>) {
        let (films_per_second, left) = self.pace(step);
        let message = format!(
            "{}{films_per_second:.1} films/s, {} left{}",
            loss.map_or_else(String::new, |l| format!("loss {l:.4}, ")),
            minutes(left),
            resident_bytes().map_or_else(String::new, |bytes| format!(", {} in memory", readable(bytes))),
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(step);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() >= PLAIN_INTERVAL || step == self.steps => {
                eprintln!("{} {step}/{} {message}", self.stage, self.steps);
                self.last_line = Instant::now();
            }
            None => {}
        }
    }

    /// Films a second since it started, and the time to the last step at this pace, after `step` steps.
    #[must_use]
    pub fn pace(&self, step: u64) -> (f64, Duration) {
        let elapsed = self.started.elapsed().as_secs_f64();
        let done = step.saturating_sub(self.first).max(1) as f64;
        let rate = done / elapsed.max(1e-9);
        let left = Duration::from_secs_f64(self.steps.saturating_sub(step) as f64 / rate);
        (rate * self.films_per_step as f64, left)
    }

    /// Starts again at `step`, an earlier one.
    pub fn go_back(&mut self, step: u64) {
        (self.first, self.started) = (step, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_position(step);
        }
    }

    /// Prints a line above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for StageProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}

/// Hours, minutes and seconds.
pub(crate) fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
