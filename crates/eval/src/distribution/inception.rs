//! The Inception score (Salimans et al. 2016) over the classes of the classifier at hand.
//!
//! Published for ImageNet's classes, of which a picture has one: exp of the mean over pictures of the divergence of
//! p(class | picture) from the mean p(class), high where each picture is decided and the set is varied. Findings in a chest
//! film are not exclusive. For them a classifier gives a chance for each class, and the score here is the same with the
//! joint distribution of independent findings: the divergences of the classes, each that of a coin from the coin of the
//! set's mean, are added. It goes from 1 (all pictures alike) to at most 2 for each class. Scores of different classifiers or
//! class lists, or of the two kinds, do not compare, and none knows what real films look like: put real films' score beside.

use crate::statistics::{Bootstrap, Interval, Units};

/// What a row of probabilities means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelKind {
    /// One class a picture: rows sum to 1.
    Exclusive,
    /// Any number of classes a picture: every number is a chance of its own.
    Independent,
}

/// An Inception score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InceptionScore {
    /// The score, from 1.
    pub score: f64,
    /// Bootstrap interval over the pictures (not the spread over ten splits of the published code, which is no interval).
    pub interval: Option<Interval>,
    /// Pictures.
    pub samples: usize,
    /// The largest score there could be: the number of classes, or 2 to its power.
    pub largest: f64,
    /// Classes.
    pub classes: usize,
    /// What the probabilities mean.
    pub kind: LabelKind,
}

/// Why probabilities are none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProbabilityError {
    /// The numbers do not fill rows, or there is none.
    #[error("{found} probabilities do not fill rows of {classes} classes")]
    Ragged {
        /// Classes.
        classes: usize,
        /// Numbers given.
        found: usize,
    },
    /// Not within 0 to 1.
    #[error("probability {found} of row {row} and class {class} is not within 0 to 1")]
    OutOfRange {
        /// The row.
        row: usize,
        /// The class.
        class: usize,
        /// What it is.
        found: f32,
    },
    /// Exclusive classes that do not sum to 1.
    #[error("row {row} sums to {found}, not 1: classes that do not exclude each other are `Independent`")]
    NotOne {
        /// The row.
        row: usize,
        /// Its sum.
        found: f64,
    },
    /// Groups of another number of pictures.
    #[error("{units} groups' entries for {rows} rows")]
    Units {
        /// Items of the units.
        units: usize,
        /// Rows.
        rows: usize,
    },
}

/// The score of `probabilities`, rows of `classes` numbers; `units` are what the bootstrap draws again.
///
/// # Errors
/// Numbers that are no probabilities, or do not fill rows.
pub fn inception_score(
    probabilities: &[f32],
    classes: usize,
    kind: LabelKind,
    units: &Units,
    bootstrap: &Bootstrap,
) -> Result<InceptionScore, ProbabilityError> {
    check(probabilities, classes, kind)?;
    let samples = probabilities.len() / classes;
    if units.item_count() != samples {
        return Err(ProbabilityError::Units { units: units.item_count(), rows: samples });
    }
    // The mean divergence is what the mean row has of entropy more than the rows on average.
    let entropies: Vec<f64> =
        probabilities.chunks_exact(classes).map(|row| entropy(row.iter().map(|p| f64::from(*p)), kind)).collect();
    let score = |weights: &[u32]| {
        let (mut total, mut own, mut mean) = (0.0, 0.0, vec![0.0; classes]);
        for ((row, entropy), weight) in probabilities.chunks_exact(classes).zip(&entropies).zip(weights) {
            let weight = f64::from(*weight);
            total += weight;
            own += weight * entropy;
            mean.iter_mut().zip(row).for_each(|(sum, p)| *sum += weight * f64::from(*p));
        }
        let divergence = entropy(mean.iter().map(|sum| sum / total), kind) - own / total;
        (total > 0.0).then(|| divergence.max(0.0).exp())
    };
    let largest = match kind {
        LabelKind::Exclusive => classes as f64,
        LabelKind::Independent => 2f64.powi(classes.min(1000) as i32),
    };
    Ok(InceptionScore {
        score: score(&vec![1; samples]).unwrap_or(1.0),
        interval: bootstrap.interval(units, score),
        samples,
        largest,
        classes,
        kind,
    })
}

fn check(probabilities: &[f32], classes: usize, kind: LabelKind) -> Result<(), ProbabilityError> {
    if classes == 0 || probabilities.is_empty() || !probabilities.len().is_multiple_of(classes) {
        return Err(ProbabilityError::Ragged { classes, found: probabilities.len() });
    }
    for (row, values) in probabilities.chunks_exact(classes).enumerate() {
        if let Some(class) = values.iter().position(|p| !(0.0..=1.0).contains(p)) {
            return Err(ProbabilityError::OutOfRange { row, class, found: values[class] });
        }
        let sum: f64 = values.iter().map(|p| f64::from(*p)).sum();
        if kind == LabelKind::Exclusive && (sum - 1.0).abs() > 1e-3 {
            return Err(ProbabilityError::NotOne { row, found: sum });
        }
    }
    Ok(())
}

/// In nats: of the one distribution, or of the coins together.
fn entropy(probabilities: impl Iterator<Item = f64>, kind: LabelKind) -> f64 {
    let part = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    match kind {
        LabelKind::Exclusive => probabilities.map(part).sum(),
        LabelKind::Independent => probabilities.map(|p| part(p) + part(1.0 - p)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(probabilities: &[f32], classes: usize, kind: LabelKind) -> Result<InceptionScore, ProbabilityError> {
        inception_score(
            probabilities,
            classes,
            kind,
            &Units::items(probabilities.len() / classes),
            &Bootstrap::default(),
        )
    }

    #[test]
    fn decided_and_varied_pictures_reach_the_largest_score() -> Result<(), ProbabilityError> {
        let decided = score(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], 3, LabelKind::Exclusive)?;
        assert!((decided.score - 3.0).abs() < 1e-12 && decided.largest == 3.0);
        // Every combination of two findings: each is a fair coin.
        let combinations = score(&[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0], 2, LabelKind::Independent)?;
        assert!((combinations.score - 4.0).abs() < 1e-12 && combinations.largest == 4.0);
        Ok(())
    }

    #[test]
    fn pictures_that_are_all_alike_score_one() -> Result<(), ProbabilityError> {
        for kind in [LabelKind::Exclusive, LabelKind::Independent] {
            let alike = score(&[0.2, 0.8].repeat(50), 2, kind)?;
            assert!((alike.score - 1.0).abs() < 1e-6, "{alike:?}");
        }
        Ok(())
    }

    #[test]
    fn it_is_the_divergence_from_the_mean() -> Result<(), ProbabilityError> {
        let rows = [[0.9f32, 0.1], [0.3, 0.7], [0.5, 0.5]];
        let mean = [1.7 / 3.0, 1.3 / 3.0];
        let divergence: f64 = rows
            .iter()
            .flat_map(|row| row.iter().zip(mean).map(|(p, m)| f64::from(*p) * (f64::from(*p) / m).ln()))
            .sum();
        let got = score(rows.as_flattened(), 2, LabelKind::Exclusive)?;
        assert!((got.score - (divergence / 3.0).exp()).abs() < 1e-6, "{got:?}");
        assert!(got.interval.is_some_and(|interval| interval.lower >= 1.0));
        Ok(())
    }

    #[test]
    fn what_are_no_probabilities_is_refused() {
        assert!(matches!(score(&[0.5, 0.6], 2, LabelKind::Exclusive), Err(ProbabilityError::NotOne { row: 0, .. })));
        assert!(score(&[0.5, 0.6], 2, LabelKind::Independent).is_ok());
        let nan = score(&[0.5, f32::NAN], 2, LabelKind::Independent);
        assert!(matches!(nan, Err(ProbabilityError::OutOfRange { row: 0, class: 1, .. })));
        assert!(matches!(score(&[0.5; 3], 2, LabelKind::Independent), Err(ProbabilityError::Ragged { .. })));
        assert!(matches!(score(&[], 2, LabelKind::Independent), Err(ProbabilityError::Ragged { .. })));
    }
}
