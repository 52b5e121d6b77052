//! All scores of a classifier: for each class, and on average over the classes where they are defined.

use crate::statistics::{Bootstrap, Interval, Units};

use super::threshold::weighted_counts;
use super::{ClassificationError, Predictions, Ranking};

/// Why a score has no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undefined {
    /// No item whose label is known.
    NoItem,
    /// No positive among them.
    NoPositive,
    /// No negative among them.
    NoNegative,
    /// No threshold was given.
    NoThreshold,
    /// Of an average: no class has a value.
    NoClass,
}

impl std::fmt::Display for Undefined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoItem => "undefined: no item with a known label",
            Self::NoPositive => "undefined: no positive",
            Self::NoNegative => "undefined: no negative",
            Self::NoThreshold => "undefined: no threshold was chosen",
            Self::NoClass => "undefined: in every class",
        })
    }
}

/// A value with its bootstrap interval, which is missing where too many resamples lack a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<Interval>,
}

/// Scores of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScores {
    /// Its name.
    pub class: String,
    /// Positive items.
    pub positives: usize,
    /// Negative items.
    pub negatives: usize,
    /// Area under the ROC curve.
    pub auroc: Result<Estimate, Undefined>,
    /// Average precision. Chance is the share of positives, not 0.5.
    pub average_precision: Result<Estimate, Undefined>,
    /// F1 at the class's threshold.
    pub f1: Result<Estimate, Undefined>,
}

/// Mean over the classes that have a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Macro {
    /// The mean. Its interval is over resamples of the items, in each of which the same classes must have a value.
    pub estimate: Result<Estimate, Undefined>,
    /// The classes that it is over: means over different classes do not compare.
    pub classes: Vec<String>,
}

/// Scores of every class, and their means.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// Of each class.
    pub classes: Vec<ClassScores>,
    /// Mean AUROC.
    pub auroc: Macro,
    /// Mean average precision.
    pub average_precision: Macro,
    /// Mean F1.
    pub f1: Macro,
    /// Items.
    pub items: usize,
    /// What the bootstrap drew again: items, or patients.
    pub units: usize,
}

/// Scores of one class under some weights: AUROC, average precision, F1.
type Triple = [Option<f64>; 3];

/// Scores `predictions`. `thresholds` holds one a class, chosen on other data ([`super::best_threshold`]), or nothing, and
/// then there is no F1. `units` are what the bootstrap draws again: the films of a patient belong together.
///
/// # Errors
/// Units of another number of items, or another number of thresholds than of classes.
pub fn score(
    predictions: &Predictions,
    thresholds: Option<&[f32]>,
    units: &Units,
    bootstrap: &Bootstrap,
) -> Result<Scores, ClassificationError> {
    let names = predictions.classes();
    units.check(predictions.count())?;
    if let Some(thresholds) = thresholds.filter(|thresholds| thresholds.len() != names.len()) {
        return Err(ClassificationError::Thresholds { classes: names.len(), thresholds: thresholds.len() });
    }
    let classes: Vec<Class> = (0..names.len())
        .map(|class| Class::new(predictions, class, thresholds.map(|thresholds| thresholds[class])))
        .collect::<Result<_, _>>()?;
    let all: Vec<Triple> = classes.iter().map(|class| class.scores(&vec![1; predictions.count()])).collect();
    // One list a resample: the three scores of every class, then their three means.
    let intervals = bootstrap.intervals(units, 3 * (classes.len() + 1), |weights| {
        let drawn: Vec<Triple> = classes.iter().map(|class| class.scores(weights)).collect();
        let means = [0, 1, 2].map(|kind| mean_where_defined(&drawn, &all, kind));
        drawn.into_iter().flatten().chain(means).collect()
    });
    let estimate = |value: f64, place: usize| Estimate { value, interval: intervals[place] };
    let of_class = |(place, class): (usize, &Class)| {
        let of_kind = |kind: usize| match all[place][kind] {
            Some(value) => Ok(estimate(value, 3 * place + kind)),
            None => Err(class.why_undefined(kind)),
        };
        ClassScores {
            class: names[place].clone(),
            positives: class.positives(),
            negatives: class.labels.len() - class.positives(),
            auroc: of_kind(0),
            average_precision: of_kind(1),
            f1: of_kind(2),
        }
    };
    let of_all = |kind: usize| {
        let defined = names.iter().zip(&all).filter(|(_, scores)| scores[kind].is_some());
        let mean = mean_where_defined(&all, &all, kind);
        let none = if kind == 2 && thresholds.is_none() { Undefined::NoThreshold } else { Undefined::NoClass };
        Macro {
            estimate: mean.map(|value| estimate(value, 3 * classes.len() + kind)).ok_or(none),
            classes: defined.map(|(name, _)| name.clone()).collect(),
        }
    };
    Ok(Scores {
        classes: classes.iter().enumerate().map(of_class).collect(),
        auroc: of_all(0),
        average_precision: of_all(1),
        f1: of_all(2),
        items: predictions.count(),
        units: units.count(),
    })
}

/// Mean of `drawn` over the classes that have a value in `all`; `None` if one of them has none in `drawn`.
fn mean_where_defined(drawn: &[Triple], all: &[Triple], kind: usize) -> Option<f64> {
    let defined = drawn.iter().zip(all).filter(|(_, all)| all[kind].is_some());
    let values: Vec<f64> = defined.map(|(drawn, _)| drawn[kind]).collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// One class, ready to be scored under any weights.
struct Class {
    /// The items whose label is known.
    items: Vec<usize>,
    scores: Vec<f32>,
    labels: Vec<bool>,
    ranking: Ranking,
    threshold: Option<f32>,
}

impl Class {
    fn new(predictions: &Predictions, class: usize, threshold: Option<f32>) -> Result<Self, ClassificationError> {
        let (items, scores, labels) = predictions.of_class(class);
        let ranking = Ranking::new(&scores, &labels)?;
        Ok(Self { items, scores, labels, ranking, threshold })
    }

    fn positives(&self) -> usize {
        self.labels.iter().filter(|label| **label).count()
    }

    fn scores(&self, weights: &[u32]) -> Triple {
        let weights: Vec<u32> = self.items.iter().map(|item| weights[*item]).collect();
        let f1 = |threshold| weighted_counts(&self.scores, &self.labels, threshold, &weights).f1();
        [self.ranking.auroc(&weights), self.ranking.average_precision(&weights), self.threshold.and_then(f1)]
    }

    fn why_undefined(&self, kind: usize) -> Undefined {
        match (self.labels.len(), self.positives(), kind) {
            (_, _, 2) if self.threshold.is_none() => Undefined::NoThreshold,
            (0, ..) => Undefined::NoItem,
            (_, 0, _) => Undefined::NoPositive,
            _ => Undefined::NoNegative,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes: one that is known for all, one without a positive, one that is uncertain in half of the items.
    fn predictions() -> Result<Predictions, ClassificationError> {
        let (mut scores, mut labels) = (Vec::new(), Vec::new());
        for item in 0..60u32 {
            let noise = (item * 7919 % 97) as f32 / 97.0;
            let positive = item % 3 == 0;
            scores.extend([noise + f32::from(u8::from(positive)) * 0.4, noise, noise]);
            labels.extend([Some(positive), Some(false), (item % 2 == 0).then_some(item % 4 == 0)]);
        }
        Predictions::new(["Edema", "Fracture", "Pneumonia"].map(str::to_owned).to_vec(), scores, labels)
    }

    #[test]
    fn undefined_classes_are_named_and_left_out_of_the_mean() -> Result<(), ClassificationError> {
        let predictions = predictions()?;
        let scores = score(&predictions, None, &Units::items(60), &Bootstrap::default())?;
        let [edema, fracture, pneumonia] = &scores.classes[..] else { panic!("three classes") };
        assert_eq!(fracture.auroc, Err(Undefined::NoPositive));
        assert_eq!(fracture.auroc.map_err(|why| why.to_string()), Err("undefined: no positive".to_owned()));
        assert_eq!((pneumonia.positives, pneumonia.negatives), (15, 15));
        assert_eq!(scores.auroc.classes, ["Edema", "Pneumonia"]);
        let value = |estimate: &Result<Estimate, Undefined>| estimate.map_or(f64::NAN, |estimate| estimate.value);
        let mean = (value(&edema.auroc) + value(&pneumonia.auroc)) / 2.0;
        assert!((value(&scores.auroc.estimate) - mean).abs() < 1e-12);
        for estimate in [edema.auroc, pneumonia.auroc, scores.auroc.estimate, edema.average_precision] {
            let estimate = estimate.unwrap_or(Estimate { value: f64::NAN, interval: None });
            assert!(estimate.interval.is_some_and(|interval| interval.contains(estimate.value)), "{estimate:?}");
        }
        assert_eq!((edema.f1, scores.f1.estimate), (Err(Undefined::NoThreshold), Err(Undefined::NoThreshold)));
        Ok(())
    }

    #[test]
    fn films_of_one_patient_are_drawn_together() -> Result<(), ClassificationError> {
        let predictions = predictions()?;
        let patients: Vec<u32> = (0..60).map(|item| item % 12).collect();
        let width = |units: &Units| -> Result<f64, ClassificationError> {
            let scores = score(&predictions, Some(&[0.5, 0.5, 0.5]), units, &Bootstrap::default())?;
            let interval = scores.classes[0].f1.ok().and_then(|estimate| estimate.interval);
            Ok(interval.map_or(f64::NAN, |interval| interval.upper - interval.lower))
        };
        // All films of a patient have the same label: patients vary more than films.
        assert!(width(&Units::groups(&patients))? > 1.1 * width(&Units::items(60))?);
        assert!(score(&predictions, Some(&[0.5]), &Units::items(60), &Bootstrap::default()).is_err());
        assert!(score(&predictions, None, &Units::items(59), &Bootstrap::default()).is_err());
        Ok(())
    }
}
