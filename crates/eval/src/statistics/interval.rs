//! An interval around a number.

use serde::{Deserialize, Serialize};

use super::{mean, student_quantile};

/// The level of every interval unless asked otherwise.
pub const LEVEL: f64 = 0.95;

/// A confidence interval, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

impl Interval {
    /// Whether `value` lies within.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        (self.lower..=self.upper).contains(&value)
    }

    /// The values between which the middle `level` of `values` lies; `None` of nothing.
    pub(crate) fn of_percentiles(mut values: Vec<f64>, level: f64) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let tail = (1.0 - level) / 2.0;
        Some(Self { lower: quantile(&values, tail)?, upper: quantile(&values, 1.0 - tail)? })
    }

    /// `value` plus and minus so many standard errors as `level` asks for with `freedom` degrees of freedom.
    pub(crate) fn around(value: f64, standard_error: f64, freedom: f64, level: f64) -> Self {
        let reach = student_quantile(0.5 + level / 2.0, freedom) * standard_error;
        Self { lower: value - reach, upper: value + reach }
    }
}

/// The `share` quantile of sorted values, by linear interpolation (numpy's default); `None` of nothing.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// Standard error of a statistic from its values with one part left out at a time (delete-one jackknife).
///
/// For U-statistics it is on average not too small (Efron and Stein 1981), also where the bootstrap fails.
pub(crate) fn jackknife_error(left_out: &[f64]) -> f64 {
    let (count, centre) = (left_out.len() as f64, mean(left_out));
    let squares: f64 = left_out.iter().map(|value| (value - centre).powi(2)).sum();
    (squares * (count - 1.0) / count.max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(8.0));
        assert!(quantile(&values, 0.9).is_some_and(|value| (value - 6.8).abs() < 1e-12));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_textbook_standard_error() {
        let values = [3.0, 5.0, 4.0, 8.0, 1.0];
        let total: f64 = values.iter().sum();
        let left_out: Vec<f64> = values.iter().map(|value| (total - value) / 4.0).collect();
        let variance = values.iter().map(|value| (value - total / 5.0).powi(2)).sum::<f64>() / 4.0;
        assert!((jackknife_error(&left_out) - (variance / 5.0).sqrt()).abs() < 1e-12);
    }
}
