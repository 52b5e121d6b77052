//! The bootstrap: how a statistic over items varies when the items, or the patients that they come from, are drawn again.

use std::collections::HashMap;
use std::hash::Hash;

use rayon::prelude::*;

use super::{Interval, LEVEL, StatisticsError, below, finite, stream};

/// Share of the resamples in which a statistic must be defined for its interval to be given.
const LEAST_DEFINED: f64 = 0.9;

/// Percentile bootstrap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// How often to draw again.
    pub resamples: usize,
    /// Share of the resamples within the interval.
    pub level: f64,
    /// Seed of the draws.
    pub seed: u64,
}

/// What is drawn again: every item for itself, or groups of items that belong together, such as the films of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    /// The unit of each item.
    of_item: Vec<u32>,
    count: usize,
}

// === impl Units ===

impl Units {
    /// Every one of `count` items for itself.
    #[must_use]
    pub fn items(count: usize) -> Self {
        Self { of_item: (0..count as u32).collect(), count }
    }

    /// Items with equal keys belong together; one key an item.
    #[must_use]
    pub fn groups<K: Eq + Hash>(keys: &[K]) -> Self {
        let mut known: HashMap<&K, u32> = HashMap::new();
        let mut of_item = Vec::with_capacity(keys.len());
        for key in keys {
            let next = known.len() as u32;
            of_item.push(*known.entry(key).or_insert(next));
        }
        Self { of_item, count: known.len() }
    }

    /// Items.
    #[must_use]
    pub fn item_count(&self) -> usize {
        self.of_item.len()
    }

    /// Units.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The unit of each item, counted from 0 in the order in which they appear.
    #[must_use]
    pub fn of_item(&self) -> &[u32] {
        &self.of_item
    }

    /// Refuses units of another number of items.
    pub(crate) fn check(&self, items: usize) -> Result<(), StatisticsError> {
        if self.item_count() == items {
            return Ok(());
        }
        Err(StatisticsError::LengthsDiffer { what: "groups", first: self.item_count(), second: items })
    }
}

// === impl Bootstrap ===

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1000, level: LEVEL, seed: 0 }
    }
}

impl Bootstrap {
    /// Interval of `statistic`, which gets how often each item was drawn. Resamples in which it is undefined (`None`) are
    /// left out; if it is undefined in more than one of ten, or there are fewer than two units, there is no interval.
    pub fn interval<S>(&self, units: &Units, statistic: S) -> Option<Interval>
    where
        S: Fn(&[u32]) -> Option<f64> + Sync,
    {
        let values = self.replicates(units, |weights| statistic(weights).filter(|value| value.is_finite()));
        self.summarise(values.into_iter().flatten().collect())
    }

    /// Several statistics of the same resamples, as many as `count`; see [`Bootstrap::interval`].
    pub fn intervals<S>(&self, units: &Units, count: usize, statistics: S) -> Vec<Option<Interval>>
    where
        S: Fn(&[u32]) -> Vec<Option<f64>> + Sync,
    {
        let replicates = self.replicates(units, statistics);
        let values_of = |place: usize| {
            let values = replicates.iter().filter_map(|values| values.get(place).copied().flatten());
            values.filter(|value| value.is_finite()).collect()
        };
        (0..count).map(|place| self.summarise(values_of(place))).collect()
    }

    /// Mean of `values` and its interval.
    ///
    /// # Errors
    /// No value, values that are no numbers, or units of another number of items.
    pub fn mean(&self, values: &[f64], units: &Units) -> Result<(f64, Option<Interval>), StatisticsError> {
        if values.is_empty() {
            return Err(StatisticsError::TooFew { what: "the mean of values", needed: 1, found: 0 });
        }
        finite(values)?;
        units.check(values.len())?;
        let interval = self.interval(units, |weights| {
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            let sum: f64 = weights.iter().zip(values).map(|(weight, value)| f64::from(*weight) * value).sum();
            (total > 0.0).then(|| sum / total)
        });
        Ok((super::mean(values), interval))
    }

    /// `statistic` of every resample, in their order.
    pub(crate) fn replicates<T: Send>(&self, units: &Units, statistic: impl Fn(&[u32]) -> T + Sync) -> Vec<T> {
        if units.count < 2 {
            return Vec::new();
        }
        let one = |index: usize| {
            let mut generator = stream(self.seed, "bootstrap", index as u64);
            let mut drawn = vec![0u32; units.count];
            for _ in 0..units.count {
                drawn[below(&mut generator, units.count)] += 1;
            }
            let weights: Vec<u32> = units.of_item.iter().map(|unit| drawn[*unit as usize]).collect();
            statistic(&weights)
        };
        (0..self.resamples).into_par_iter().map(one).collect()
    }

    fn summarise(&self, values: Vec<f64>) -> Option<Interval> {
        let enough = values.len() as f64 >= LEAST_DEFINED * self.resamples as f64;
        enough.then(|| Interval::of_percentiles(values, self.level)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that looks random, in 0 to 1.
    fn noise(index: usize) -> f64 {
        below(&mut stream(77, "test", index as u64), 1 << 30) as f64 / f64::from(1 << 30)
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors_each_way() -> Result<(), StatisticsError> {
        let values: Vec<f64> = (0..400).map(noise).collect();
        let (mean, interval) = Bootstrap::default().mean(&values, &Units::items(400))?;
        let interval = interval.ok_or(StatisticsError::NotFinite { index: 0 })?;
        let expected = 2.0 * 1.96 * (1.0 / 12.0f64).sqrt() / 20.0;
        let width = interval.upper - interval.lower;
        assert!(interval.contains(mean) && (width / expected - 1.0).abs() < 0.12, "{width}, expected {expected}");
        assert_eq!(Bootstrap::default().mean(&values, &Units::items(400))?.1, Some(interval));
        Ok(())
    }

    #[test]
    fn copies_of_an_item_within_a_group_do_not_narrow_the_interval() -> Result<(), StatisticsError> {
        let single: Vec<f64> = (0..50).map(noise).collect();
        let copied: Vec<f64> = single.iter().flat_map(|value| [*value; 8]).collect();
        let patients: Vec<usize> = (0..400).map(|item| item / 8).collect();
        let bootstrap = Bootstrap::default();
        let of_patients = bootstrap.mean(&copied, &Units::groups(&patients))?.1;
        assert_eq!(
            of_patients.map(|i| (i.lower * 1e9).round()),
            bootstrap.mean(&single, &Units::items(50))?.1.map(|i| (i.lower * 1e9).round())
        );
        let of_items = bootstrap.mean(&copied, &Units::items(400))?.1;
        let width = |interval: Option<Interval>| interval.map_or(f64::NAN, |i| i.upper - i.lower);
        assert!(width(of_items) < 0.5 * width(of_patients));
        Ok(())
    }

    #[test]
    fn a_statistic_that_is_often_undefined_has_no_interval() {
        // One item alone decides: a third of the resamples lacks it.
        let alone = |weights: &[u32]| (weights[0] > 0).then_some(1.0);
        assert_eq!(Bootstrap::default().interval(&Units::items(30), alone), None);
        assert_eq!(Bootstrap::default().interval(&Units::items(1), |_| Some(1.0)), None);
    }
}
