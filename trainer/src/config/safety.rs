//! What a stage keeps, and what it does where training fails: nothing of it changes a weight of a run that goes well, so it is
//! no part of what a run is, and may change from one start to the next.

use serde::{Deserialize, Serialize};

/// What happens where the loss or its gradient is no number, or the loss explodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The stage stops with an error that names its last checkpoint.
    #[default]
    Stop,
    /// The stage goes back to its last checkpoint and on with half the learning rate, at most three times; then it stops.
    RollBack,
}

/// The keys `on_failure`, `explode_factor`, `keep` and `keep_best` of a stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Safety {
    /// What happens where training fails.
    pub on_failure: OnFailure,
    /// A loss above so many times its running median counts as a failure.
    pub explode_factor: Option<f64>,
    /// The newest checkpoints that are kept.
    pub keep: usize,
    /// Whether the best is kept too.
    pub keep_best: bool,
}

impl Default for Safety {
    fn default() -> Self {
        Self { on_failure: OnFailure::Stop, explode_factor: None, keep: super::defaults::keep(), keep_best: false }
    }
}
