//! What to do where the loss is no number, or explodes: stop, or go back to a checkpoint with half the learning rate.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};

use super::checkpoint::{Checkpoint, Checkpoints};
use crate::config::{OnFailure, Safety};

/// A stage goes back at most so often.
const MOST: usize = 3;
/// What the learning rate is multiplied by each time.
const FACTOR: f64 = 0.5;
/// A loss is compared to the median of so many before it,
const WINDOW: usize = 100;
/// once there are so many.
const LEAST: usize = 20;
/// Group of the recent losses in a checkpoint.
const GROUP: &str = "losses";

/// Watches the loss of one stage.
pub struct Guard {
    stage: &'static str,
    safety: Safety,
    /// The step of each failure after which the stage went back.
    roll_backs: Vec<u64>,
    /// The newest losses, oldest first; kept only where they are looked at.
    losses: VecDeque<f64>,
}

/// A step after which training cannot go on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failure {
    /// The step, from 0.
    pub step: u64,
    /// Its loss; where the validation after it failed, the first of its numbers that is none.
    pub loss: f64,
    /// The norm of its gradient.
    pub gradient_norm: f64,
    /// The median of the losses before it, where the loss is a number and too large.
    pub median: Option<f64>,
    /// Whether it showed only in the validation after the step.
    pub in_validation: bool,
}

impl Guard {
    /// A guard of `stage` that nothing has happened to yet.
    #[must_use]
    pub fn new(stage: &'static str, safety: Safety) -> Self {
        Self { stage, safety, roll_backs: Vec::new(), losses: VecDeque::new() }
    }

    /// Takes up what a checkpoint remembers.
    ///
    /// # Errors
    /// Where its losses cannot be read.
    pub fn restore(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        self.roll_backs.clone_from(&checkpoint.roll_backs);
        self.restore_losses(checkpoint)
    }

    /// The checkpoint with what is to be remembered. Without failures and without `explode_factor` it is as it was.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn record(&self, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
        checkpoint.roll_backs.clone_from(&self.roll_backs);
        if !self.losses.is_empty() {
            let losses: Vec<f64> = self.losses.iter().copied().collect();
            let tensor = Tensor::new(losses, &Device::Cpu)?;
            checkpoint.groups.insert(GROUP.to_owned(), BTreeMap::from([("recent".to_owned(), tensor)]));
        }
        Ok(checkpoint)
    }

    /// What the learning rate is multiplied by.
    #[must_use]
    pub fn learning_rate_factor(&self) -> f64 {
        FACTOR.powi(i32::try_from(self.roll_backs.len()).unwrap_or(i32::MAX))
    }

    /// The failures so far, as text: empty where there was none.
    #[must_use]
    pub fn history(&self) -> String {
        self.roll_backs.iter().map(|step| format!("failed at {step};")).collect()
    }

    /// How often the stage went back.
    #[must_use]
    pub fn roll_backs(&self) -> usize {
        self.roll_backs.len()
    }

    /// Whether going back is asked for: then there must be a checkpoint from the start on.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.safety.on_failure == OnFailure::RollBack
    }

    /// Looks at the loss and gradient of step `step`.
    pub fn failure(&mut self, step: u64, loss: f64, gradient_norm: f64) -> Option<Failure> {
        let failure = Failure { step, loss, gradient_norm, median: None, in_validation: false };
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Some(failure);
        }
        let factor = self.safety.explode_factor?;
        if self.losses.len() >= LEAST {
            let median = median(&self.losses);
            if loss > factor * median {
                return Some(Failure { median: Some(median), ..failure });
            }
        }
        if self.losses.len() == WINDOW {
            self.losses.pop_front();
        }
        self.losses.push_back(loss);
        None
    }

    /// Looks at the numbers of the validation after step `step`: the update of that step is not in its own loss.
    #[must_use]
    pub fn validation_failure(step: u64, numbers: &[f64], gradient_norm: f64) -> Option<Failure> {
        let loss = numbers.iter().copied().find(|number| !number.is_finite())?;
        Some(Failure { step, loss, gradient_norm, median: None, in_validation: true })
    }

    /// The checkpoint to go on from after `failure`: what `read` gives of `checkpoints`.
    ///
    /// # Errors
    /// Where the stage is to stop: the message names the last checkpoint.
    pub fn roll_back(
        &mut self,
        failure: &Failure,
        checkpoints: &Checkpoints,
        read: impl FnOnce() -> Result<Option<Checkpoint>>,
    ) -> Result<Checkpoint> {
        if !self.goes_back() || self.roll_backs.len() >= MOST {
            bail!(self.last_words(failure, checkpoints));
        }
        let mut checkpoint = read()?.with_context(|| self.last_words(failure, checkpoints))?;
        self.restore_losses(&mut checkpoint)?;
        self.roll_backs.push(failure.step);
        Ok(checkpoint)
    }

    fn restore_losses(&mut self, checkpoint: &mut Checkpoint) -> Result<()> {
        let losses = checkpoint.take(GROUP);
        self.losses = match (losses.get("recent"), self.safety.explode_factor) {
            (Some(losses), Some(_)) => losses.to_vec1::<f64>()?.into(),
            _ => VecDeque::new(),
        };
        Ok(())
    }

    fn last_words(&self, failure: &Failure, checkpoints: &Checkpoints) -> String {
        let stage = self.stage;
        let checkpoint = match checkpoints.newest() {
            Some(path) => format!("the last checkpoint is {}", path.display()),
            None => "there is no checkpoint yet".to_owned(),
        };
        let advice = match self.roll_backs.len() {
            0 if !self.goes_back() => format!(
                "set {stage}.on_failure = \"roll_back\" and run again, or begin anew with a lower {stage}.optimiser.learning_rate"
            ),
            times => format!(
                "the learning rate was halved {times} times already: begin anew with a lower {stage}.optimiser.learning_rate"
            ),
        };
        format!("{failure}; {checkpoint}; {advice}")
    }
}

// === impl Failure ===

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.in_validation {
            return write!(f, "the validation after step {} found {}", self.step, self.loss);
        }
        write!(f, "the loss is {} and the gradient's norm {} at step {}", self.loss, self.gradient_norm, self.step)?;
        match self.median {
            Some(median) => write!(f, ", the median before it {median:.4}"),
            None => Ok(()),
        }
    }
}

fn median(losses: &VecDeque<f64>) -> f64 {
    let mut sorted: Vec<f64> = losses.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn guard(on_failure: OnFailure, explode_factor: Option<f64>) -> Guard {
        Guard::new("tokenizer", Safety { on_failure, explode_factor, ..Safety::default() })
    }

    #[test]
    fn what_is_no_number_is_a_failure_and_a_large_loss_only_where_asked_for() {
        let mut guard = guard(OnFailure::Stop, None);
        assert!(guard.failure(0, f64::NAN, 1.0).is_some());
        assert!(guard.failure(0, 1.0, f64::INFINITY).is_some());
        (0..200).for_each(|step| assert_eq!(guard.failure(step, 1.0, 1.0), None));
        assert_eq!(guard.failure(200, 1e9, 1.0), None);
        assert!(guard.losses.is_empty(), "nothing is remembered that nobody looks at");
    }

    #[test]
    fn a_loss_above_the_factor_times_the_median_is_a_failure_once_there_are_enough() {
        let mut guard = guard(OnFailure::Stop, Some(3.0));
        (0..19).for_each(|step| assert_eq!(guard.failure(step, 1.0, 1.0), None));
        assert_eq!(guard.failure(19, 50.0, 1.0), None, "19 losses are too few to say what is usual");
        assert_eq!(guard.failure(20, 2.9, 1.0), None);
        let failure = guard.failure(21, 3.1, 1.0).unwrap();
        assert_eq!(failure.median, Some(1.0));
        // The failure is not taken in; the window moves on.
        (22..200).for_each(|step| assert_eq!(guard.failure(step, 2.0, 1.0), None));
        assert_eq!((guard.losses.len(), guard.failure(200, 5.9, 1.0)), (WINDOW, None));
    }

    #[test]
    fn a_checkpoint_carries_the_history_and_nothing_where_there_is_none() {
        let mut first = guard(OnFailure::RollBack, Some(3.0));
        let empty = first.record(Checkpoint::default()).unwrap();
        assert!(empty.groups.is_empty() && empty.roll_backs.is_empty());
        first.failure(0, 0.25, 1.0);
        first.roll_backs = vec![7, 9];
        let mut checkpoint = first.record(Checkpoint::default()).unwrap();
        let mut second = guard(OnFailure::RollBack, Some(3.0));
        second.restore(&mut checkpoint).unwrap();
        assert_eq!((second.roll_backs(), second.learning_rate_factor()), (2, 0.25));
        assert_eq!(second.losses, first.losses);
        assert_eq!(second.history(), "failed at 7;failed at 9;");
    }
}
