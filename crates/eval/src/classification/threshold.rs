//! Calling findings: counts at a threshold, F1, and the threshold that does best.
//!
//! A threshold that is chosen on the data that it is judged on flatters: choose on validation films, judge on test films.

use super::{ClassificationError, Ranking};

/// What calling every score of at least a threshold positive gets right and wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Positives that are called.
    pub true_positives: u64,
    /// Negatives that are called.
    pub false_positives: u64,
    /// Positives that are missed.
    pub false_negatives: u64,
    /// Negatives that are left alone.
    pub true_negatives: u64,
}

impl Counts {
    /// Harmonic mean of precision and recall; `None` without a positive, where no call can be right.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        let positives = self.true_positives + self.false_negatives;
        let twice = 2 * self.true_positives;
        (positives > 0).then(|| twice as f64 / (twice + self.false_positives + self.false_negatives) as f64)
    }
}

/// Counts at `threshold`.
///
/// # Errors
/// Lists of different lengths.
pub fn counts_at(scores: &[f32], labels: &[bool], threshold: f32) -> Result<Counts, ClassificationError> {
    if scores.len() != labels.len() {
        return Err(ClassificationError::LengthsDiffer { scores: scores.len(), labels: labels.len() });
    }
    Ok(weighted_counts(scores, labels, threshold, &vec![1; scores.len()]))
}

pub(super) fn weighted_counts(scores: &[f32], labels: &[bool], threshold: f32, weights: &[u32]) -> Counts {
    let mut counts = Counts::default();
    for ((score, label), weight) in scores.iter().zip(labels).zip(weights) {
        let count = match (*score >= threshold, *label) {
            (true, true) => &mut counts.true_positives,
            (true, false) => &mut counts.false_positives,
            (false, true) => &mut counts.false_negatives,
            (false, false) => &mut counts.true_negatives,
        };
        *count += u64::from(*weight);
    }
    counts
}

/// The score that as threshold gives the highest F1 (of several, the highest); `None` without a positive. To be used on
/// other data than these.
///
/// # Errors
/// Lists of different lengths, or scores that are no numbers.
pub fn best_threshold(scores: &[f32], labels: &[bool]) -> Result<Option<f32>, ClassificationError> {
    let ranking = Ranking::new(scores, labels)?;
    let positives = labels.iter().filter(|label| **label).count() as u64;
    let mut best: Option<(f64, f32)> = None;
    for step in ranking.steps(&vec![1; scores.len()]) {
        let counts = Counts {
            true_positives: step.positives,
            false_positives: step.negatives,
            false_negatives: positives - step.positives,
            true_negatives: 0,
        };
        if let Some(f1) = counts.f1()
            && best.is_none_or(|(highest, _)| f1 > highest)
        {
            best = Some((f1, scores[step.item]));
        }
    }
    Ok(best.map(|(_, threshold)| threshold))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f32; 6] = [0.9, 0.8, 0.7, 0.6, 0.5, 0.1];
    const LABELS: [bool; 6] = [true, false, true, true, false, false];

    #[test]
    fn the_best_threshold_is_the_best_of_all() -> Result<(), ClassificationError> {
        let best = best_threshold(&SCORES, &LABELS)?;
        assert_eq!(best, Some(0.6));
        let at = |threshold| Ok::<_, ClassificationError>(counts_at(&SCORES, &LABELS, threshold)?.f1().unwrap_or(-1.0));
        for threshold in SCORES {
            assert!(at(threshold)? <= at(0.6)?);
        }
        assert!((at(0.6)? - 6.0 / 7.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn f1_without_a_positive_is_undefined_and_without_a_hit_zero() -> Result<(), ClassificationError> {
        assert_eq!(counts_at(&SCORES, &[false; 6], 0.5)?.f1(), None);
        assert_eq!(best_threshold(&SCORES, &[false; 6])?, None);
        assert_eq!(counts_at(&SCORES, &LABELS, 2.0)?.f1(), Some(0.0));
        let counts = counts_at(&SCORES, &LABELS, 0.7)?;
        assert_eq!(
            (counts.true_positives, counts.false_positives, counts.false_negatives, counts.true_negatives),
            (2, 1, 1, 2)
        );
        Ok(())
    }
}
