//! What is wrong with a network's configuration, and the limits that every configuration keeps.

use thiserror::Error;

/// A configuration value that no network can be built from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("configuration field `{field}`: {problem}")]
pub struct InvalidConfig {
    /// Name of the field, as it stands in `config.json`.
    pub field: String,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl InvalidConfig {
    pub(crate) fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

impl From<InvalidConfig> for candle_core::Error {
    fn from(error: InvalidConfig) -> Self {
        Self::Msg(error.to_string())
    }
}

/// Largest width, length or count that a configuration may name. A file with more than that is damaged or hostile:
/// products of a few such numbers still fit a 64-bit word.
const LARGEST_SIZE: usize = 1 << 20;
/// Most layers, levels or blocks: bounds the time that a wrong configuration can cost.
const MOST_LAYERS: usize = 1024;

/// Checks that a width, length or count is neither 0 nor absurd.
pub(crate) fn check_size(field: &str, value: usize) -> Result<(), InvalidConfig> {
    if (1..=LARGEST_SIZE).contains(&value) {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} is not between 1 and {LARGEST_SIZE}")))
    }
}

/// Checks a number of layers, levels or blocks.
pub(crate) fn check_layers(field: &str, value: usize) -> Result<(), InvalidConfig> {
    if (1..=MOST_LAYERS).contains(&value) {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} is not between 1 and {MOST_LAYERS}")))
    }
}

/// Checks that `value` can be cut into `parts` equal parts.
pub(crate) fn check_divides(field: &str, value: usize, parts_field: &str, parts: usize) -> Result<(), InvalidConfig> {
    check_size(parts_field, parts)?;
    if value.is_multiple_of(parts) {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} is not a multiple of {parts_field} {parts}")))
    }
}

/// Checks a codebook: a grid holds 16-bit ids, and the id after the last code means "masked".
pub(crate) fn check_codebook(field: &str, value: usize) -> Result<(), InvalidConfig> {
    let most = usize::from(u16::MAX);
    if (2..=most).contains(&value) {
        Ok(())
    } else {
        Err(InvalidConfig::new(field, format!("{value} codes are not between 2 and {most}")))
    }
}
