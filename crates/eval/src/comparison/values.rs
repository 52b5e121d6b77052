//! What the runs of an arm say of the films under any weights: by class, by fold, and the mean over classes.

use super::{Judged, KINDS, Kind, Run};
use crate::classification::{ClassificationError, Counts, Ranking};

/// A number: a kind, of a class or of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quantity {
    pub(super) kind: Kind,
    pub(super) class: Option<usize>,
    classes: usize,
}

/// A class as one run sees it, sorted once.
pub(super) struct ClassRanks {
    folds: Vec<FoldRanks>,
}

/// The films of one fold whose label is known.
struct FoldRanks {
    films: Vec<usize>,
    labels: Vec<bool>,
    called: Vec<Option<bool>>,
    ranking: Ranking,
}

/// By arm, seed and class.
type Ranks = [Vec<Vec<ClassRanks>>];

impl Quantity {
    /// Those of all kinds: of each class, then of the mean.
    pub(super) fn all(classes: usize) -> Vec<Self> {
        let of_kind = |kind: Kind| (0..classes).map(Some).chain([None]).map(move |class| Self { kind, class, classes });
        KINDS.into_iter().flat_map(of_kind).collect()
    }
}

impl ClassRanks {
    pub(super) fn new(judged: &Judged, run: &Run, class: usize) -> Result<Self, ClassificationError> {
        let width = judged.classes.len();
        let count = judged.folds.iter().max().map_or(0, |last| last + 1);
        let folds = (0..count).map(|fold| {
            let known = |film: &usize| judged.folds[*film] == fold && judged.labels[film * width + class].is_some();
            let films: Vec<usize> = (0..judged.folds.len()).filter(known).collect();
            let labels: Vec<bool> =
                films.iter().map(|film| judged.labels[film * width + class] == Some(true)).collect();
            let scores: Vec<f32> = films.iter().map(|film| run.scores[film * width + class]).collect();
            let called = films.iter().map(|film| run.called[film * width + class]).collect();
            Ok(FoldRanks { ranking: Ranking::new(&scores, &labels)?, films, labels, called })
        });
        Ok(Self { folds: folds.collect::<Result<_, ClassificationError>>()? })
    }

    /// What each fold adds to the class's number: they sum to it. F1, which is of all calls together, is one part.
    fn parts(&self, kind: Kind, weights: &[u32]) -> Option<Vec<f64>> {
        let weighted: Vec<Vec<u32>> =
            self.folds.iter().map(|fold| fold.films.iter().map(|film| weights[*film]).collect()).collect();
        if kind == Kind::F1 {
            let mut all = Counts::default();
            for (fold, weights) in self.folds.iter().zip(&weighted) {
                fold.count(weights, &mut all)?;
            }
            return all.f1().map(|f1| vec![f1]);
        }
        let counted: Vec<(f64, f64)> = self
            .folds
            .iter()
            .zip(&weighted)
            .map(|(fold, weights)| {
                let (positives, negatives) = fold.kinds(weights);
                match kind {
                    Kind::Auroc => (positives * negatives, fold.ranking.auroc(weights).unwrap_or(0.0)),
                    _ => (positives, fold.ranking.average_precision(weights).unwrap_or(0.0)),
                }
            })
            .collect();
        let all: f64 = counted.iter().map(|(weight, _)| weight).sum();
        (all > 0.0).then(|| counted.iter().map(|(weight, value)| weight * value / all).collect())
    }
}

impl FoldRanks {
    /// Positives and negatives under the weights.
    fn kinds(&self, weights: &[u32]) -> (f64, f64) {
        let sum = |kind: bool| -> f64 {
            self.labels.iter().zip(weights).filter(|(label, _)| **label == kind).map(|(_, w)| f64::from(*w)).sum()
        };
        (sum(true), sum(false))
    }

    /// Adds its calls; `None` where there is a film without one.
    fn count(&self, weights: &[u32], counts: &mut Counts) -> Option<()> {
        for ((label, called), weight) in self.labels.iter().zip(&self.called).zip(weights) {
            let count = match ((*called)?, *label) {
                (true, true) => &mut counts.true_positives,
                (true, false) => &mut counts.false_positives,
                (false, true) => &mut counts.false_negatives,
                (false, false) => &mut counts.true_negatives,
            };
            *count += u64::from(*weight);
        }
        Some(())
    }
}

/// By arm, seed and quantity: what each fold adds to the number.
pub(super) fn contributions(
    ranks: &Ranks,
    quantities: &[Quantity],
    weights: &[u32],
) -> Vec<Vec<Vec<Option<Vec<f64>>>>> {
    let of_run = |classes: &Vec<ClassRanks>| -> Vec<Option<Vec<f64>>> {
        let parts: Vec<Vec<Option<Vec<f64>>>> =
            KINDS.iter().map(|kind| classes.iter().map(|class| class.parts(*kind, weights)).collect()).collect();
        let of = |quantity: &Quantity| {
            let of_kind = &parts[quantity.kind as usize];
            match quantity.class {
                Some(class) => of_kind[class].clone(),
                None => mean(of_kind, quantity.classes),
            }
        };
        quantities.iter().map(of).collect()
    };
    ranks.iter().map(|runs| runs.iter().map(of_run).collect()).collect()
}

/// By arm and quantity: the mean over seeds.
pub(super) fn drawn(ranks: &Ranks, quantities: &[Quantity], weights: &[u32]) -> Vec<Vec<Option<f64>>> {
    let by_arm = contributions(ranks, quantities, weights);
    let over_seeds = |seeds: &Vec<Vec<Option<Vec<f64>>>>, place: usize| -> Option<f64> {
        let values: Option<Vec<f64>> =
            seeds.iter().map(|seed| seed[place].as_ref().map(|parts| parts.iter().sum())).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    by_arm.iter().map(|seeds| (0..quantities.len()).map(|place| over_seeds(seeds, place)).collect()).collect()
}

/// The mean over classes, fold by fold; `None` where a class has no value.
fn mean(classes: &[Option<Vec<f64>>], count: usize) -> Option<Vec<f64>> {
    let all: Vec<&Vec<f64>> = classes.iter().map(Option::as_ref).collect::<Option<_>>()?;
    let folds = all.first()?.len();
    Some((0..folds).map(|fold| all.iter().map(|parts| parts[fold]).sum::<f64>() / count as f64).collect())
}

/// Degrees of freedom of the spread over patients: of a class by the rarer of patients with it and without it, of the mean by all.
pub(super) fn freedom(judged: &Judged, class: Option<usize>) -> f64 {
    let Some(class) = class else { return judged.units.count().saturating_sub(1).max(1) as f64 };
    let of_kind = |kind: bool| {
        let of = judged.units.of_item().iter().enumerate();
        let width = judged.classes.len();
        let shown = of.filter(|(film, _)| judged.labels[film * width + class] == Some(kind)).map(|(_, unit)| unit);
        shown.collect::<std::collections::BTreeSet<_>>().len()
    };
    of_kind(true).min(of_kind(false)).saturating_sub(1).max(1) as f64
}
