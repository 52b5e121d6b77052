//! Items of one class in falling order of their scores: sorted once, then counted under any weights.

use super::ClassificationError;

/// Falling scores, equal ones in one step.
pub(crate) struct Ranking {
    /// Places of the items, best score first.
    order: Vec<usize>,
    /// For each place of `order`, whether it is the last of its score.
    ends_step: Vec<bool>,
    labels: Vec<bool>,
}

/// Positives and negatives that score at least so much, after one step of equal scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// An item with the step's score.
    pub(crate) item: usize,
    pub(crate) positives: u64,
    pub(crate) negatives: u64,
}

impl Ranking {
    pub(crate) fn new(scores: &[f32], labels: &[bool]) -> Result<Self, ClassificationError> {
        if scores.len() != labels.len() {
            return Err(ClassificationError::LengthsDiffer { scores: scores.len(), labels: labels.len() });
        }
        if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
            return Err(ClassificationError::NotFinite { index });
        }
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        // Compared as numbers: 0 and -0 are a tie.
        let mut ends_step: Vec<bool> = order.windows(2).map(|pair| scores[pair[0]] != scores[pair[1]]).collect();
        ends_step.extend((!order.is_empty()).then_some(true));
        Ok(Self { order, ends_step, labels: labels.to_vec() })
    }

    /// The steps, highest score first, each item counted so often as `weights` says.
    pub(crate) fn steps<'a>(&'a self, weights: &'a [u32]) -> impl Iterator<Item = Step> + 'a {
        let (mut positives, mut negatives) = (0u64, 0u64);
        self.order.iter().zip(&self.ends_step).filter_map(move |(&item, ends)| {
            let weight = weights.get(item).copied().map_or(0, u64::from);
            if self.labels[item] {
                positives += weight;
            } else {
                negatives += weight;
            }
            ends.then_some(Step { item, positives, negatives })
        })
    }

    /// Area under the ROC curve, from whole numbers.
    pub(crate) fn auroc(&self, weights: &[u32]) -> Option<f64> {
        let (mut twice_area, mut before) = (0u128, (0u64, 0u64));
        for step in self.steps(weights) {
            // Negatives of this step lie below all positives before it, and tie with its own.
            twice_area += u128::from(step.negatives - before.1) * u128::from(before.0 + step.positives);
            before = (step.positives, step.negatives);
        }
        let pairs = u128::from(before.0) * u128::from(before.1);
        (pairs > 0).then(|| twice_area as f64 / (2 * pairs) as f64)
    }

    /// Sum of precision times gained recall.
    pub(crate) fn average_precision(&self, weights: &[u32]) -> Option<f64> {
        let (mut sum, mut before) = (0.0, 0u64);
        for step in self.steps(weights) {
            if step.positives > before {
                let precision = step.positives as f64 / (step.positives + step.negatives) as f64;
                sum += precision * (step.positives - before) as f64;
            }
            before = step.positives;
        }
        (before > 0).then(|| sum / before as f64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every positive against every negative.
    fn naive_auroc(scores: &[f32], labels: &[bool]) -> Option<f64> {
        let (mut wins, mut pairs) = (0.0, 0.0);
        for (a, _) in scores.iter().zip(labels).filter(|(_, label)| **label) {
            for (b, _) in scores.iter().zip(labels).filter(|(_, label)| !**label) {
                pairs += 1.0;
                wins += if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
            }
        }
        (pairs > 0.0).then(|| wins / pairs)
    }

    /// At every distinct score as threshold.
    fn naive_average_precision(scores: &[f32], labels: &[bool]) -> Option<f64> {
        let mut thresholds = scores.to_vec();
        thresholds.sort_by(|a, b| b.total_cmp(a));
        thresholds.dedup();
        let all = labels.iter().filter(|label| **label).count() as f64;
        let (mut sum, mut recall) = (0.0, 0.0);
        for threshold in thresholds {
            let called = scores.iter().zip(labels).filter(|(score, _)| **score >= threshold);
            let (hits, called) =
                called.fold((0.0, 0.0), |(hits, n), (_, label)| (hits + f64::from(u8::from(*label)), n + 1.0));
            sum += hits / called * (hits / all - recall);
            recall = hits / all;
        }
        (all > 0.0).then_some(sum)
    }

    proptest! {
        #[test]
        fn areas_are_those_of_the_definitions_with_ties_and_weights(
            items in prop::collection::vec((-3i8..4, any::<bool>(), 0u32..4), 0..40)
        ) {
            let scores: Vec<f32> = items.iter().map(|(score, ..)| f32::from(*score) / 2.0).collect();
            let labels: Vec<bool> = items.iter().map(|(_, label, _)| *label).collect();
            let weights: Vec<u32> = items.iter().map(|(.., weight)| *weight).collect();
            let ranking = Ranking::new(&scores, &labels).expect("finite");
            let same = |got: Option<f64>, expected: Option<f64>| match (got, expected) {
                (Some(got), Some(expected)) => (got - expected).abs() < 1e-12,
                (got, expected) => got == expected,
            };
            let once = vec![1; items.len()];
            prop_assert!(same(ranking.auroc(&once), naive_auroc(&scores, &labels)));
            prop_assert!(same(ranking.average_precision(&once), naive_average_precision(&scores, &labels)));
            // A weight is as many copies.
            let copies = |place: usize| std::iter::repeat_n(place, weights[place] as usize);
            let places: Vec<usize> = (0..items.len()).flat_map(copies).collect();
            let (scores, labels): (Vec<f32>, Vec<bool>) = places.iter().map(|place| (scores[*place], labels[*place])).unzip();
            prop_assert!(same(ranking.auroc(&weights), naive_auroc(&scores, &labels)));
            prop_assert!(same(ranking.average_precision(&weights), naive_average_precision(&scores, &labels)));
        }
    }
}
