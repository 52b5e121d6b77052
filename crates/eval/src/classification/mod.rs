//! How well a classifier finds what is in a film: AUROC, ROC curves, average precision and F1, for each class and on
//! average, with intervals. What has no value is said to have none.

mod curve;
mod predictions;
mod ranking;
mod scores;
mod threshold;

pub use self::curve::{RocPoint, roc_curve};
pub use self::predictions::{ClassificationError, Predictions};
pub use self::scores::{ClassScores, Estimate, Macro, Scores, Undefined, score};
pub use self::threshold::{Counts, best_threshold, counts_at};

pub(crate) use self::ranking::Ranking;

/// Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. Exact; `None` without a
/// positive or without a negative.
///
/// # Errors
/// Lists of different lengths, or scores that are no numbers.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Result<Option<f64>, ClassificationError> {
    let ranking = Ranking::new(scores, labels)?;
    Ok(ranking.auroc(&vec![1; scores.len()]))
}

/// Average precision: the sum over falling thresholds of precision times the recall gained (no interpolation, as
/// scikit-learn's). `None` without a positive.
///
/// # Errors
/// Lists of different lengths, or scores that are no numbers.
pub fn average_precision(scores: &[f32], labels: &[bool]) -> Result<Option<f64>, ClassificationError> {
    let ranking = Ranking::new(scores, labels)?;
    Ok(ranking.average_precision(&vec![1; scores.len()]))
}
