//! The smallest difference that so much data can show, before anything runs.

use super::{StatisticsError, normal_quantile};

/// Which differences a test looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// In one direction, such as "worse".
    One,
    /// In either.
    Two,
}

/// A test of a mean (of paired differences) against 0, by the normal approximation: fair from about 20 units on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Design {
    /// Standard deviation of the difference of one item; of one patient, where patients are the units.
    pub deviation: f64,
    /// Chance of a false alarm.
    pub alpha: f64,
    /// Chance to find a difference that is there.
    pub power: f64,
    /// Which differences count.
    pub sides: Sides,
}

impl Design {
    /// The least true mean difference that `count` items show with the wanted power.
    ///
    /// # Errors
    /// A deviation that is negative or no number, chances outside (0, 1), or no item.
    pub fn detectable_difference(&self, count: usize) -> Result<f64, StatisticsError> {
        if count == 0 {
            return Err(StatisticsError::TooFew { what: "a test of items", needed: 1, found: 0 });
        }
        Ok(self.quantiles()? * self.deviation / (count as f64).sqrt())
    }

    /// How many items show a true mean difference of `difference` with the wanted power.
    ///
    /// # Errors
    /// As [`Design::detectable_difference`], and a difference that is not above 0.
    pub fn items_needed(&self, difference: f64) -> Result<u64, StatisticsError> {
        if !difference.is_finite() || difference <= 0.0 {
            return Err(StatisticsError::Setting { name: "the difference", range: "above 0", found: difference });
        }
        Ok((self.quantiles()? * self.deviation / difference).powi(2).ceil().max(1.0) as u64)
    }

    /// Standard errors between no difference and the least detectable one.
    fn quantiles(&self) -> Result<f64, StatisticsError> {
        for (name, found) in [("alpha", self.alpha), ("the power", self.power)] {
            if !(found > 0.0 && found < 1.0) {
                return Err(StatisticsError::Setting { name, range: "above 0 and below 1", found });
            }
        }
        if !self.deviation.is_finite() || self.deviation < 0.0 {
            return Err(StatisticsError::Setting {
                name: "the deviation",
                range: "a number not below 0",
                found: self.deviation,
            });
        }
        let tail = match self.sides {
            Sides::One => self.alpha,
            Sides::Two => self.alpha / 2.0,
        };
        // A power below the false alarms asks for nothing.
        Ok((normal_quantile(1.0 - tail) + normal_quantile(self.power)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{Paired, Units, below, stream};

    const DESIGN: Design = Design { deviation: 1.0, alpha: 0.05, power: 0.9, sides: Sides::One };

    #[test]
    fn the_textbook_case() -> Result<(), StatisticsError> {
        let two_sided = Design { power: 0.8, sides: Sides::Two, ..DESIGN };
        assert!((two_sided.detectable_difference(100)? - 0.280_158_5).abs() < 1e-6);
        assert_eq!(two_sided.items_needed(0.280_158_6)?, 100);
        assert!(matches!(
            Design { alpha: 0.0, ..DESIGN }.detectable_difference(9),
            Err(StatisticsError::Setting { .. })
        ));
        assert!(Design { deviation: f64::NAN, ..DESIGN }.detectable_difference(9).is_err());
        Ok(())
    }

    #[test]
    fn a_difference_of_that_size_is_found_as_often_as_promised() -> Result<(), StatisticsError> {
        let count = 60;
        let shift = DESIGN.detectable_difference(count)?;
        let mut found = 0;
        for seed in 0..300 {
            let mut generator = stream(seed, "power", 0);
            let mut normal =
                || (0..12).map(|_| below(&mut generator, 1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0;
            let second: Vec<f64> = (0..count).map(|_| normal() + shift).collect();
            let paired = Paired::new(&vec![0.0; count], &second, Units::items(count))?;
            found += u32::from(paired.sign_flips(399, 9).second_higher <= 0.05);
        }
        // 270 of 300 expected, standard deviation 5.2.
        assert!((252..=287).contains(&found), "{found} of 300");
        Ok(())
    }
}
