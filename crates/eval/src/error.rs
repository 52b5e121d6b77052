//! Why a metric has no value, or a sheet no picture.

use crate::statistics::StatisticsError;

/// Why a metric could not be computed or a sheet not be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The pixels do not fill the picture.
    #[error("a picture of {width} x {height} needs {needed} pixels, got {found}", needed = width * height)]
    PixelCount {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Pixels given.
        found: usize,
    },
    /// Two pictures of different sizes cannot be compared.
    #[error("the pictures differ in size: {} x {} and {} x {}", first.0, first.1, second.0, second.1)]
    SizesDiffer {
        /// Width and height of the first.
        first: (usize, usize),
        /// Width and height of the second.
        second: (usize, usize),
    },
    /// The picture is smaller than the metric's window.
    #[error(
        "{metric} needs pictures of at least {smallest} pixels a side, got {width} x {height}; enlarge them, or use another metric"
    )]
    TooSmall {
        /// The metric.
        metric: &'static str,
        /// The least side.
        smallest: usize,
        /// Width given.
        width: usize,
        /// Height given.
        height: usize,
    },
    /// A set is too small for the metric.
    #[error("{metric} needs at least {needed} pictures, got {found}")]
    TooFew {
        /// The metric.
        metric: &'static str,
        /// Pictures needed.
        needed: usize,
        /// Pictures given.
        found: usize,
    },
    /// A prompt has another number of pictures than the protocol takes.
    #[error("{protocol} takes {needed} pictures a prompt, got {found}")]
    PicturesPerPrompt {
        /// The protocol.
        protocol: &'static str,
        /// Pictures needed.
        needed: usize,
        /// Pictures given.
        found: usize,
    },
    /// Not so many pairs of films of different patients.
    #[error("there are only {found} pairs of films of different patients, not {needed}")]
    TooFewPairs {
        /// Pairs wanted.
        needed: usize,
        /// Pairs there are.
        found: usize,
    },
    /// Of the groups, or the bootstrap.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// A pixel is NaN or infinite, so no metric over it means anything.
    #[error("pixel {index} is not a number")]
    NotFinite {
        /// Its place, row-major.
        index: usize,
    },
    /// A sheet row holds more pictures than the sheet has columns.
    #[error("row \"{row}\" holds {found} pictures but the sheet has {columns} columns")]
    TooManyColumns {
        /// The row's label.
        row: String,
        /// Pictures given.
        found: usize,
        /// Columns of the sheet.
        columns: usize,
    },
    /// The sheet could not be encoded as PNG.
    #[error("the sheet cannot be encoded as PNG: {0}")]
    Png(String),
}
