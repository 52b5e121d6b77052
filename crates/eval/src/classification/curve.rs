//! ROC curves.

use super::{ClassificationError, Ranking};

/// A point of a ROC curve: what calling every score of at least `threshold` positive does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    /// The threshold; infinite at the first point, where nothing is called.
    pub threshold: f64,
    /// False positive rate: share of the negatives that are called.
    pub false_positive_rate: f64,
    /// True positive rate: share of the positives that are called.
    pub true_positive_rate: f64,
}

/// The curve from (0, 0) to (1, 1), one point a distinct score; `None` without a positive or without a negative.
///
/// # Errors
/// Lists of different lengths, or scores that are no numbers.
pub fn roc_curve(scores: &[f32], labels: &[bool]) -> Result<Option<Vec<RocPoint>>, ClassificationError> {
    let ranking = Ranking::new(scores, labels)?;
    let positives = labels.iter().filter(|label| **label).count() as f64;
    let negatives = labels.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return Ok(None);
    }
    let start = RocPoint { threshold: f64::INFINITY, false_positive_rate: 0.0, true_positive_rate: 0.0 };
    let weights = vec![1; scores.len()];
    let points = ranking.steps(&weights).map(|step| RocPoint {
        threshold: f64::from(scores[step.item]),
        false_positive_rate: step.negatives as f64 / negatives,
        true_positive_rate: step.positives as f64 / positives,
    });
    Ok(Some(std::iter::once(start).chain(points).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classification::auroc;

    #[test]
    fn the_curve_has_a_point_a_score_and_the_area_of_auroc() -> Result<(), ClassificationError> {
        let scores = [0.9, 0.8, 0.8, 0.4, 0.3, 0.3, 0.1];
        let labels = [true, true, false, false, true, false, false];
        let curve = roc_curve(&scores, &labels)?.unwrap_or_default();
        let points: Vec<(f64, f64)> = curve.iter().map(|p| (p.false_positive_rate, p.true_positive_rate)).collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            points,
            [(0.0, 0.0), (0.0, third), (0.25, 2.0 * third), (0.5, 2.0 * third), (0.75, 1.0), (1.0, 1.0)]
        );
        assert_eq!(curve[0].threshold, f64::INFINITY);
        let area: f64 = points.windows(2).map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0).sum();
        assert!(auroc(&scores, &labels)?.is_some_and(|auroc| (auroc - area).abs() < 1e-12));
        assert_eq!(roc_curve(&scores, &[true; 7])?, None);
        assert!(roc_curve(&scores, &[true]).is_err());
        Ok(())
    }
}
