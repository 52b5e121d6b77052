//! PyTorch's `ReduceLROnPlateau` (modes `min` and `rel`): the learning rate falls where the loss no longer does.

use candle_core::{Device, Result, Tensor};

use crate::config::PlateauConfig;

/// The rule and what it remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct Plateau {
    config: PlateauConfig,
    learning_rate: f64,
    /// The best loss so far.
    best: f64,
    /// Epochs in a row without a better one.
    bad_epochs: u64,
    /// Epochs in which bad ones don't count yet.
    cooldown: u64,
}

impl Plateau {
    /// Starts at `learning_rate`, with no loss seen.
    #[must_use]
    pub fn new(config: PlateauConfig, learning_rate: f64) -> Self {
        Self { config, learning_rate, best: f64::INFINITY, bad_epochs: 0, cooldown: 0 }
    }

    /// The learning rate until the next epoch ends.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Takes the validation loss of an epoch in. One that is not a number counts as no better.
    pub fn observe(&mut self, loss: f64) {
        if loss < self.best * (1.0 - self.config.threshold) {
            self.best = loss;
            self.bad_epochs = 0;
        } else {
            self.bad_epochs += 1;
        }
        if self.cooldown > 0 {
            self.cooldown -= 1;
            self.bad_epochs = 0;
        }
        if self.bad_epochs > self.config.patience {
            let lower = (self.learning_rate * self.config.factor).max(self.config.min_learning_rate);
            if self.learning_rate - lower > self.config.smallest_change {
                self.learning_rate = lower;
            }
            self.cooldown = self.config.cooldown;
            self.bad_epochs = 0;
        }
    }

    /// What a checkpoint keeps: learning rate, best loss, bad epochs, cooldown; [4] in f64.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn state(&self) -> Result<Tensor> {
        let values = [self.learning_rate, self.best, self.bad_epochs as f64, self.cooldown as f64];
        Tensor::new(&values, &Device::Cpu)
    }

    /// Takes up the state of a checkpoint.
    ///
    /// # Errors
    /// A tensor that [`state`](Self::state) did not make.
    pub fn restore(&mut self, state: &Tensor) -> Result<()> {
        let [learning_rate, best, bad_epochs, cooldown] = state.to_vec1::<f64>()?[..] else {
            candle_core::bail!("the checkpoint's state of the plateau rule has shape {:?}, expected [4]", state.dims())
        };
        (self.learning_rate, self.best) = (learning_rate, best);
        (self.bad_epochs, self.cooldown) = (bad_epochs as u64, cooldown as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PlateauMasks;

    /// As published: factor 0.5, patience 4, least 1e-8, PyTorch's defaults for the rest.
    const PUBLISHED: PlateauConfig = PlateauConfig {
        factor: 0.5,
        patience: 4,
        min_learning_rate: 1e-8,
        threshold: 1e-4,
        cooldown: 0,
        smallest_change: 1e-8,
        masks: PlateauMasks::Fresh,
    };

    /// Learning rates after each loss.
    fn rates(config: PlateauConfig, learning_rate: f64, losses: &[f64]) -> Vec<f64> {
        let mut plateau = Plateau::new(config, learning_rate);
        let mut after = |loss: &f64| {
            plateau.observe(*loss);
            plateau.learning_rate()
        };
        losses.iter().map(&mut after).collect()
    }

    #[test]
    fn four_bad_epochs_are_borne_and_the_fifth_halves() {
        let found = rates(PUBLISHED, 1e-5, &[6.0, 6.1, 6.2, 6.0, 6.3, 6.1, 6.1, 6.1, 6.1, 6.1, 6.1]);
        let (whole, half, quarter) = (1e-5, 5e-6, 2.5e-6);
        // The first loss is the best; 5 bad ones; then another 5.
        let expected = [whole, whole, whole, whole, whole, half, half, half, half, half, quarter];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_loss_is_better_only_by_more_than_a_ten_thousandth() {
        // 5.9995 is not below 6 * (1 - 1e-4) = 5.9994; 5.9993 is, and starts the count again.
        let falling_too_slowly = [6.0, 5.9999, 5.9998, 5.9997, 5.9996, 5.9995];
        assert_eq!(rates(PUBLISHED, 1.0, &falling_too_slowly).last(), Some(&0.5));
        let once_enough = [6.0, 5.9999, 5.9998, 5.9997, 5.9993, 5.9993, 5.9993, 5.9993, 5.9993];
        assert_eq!(rates(PUBLISHED, 1.0, &once_enough).last(), Some(&1.0));
    }

    #[test]
    fn a_change_below_the_smallest_is_not_made_so_the_published_rate_never_reaches_its_least() {
        // 1e-5 / 2^9 = 1.953125e-8; the next is max(9.77e-9, 1e-8) = 1e-8, which is 9.5e-9 lower: too little for PyTorch.
        let found = rates(PUBLISHED, 1e-5, &[1.0; 100]);
        let last = found.last().copied().unwrap_or_default();
        assert!((last - 1.953_125e-8).abs() < 1e-20, "{last:e}");
        // With a patience of 4 every fifth epoch lowers: the ninth time after 1 + 45.
        assert!(found[44] > 3e-8 && (found[45] - last).abs() < 1e-20, "{:e} {:e}", found[44], found[45]);
    }

    #[test]
    fn the_least_learning_rate_is_a_floor() {
        let config = PlateauConfig { patience: 0, min_learning_rate: 0.3, ..PUBLISHED };
        assert_eq!(rates(config, 1.0, &[1.0, 1.0, 1.0, 1.0]), [1.0, 0.5, 0.3, 0.3]);
    }

    #[test]
    fn bad_epochs_do_not_count_in_the_cooldown() {
        let config = PlateauConfig { patience: 1, cooldown: 2, ..PUBLISHED };
        // Bad: epochs 2 and 3, lowered at 3; epochs 4 and 5 cool down; 6 and 7 are bad, lowered at 7.
        assert_eq!(rates(config, 1.0, &[1.0; 8]), [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]);
    }

    #[test]
    fn a_loss_that_is_no_number_is_no_better() {
        let config = PlateauConfig { patience: 0, ..PUBLISHED };
        assert_eq!(rates(config, 1.0, &[f64::NAN, 1.0, f64::NAN]), [0.5, 0.5, 0.25]);
    }

    #[test]
    fn a_restored_rule_goes_on_as_if_nothing_had_happened() -> Result<()> {
        let losses = [2.0, 2.1, 1.9, 1.95, 2.0, 2.0, 2.0, 1.95, 2.0, 2.2, 2.0, 2.0, 2.0];
        for stop in 0..losses.len() {
            let mut whole = Plateau::new(PUBLISHED, 1e-3);
            losses[..stop].iter().for_each(|loss| whole.observe(*loss));
            let mut resumed = Plateau::new(PUBLISHED, 1e-3);
            resumed.restore(&whole.state()?)?;
            assert_eq!(resumed, whole);
            losses[stop..].iter().for_each(|loss| whole.observe(*loss));
            losses[stop..].iter().for_each(|loss| resumed.observe(*loss));
            assert_eq!(resumed, whole);
        }
        assert!(Plateau::new(PUBLISHED, 1.0).restore(&Tensor::new(&[1f64], &Device::Cpu)?).is_err());
        Ok(())
    }
}
