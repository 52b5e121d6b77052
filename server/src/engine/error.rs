//! What can go wrong between asking the engine and its answer.

use std::time::Duration;

use super::model::ModelFault;

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// All places in the queue are taken.
    #[error("the queue is full: {capacity} requests are waiting; try again in {} ms", retry_after.as_millis())]
    QueueFull {
        /// Places in the queue.
        capacity: usize,
        /// When a place is likely to be free.
        retry_after: Duration,
    },
    /// The deadline would pass before the work could be done.
    #[error(
        "the deadline cannot be met: {} ms are left and the work takes about {} ms",
        remaining.as_millis(), needed.as_millis()
    )]
    DeadlineUnreachable {
        /// Time left at admission.
        remaining: Duration,
        /// Estimate of the time needed.
        needed: Duration,
    },
    /// The deadline passed.
    #[error("the deadline passed before the work was done")]
    DeadlineExceeded,
    /// The caller is gone.
    #[error("the caller cancelled the request")]
    Cancelled,
    /// The server is going away.
    #[error("the server is shutting down and takes no new work")]
    ShuttingDown,
    /// The model's output was not a number.
    #[error("the model gave values that are not numbers{}; other requests are not affected", at(*.step))]
    Numeric {
        /// The step, from 1, in sampling.
        step: Option<u32>,
    },
    /// The model refused or failed.
    #[error("the model failed: {detail}")]
    Model {
        /// What it said.
        detail: String,
    },
    /// The engine is no more, or is about to be: its device is lost.
    #[error("the engine has stopped: {detail}")]
    Stopped {
        /// Why.
        detail: String,
    },
}

impl From<ModelFault> for EngineError {
    fn from(fault: ModelFault) -> Self {
        match fault {
            ModelFault::NotFinite(_) => Self::Numeric { step: None },
            ModelFault::OutOfMemory(_) => Self::Model { detail: fault.to_string() },
            ModelFault::Failed(detail) => Self::Model { detail },
            ModelFault::DeviceLost(detail) => Self::Stopped { detail },
        }
    }
}

fn at(step: Option<u32>) -> String {
    step.map(|step| format!(" in step {step}")).unwrap_or_default()
}
