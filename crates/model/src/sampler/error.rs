//! What can be wrong with sampling parameters and with a step.

/// A sampling parameter out of its range.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field} is {found}, but must be {allowed}")]
pub struct ParameterError {
    /// Field path on the wire, such as `sampling.step_count`.
    pub field: &'static str,
    /// The value found.
    pub found: String,
    /// The range allowed, in words.
    pub allowed: &'static str,
}

/// A step that could not be taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// The logits do not fit the grid.
    #[error("the step needs {expected} logits (positions times codebook size) and got {found}")]
    LogitsLength {
        /// Positions times codebook size.
        expected: usize,
        /// Number of logits given.
        found: usize,
    },
    /// The network returned NaN or infinity.
    #[error("the model returned a number that is not finite at step {step}, position {position}, id {id}")]
    NotFinite {
        /// Step, from 0.
        step: u32,
        /// Position in the grid, from 0.
        position: usize,
        /// Codebook id.
        id: usize,
    },
    /// Every step was taken already.
    #[error("all {step_count} steps were taken already")]
    Finished {
        /// Steps in all.
        step_count: u32,
    },
}
