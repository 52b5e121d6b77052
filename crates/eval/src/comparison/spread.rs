//! A number with what it varies by: other patients, and training again.

use serde::Serialize;

use crate::statistics::{Interval, student_reach, student_two_sided};

/// Share of the resamples in which a number must be defined for its spread to be told.
const LEAST_DEFINED: f64 = 0.9;

/// A number, how far it might have been off, and its test against 0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// The number: the mean over seeds.
    pub value: f64,
    /// Its interval; none where the spread over patients is not known.
    pub interval: Option<Interval>,
    /// Standard error by other patients; none where too many resamples have no value.
    pub patients: Option<f64>,
    /// Standard error by training again; none with one seed.
    pub training: Option<f64>,
    /// Chance of a number at least as far from 0 if there is nothing; none where one of the two spreads is not known.
    pub p: Option<f64>,
    /// Of each seed.
    pub by_seed: Vec<f64>,
}

/// What a spread is told from.
pub(super) struct Sources {
    /// By seed, then fold.
    pub(super) by_seed: Vec<Vec<f64>>,
    /// Of each resample of the patients.
    pub(super) resampled: Vec<Option<f64>>,
    /// Degrees of freedom of the spread over patients.
    pub(super) freedom: f64,
    pub(super) level: f64,
}

/// A variance and the degrees of freedom that it is known by.
#[derive(Clone, Copy)]
struct Variance {
    value: f64,
    freedom: f64,
}

impl Sources {
    pub(super) fn spread(&self) -> Spread {
        let by_seed: Vec<f64> = self.by_seed.iter().map(|folds| folds.iter().sum()).collect();
        let value = mean(&by_seed);
        let (patients, training) = (self.patients(), self.training());
        let both = match (patients, training) {
            (Some(patients), Some(training)) => Some(sum(&[patients, training])),
            _ => None,
        };
        let reach = |all: Variance| {
            let reach = if all.value > 0.0 { student_reach(self.level, all.freedom) * all.value.sqrt() } else { 0.0 };
            Interval { lower: value - reach, upper: value + reach }
        };
        let test = |all: Variance| match (value == 0.0, all.value > 0.0) {
            (true, _) => Some(1.0),
            (false, true) => Some(student_two_sided(value / all.value.sqrt(), all.freedom)),
            // A difference that never varies cannot be: too little was looked at.
            (false, false) => None,
        };
        Spread {
            value,
            interval: both.or(patients).map(reach),
            patients: patients.map(|variance| variance.value.sqrt()),
            training: training.map(|variance| variance.value.sqrt()),
            p: both.and_then(test),
            by_seed,
        }
    }

    fn patients(&self) -> Option<Variance> {
        let values: Vec<f64> = self.resampled.iter().copied().flatten().collect();
        let enough = values.len() >= 2 && values.len() as f64 >= LEAST_DEFINED * self.resampled.len() as f64;
        enough.then(|| Variance { value: sample_variance(&values), freedom: self.freedom })
    }

    /// Folds are trained apart: their variances add up.
    fn training(&self) -> Option<Variance> {
        let seeds = self.by_seed.len();
        let folds = self.by_seed.first()?.len();
        if seeds < 2 {
            return None;
        }
        let of_fold = |fold: usize| {
            let values: Vec<f64> = self.by_seed.iter().map(|folds| folds[fold]).collect();
            Variance { value: sample_variance(&values) / seeds as f64, freedom: (seeds - 1) as f64 }
        };
        Some(sum(&(0..folds).map(of_fold).collect::<Vec<_>>()))
    }
}

/// The sum, with Satterthwaite's degrees of freedom.
fn sum(parts: &[Variance]) -> Variance {
    let value: f64 = parts.iter().map(|part| part.value).sum();
    let doubt: f64 = parts.iter().map(|part| part.value * part.value / part.freedom).sum();
    let freedom = if doubt > 0.0 { value * value / doubt } else { parts.iter().map(|part| part.freedom).sum() };
    Variance { value, freedom: freedom.max(1.0) }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn sample_variance(values: &[f64]) -> f64 {
    let centre = mean(values);
    values.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / values.len().saturating_sub(1).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_reasons_to_vary_widen_the_interval() {
        let resampled: Vec<Option<f64>> = (0..101).map(|place| Some(f64::from(place - 50) * 0.001)).collect();
        let of = |by_seed: Vec<Vec<f64>>| Sources { by_seed, resampled: resampled.clone(), freedom: 60.0, level: 0.95 };
        let calm = of(vec![vec![0.05], vec![0.05], vec![0.05]]).spread();
        let wild = of(vec![vec![0.0], vec![0.05], vec![0.1]]).spread();
        assert_eq!((calm.value * 1e9).round(), (wild.value * 1e9).round());
        let width = |spread: &Spread| spread.interval.map_or(f64::NAN, |i| i.upper - i.lower);
        // The patients' standard error is 0.0293: about two each way with 60 degrees of freedom.
        assert!((width(&calm) - 4.0 * 0.0293).abs() < 0.002, "{}", width(&calm));
        assert!(width(&wild) > 1.4 * width(&calm) && wild.p > calm.p, "{wild:?}");
        // The same disagreement, but folds that make up for each other are not the same network twice.
        let folds = of(vec![vec![0.025, 0.025], vec![0.0, 0.05], vec![0.05, 0.0]]).spread();
        assert!(folds.training > Some(0.01), "{folds:?}");
    }

    #[test]
    fn what_is_seldom_defined_has_no_interval_and_no_test() {
        let mut resampled = vec![Some(0.1); 80];
        resampled.extend([None; 20]);
        let spread = Sources { by_seed: vec![vec![0.1], vec![0.2]], resampled, freedom: 9.0, level: 0.95 }.spread();
        assert_eq!((spread.interval, spread.p, spread.patients), (None, None, None));
    }
}
