//! Dealing patients to splits where the source does not: by a hash of seed and patient, so that a patient's split depends
//! on nothing else, and more films never move a patient.

use raygen_manifest::Split;
use sha2::{Digest, Sha256};

use super::PrepareError;

/// Shares of the patients for `val` and `test`; the others are for `train`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitRule {
    /// Share of `val`.
    pub val: f64,
    /// Share of `test`.
    pub test: f64,
    /// Another seed deals other patients.
    pub seed: u64,
}

impl Default for SplitRule {
    fn default() -> Self {
        Self { val: 0.1, test: 0.0, seed: 0 }
    }
}

impl SplitRule {
    /// Refuses shares that are no shares.
    ///
    /// # Errors
    /// A share is outside 0 to 1, or together they leave nothing for `train`.
    pub fn check(&self) -> Result<(), PrepareError> {
        for (option, share) in [("--val", self.val), ("--test", self.test)] {
            if !(0.0..1.0).contains(&share) {
                return Err(PrepareError::option(option, format!("{share} is no share; give a number from 0 up to 1")));
            }
        }
        if self.val + self.test >= 1.0 {
            let problem =
                format!("with --test {} nothing is left for train; give shares that sum to less than 1", self.test);
            return Err(PrepareError::option("--val", format!("{} {problem}", self.val)));
        }
        Ok(())
    }

    /// The split of a patient.
    #[must_use]
    pub fn split_of(&self, patient: &str) -> Split {
        let place = self.place(patient);
        if place < self.test {
            Split::Test
        } else if place < self.test + self.val {
            Split::Val
        } else {
            Split::Train
        }
    }

    /// `train` or `val` of a patient whom the source keeps out of `test`.
    #[must_use]
    pub fn train_or_val(&self, patient: &str) -> Split {
        if self.place(patient) < self.val { Split::Val } else { Split::Train }
    }

    /// Evenly spread over [0, 1).
    fn place(&self, patient: &str) -> f64 {
        let digest = Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(patient).finalize();
        let first = digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        // The 53 bits that an f64 holds exactly, so that 1 is never reached.
        (first >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_about_what_was_asked_for_and_another_seed_deals_others() {
        let rule = SplitRule { val: 0.2, test: 0.1, seed: 3 };
        let splits: Vec<Split> = (0..4000).map(|number| rule.split_of(&format!("p{number}"))).collect();
        let count = |split| splits.iter().filter(|other| **other == split).count();
        assert!((700..900).contains(&count(Split::Val)), "{}", count(Split::Val));
        assert!((320..480).contains(&count(Split::Test)), "{}", count(Split::Test));
        let reseeded = SplitRule { seed: 4, ..rule };
        assert!((0..4000).any(|number| reseeded.split_of(&format!("p{number}")) != splits[number]));
    }

    #[test]
    fn a_patients_split_never_changes_between_versions() {
        let rule = SplitRule { val: 0.5, test: 0.0, seed: 1 };
        let dealt: Vec<Split> = ["a", "b", "c", "d", "e", "f"].iter().map(|patient| rule.split_of(patient)).collect();
        use Split::{Train, Val};
        assert_eq!(dealt, DEALT_BY_SEED_1);
        const DEALT_BY_SEED_1: [Split; 6] = [Train, Val, Train, Train, Train, Val];
    }

    #[test]
    fn shares_that_leave_nothing_are_refused() {
        for (val, test) in [(0.5, 0.5), (1.0, 0.0), (-0.1, 0.0), (f64::NAN, 0.0), (0.1, 2.0)] {
            assert!(SplitRule { val, test, seed: 0 }.check().is_err(), "{val} {test}");
        }
        assert!(SplitRule::default().check().is_ok());
    }
}
