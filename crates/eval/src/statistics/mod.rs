//! What a number is worth: intervals, paired tests, exact chances, and the least difference that data can show.
//!
//! Everything random is drawn from a seed, and the same whatever the number of threads.

mod binomial;
mod bootstrap;
mod detectable;
mod interval;
mod paired;
mod quantile;
mod random;
mod student;

pub use self::binomial::{beta_binomial_at_least, binomial_at_least};
pub use self::bootstrap::{Bootstrap, Units};
pub use self::detectable::{Design, Sides};
pub(crate) use self::interval::jackknife_error;
pub use self::interval::{Interval, LEVEL};
pub use self::paired::{Paired, PairedDifference, SignFlips};
pub(crate) use self::quantile::{normal_quantile, student_quantile};
pub(crate) use self::random::{below, shuffle, stream};
pub use self::student::{student_reach, student_two_sided};

/// Why a statistic cannot be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatisticsError {
    /// Two lists that describe the same items differ in length.
    #[error("{what}: {first} and {second} entries for the same items")]
    LengthsDiffer {
        /// What they hold.
        what: &'static str,
        /// Entries of the first.
        first: usize,
        /// Entries of the second.
        second: usize,
    },
    /// Too little to compute it from.
    #[error("{what} needs at least {needed}, got {found}")]
    TooFew {
        /// What is computed, and from what.
        what: &'static str,
        /// Needed.
        needed: usize,
        /// Given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {index} is not a number")]
    NotFinite {
        /// Its place.
        index: usize,
    },
    /// A setting lies outside its range.
    #[error("{name} must be {range}, got {found}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it may be.
        range: &'static str,
        /// What it is.
        found: f64,
    },
}

/// Refuses values that are no numbers.
pub(crate) fn finite(values: &[f64]) -> Result<(), StatisticsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(StatisticsError::NotFinite { index }),
        None => Ok(()),
    }
}

/// Mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
