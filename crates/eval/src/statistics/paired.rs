//! Two sets of scores of the same items: how far apart they are, and whether that is more than chance.

use rand_core::Rng;
use rayon::prelude::*;

use super::{Bootstrap, Interval, StatisticsError, Units, finite, stream};

/// Second minus first, item by item.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    differences: Vec<f64>,
    units: Units,
}

/// A mean difference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedDifference {
    /// Mean over the items of second minus first.
    pub mean: f64,
    /// Its bootstrap interval; `None` with fewer than two units.
    pub interval: Option<Interval>,
    /// Items.
    pub items: usize,
    /// Units that were drawn again: items, or patients.
    pub units: usize,
}

/// p-values of "the two sets are interchangeable".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SignFlips {
    /// Chance of a mean difference at least as far from 0.
    pub two_sided: f64,
    /// Chance of one at least as high: small where the second is truly higher.
    pub second_higher: f64,
    /// Chance of one at least as low: small where the second is truly lower.
    pub second_lower: f64,
    /// Whether every sign pattern was looked at; otherwise so many were drawn as asked for.
    pub exact: bool,
}

impl Paired {
    /// Scores of the same items in the same order, and what belongs together among them.
    ///
    /// # Errors
    /// Lengths that differ, no item, or scores that are no numbers.
    pub fn new(first: &[f64], second: &[f64], units: Units) -> Result<Self, StatisticsError> {
        if first.len() != second.len() {
            return Err(StatisticsError::LengthsDiffer { what: "scores", first: first.len(), second: second.len() });
        }
        units.check(first.len())?;
        if first.is_empty() {
            return Err(StatisticsError::TooFew { what: "a paired difference of items", needed: 1, found: 0 });
        }
        finite(first)?;
        finite(second)?;
        Ok(Self { differences: second.iter().zip(first).map(|(second, first)| second - first).collect(), units })
    }

    /// The differences, second minus first.
    #[must_use]
    pub fn differences(&self) -> &[f64] {
        &self.differences
    }

    /// Mean difference with its interval.
    ///
    /// # Errors
    /// None that [`Paired::new`] let through.
    pub fn difference(&self, bootstrap: &Bootstrap) -> Result<PairedDifference, StatisticsError> {
        let (mean, interval) = bootstrap.mean(&self.differences, &self.units)?;
        Ok(PairedDifference { mean, interval, items: self.differences.len(), units: self.units.count() })
    }

    /// Standard deviation of the mean difference of a unit, as an item's: what [`super::Design`] wants with `n` units.
    /// `None` with fewer than two units.
    #[must_use]
    pub fn unit_deviation(&self) -> Option<f64> {
        let count = self.units.count();
        let centre = super::mean(&self.differences);
        // Linearised ratio: a unit with many items counts for as many.
        let per_unit = self.differences.len() as f64 / count.max(1) as f64;
        let residuals = self.sums().into_iter().zip(self.sizes()).map(|(sum, size)| (sum - size * centre) / per_unit);
        let squares: f64 = residuals.map(|residual| residual * residual).sum();
        (count >= 2).then(|| (squares / (count - 1) as f64).sqrt())
    }

    /// Permutation test: the sign of each unit's differences is flipped or not. All patterns if they are at most
    /// `permutations`, otherwise so many drawn under `seed`, with the observed one counted (so that p is never 0).
    #[must_use]
    pub fn sign_flips(&self, permutations: u64, seed: u64) -> SignFlips {
        let sums = self.sums();
        let observed: f64 = sums.iter().sum();
        // Sums in another order differ by rounding; equal ones must count as equal.
        let slack = sums.iter().map(|sum| sum.abs()).sum::<f64>() * 1e-12;
        let exact = sums.len() < 63 && 1u64 << sums.len() <= permutations;
        let patterns = if exact { 1u64 << sums.len() } else { permutations };
        let flipped = |pattern: u64| -> f64 {
            let mut generator = (!exact).then(|| stream(seed, "sign flips", pattern));
            let mut bits = pattern;
            let signed = sums.iter().enumerate().map(|(place, sum)| {
                if place % 64 == 0
                    && let Some(generator) = &mut generator
                {
                    bits = generator.next_u64();
                }
                if bits >> (place % 64) & 1 == 1 { -sum } else { *sum }
            });
            signed.sum()
        };
        let counts = (0..patterns)
            .into_par_iter()
            .map(flipped)
            .map(|sum| {
                let far = sum.abs() >= observed.abs() - slack;
                [far, sum >= observed - slack, sum <= observed + slack].map(u64::from)
            })
            .reduce(|| [0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        // All patterns hold the observed one already.
        let seen = u64::from(!exact);
        let share = |count: u64| (count + seen) as f64 / (patterns + seen) as f64;
        SignFlips {
            two_sided: share(counts[0]),
            second_higher: share(counts[1]),
            second_lower: share(counts[2]),
            exact,
        }
    }

    /// Sum of the differences of each unit.
    fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.units.count()];
        for (unit, difference) in self.units.of_item().iter().zip(&self.differences) {
            sums[*unit as usize] += difference;
        }
        sums
    }

    /// Items of each unit.
    fn sizes(&self) -> Vec<f64> {
        let mut sizes = vec![0.0; self.units.count()];
        for unit in self.units.of_item() {
            sizes[*unit as usize] += 1.0;
        }
        sizes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::below;

    fn noise(seed: u64, count: usize) -> Vec<f64> {
        let mut generator = stream(seed, "test", 0);
        (0..count)
            .map(|_| (0..12).map(|_| below(&mut generator, 1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0)
            .collect()
    }

    #[test]
    fn few_items_are_tested_exactly() -> Result<(), StatisticsError> {
        // All five differences are positive: one of 32 sign patterns is as high, two as far.
        let paired = Paired::new(&[0.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0], Units::items(5))?;
        let p = paired.sign_flips(10_000, 0);
        assert_eq!((p.second_higher, p.two_sided, p.second_lower, p.exact), (1.0 / 32.0, 2.0 / 32.0, 1.0, true));
        Ok(())
    }

    #[test]
    fn chance_alone_is_called_a_difference_as_often_as_the_level_says() -> Result<(), StatisticsError> {
        let mut called = [0; 2];
        for seed in 0..400 {
            let (first, second) = (noise(2 * seed, 40), noise(2 * seed + 1, 40));
            let paired = Paired::new(&first, &second, Units::items(40))?;
            called[0] += u32::from(paired.sign_flips(499, 1).two_sided <= 0.05);
            let quick = Bootstrap { resamples: 300, ..Bootstrap::default() };
            called[1] += u32::from(paired.difference(&quick)?.interval.is_some_and(|interval| !interval.contains(0.0)));
        }
        // 20 of 400 expected, standard deviation 4.4; the percentile bootstrap of 40 items is a little liberal.
        assert!((8..=33).contains(&called[0]) && (8..=45).contains(&called[1]), "{called:?}");
        Ok(())
    }

    #[test]
    fn a_shift_is_found_and_only_on_its_side() -> Result<(), StatisticsError> {
        let first = noise(1, 100);
        let second: Vec<f64> =
            first.iter().zip(noise(2, 100)).map(|(value, noise)| value + 0.1 * noise - 0.1).collect();
        let paired = Paired::new(&first, &second, Units::items(100))?;
        let p = paired.sign_flips(999, 3);
        assert!(p.second_lower < 0.01 && p.second_higher > 0.99 && !p.exact, "{p:?}");
        assert!(paired.difference(&Bootstrap::default())?.interval.is_some_and(|interval| interval.upper < 0.0));
        assert!(paired.unit_deviation().is_some_and(|deviation| (deviation - 0.1).abs() < 0.02));
        Ok(())
    }

    #[test]
    fn repeated_items_of_a_patient_are_no_more_evidence() -> Result<(), StatisticsError> {
        let second: Vec<f64> = [1.0, 2.0, 3.0].iter().flat_map(|value| [*value; 10]).collect();
        let patients: Vec<usize> = (0..30).map(|item| item / 10).collect();
        let paired = Paired::new(&[0.0; 30], &second, Units::groups(&patients))?;
        assert_eq!(paired.sign_flips(999, 0).second_higher, 1.0 / 8.0);
        assert!(paired.unit_deviation().is_some_and(|deviation| (deviation - 1.0).abs() < 1e-12));
        assert!(matches!(
            Paired::new(&[0.0], &[0.0, 1.0], Units::items(1)),
            Err(StatisticsError::LengthsDiffer { first: 1, second: 2, .. })
        ));
        Ok(())
    }
}
