//! Sampling parameters, their defaults and their ranges.

use serde::{Deserialize, Serialize};

use super::ParameterError;
use super::filter::decimal;

/// Which algorithm fills the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Exactly the published code: greedy confidence, temperature falling linearly to zero.
    Published,
    /// MaskGIT: constant temperature, falling Gumbel noise on the log-confidence.
    Maskgit,
    /// Positions in Halton order, rolled per sample.
    Halton,
}

/// How to sample. A bundle holds the defaults of its model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingParams {
    /// Which algorithm.
    pub sampler: Sampler,
    /// Steps K, 1 to 256.
    pub step_count: u32,
    /// Temperature T of token choice, 0 (greedy) to 100.
    pub temperature: f32,
    /// The paper's alpha in [0, 1): each position keeps the ceil((1 - alpha) * codebook size) best ids.
    pub top_k_filter: f32,
    /// Classifier-free guidance, 1 (none) to 50.
    pub guidance_scale: f32,
    /// Scale of the Gumbel noise on the log-confidence (MaskGIT only), 0 to 100.
    pub choice_temperature: f32,
    /// Share of the steps, 0 (none) to 0.9, that come once the grid is full and decide some of its tokens anew (not with the
    /// published sampler).
    pub refinement: f32,
    /// Seed of all randomness.
    pub seed: u64,
}

impl SamplingParams {
    /// The paper's setting: K = 3, T = 1.3, alpha = 0.5, no guidance.
    pub fn published() -> Self {
        Self {
            sampler: Sampler::Published,
            step_count: 3,
            temperature: 1.3,
            top_k_filter: 0.5,
            guidance_scale: 1.0,
            choice_temperature: 0.0,
            refinement: 0.0,
            seed: 0,
        }
    }

    /// Steps that fill the grid, at least 1; those after them refine it.
    pub fn fill_steps(&self) -> u32 {
        if self.sampler == Sampler::Published {
            return self.step_count;
        }
        // The share is meant in decimal: 0.7 of 40 steps are 28.
        let refine = (f64::from(self.step_count) * decimal(self.refinement) + 1e-9).floor() as u32;
        self.step_count.saturating_sub(refine).max(1)
    }

    /// Takes another sampler; one that cannot refine is not asked to.
    pub fn change_sampler(&mut self, sampler: Sampler) {
        self.sampler = sampler;
        if sampler == Sampler::Published {
            self.refinement = 0.0;
        }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// The first field out of its range, by its path on the wire.
    pub fn validate(&self) -> Result<(), ParameterError> {
        if !(1..=256).contains(&self.step_count) {
            return Err(ParameterError {
                field: "sampling.step_count",
                found: self.step_count.to_string(),
                allowed: "between 1 and 256",
            });
        }
        in_range("sampling.temperature", self.temperature, 0.0, 100.0, "between 0 and 100")?;
        in_range("sampling.guidance_scale", self.guidance_scale, 1.0, 50.0, "between 1 (no guidance) and 50")?;
        in_range("sampling.choice_temperature", self.choice_temperature, 0.0, 100.0, "between 0 and 100")?;
        let (most, allowed) = match self.sampler {
            Sampler::Published => (0.0, "0 with the published sampler"),
            Sampler::Maskgit | Sampler::Halton => (0.9, "between 0 and 0.9"),
        };
        in_range("sampling.refinement", self.refinement, 0.0, most, allowed)?;
        let allowed = "at least 0 and less than 1";
        in_range("sampling.top_k_filter", self.top_k_filter, 0.0, 1.0 - f32::EPSILON / 2.0, allowed)
    }
}

impl Default for SamplingParams {
    /// MaskGIT with 12 steps, T = 1 and noise 4.5: what kept samples of one impression different from each other.
    fn default() -> Self {
        Self {
            sampler: Sampler::Maskgit,
            step_count: 12,
            temperature: 1.0,
            top_k_filter: 0.0,
            guidance_scale: 1.0,
            choice_temperature: 4.5,
            refinement: 0.0,
            seed: 0,
        }
    }
}

fn in_range(
    field: &'static str,
    value: f32,
    least: f32,
    most: f32,
    allowed: &'static str,
) -> Result<(), ParameterError> {
    // NaN fails both comparisons.
    if value >= least && value <= most {
        Ok(())
    } else {
        Err(ParameterError { field, found: value.to_string(), allowed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(change: impl Fn(&mut SamplingParams)) -> Option<&'static str> {
        let mut params = SamplingParams::default();
        change(&mut params);
        params.validate().err().map(|error| error.field)
    }

    #[test]
    fn the_defaults_and_the_papers_setting_are_in_range() {
        assert_eq!(SamplingParams::default().validate(), Ok(()));
        assert_eq!(SamplingParams::published().validate(), Ok(()));
        assert_eq!(field_of(|params| params.temperature = 0.0), None);
        assert_eq!(field_of(|params| params.top_k_filter = 0.999), None);
    }

    #[test]
    fn zero_huge_and_nan_numbers_are_refused_by_field_path() {
        for count in [0, 257, u32::MAX] {
            assert_eq!(field_of(|params| params.step_count = count), Some("sampling.step_count"));
        }
        for bad in [f32::NAN, f32::INFINITY, -1.0, 1e9] {
            assert_eq!(field_of(|params| params.temperature = bad), Some("sampling.temperature"));
            assert_eq!(field_of(|params| params.guidance_scale = bad), Some("sampling.guidance_scale"));
            assert_eq!(field_of(|params| params.choice_temperature = bad), Some("sampling.choice_temperature"));
            assert_eq!(field_of(|params| params.refinement = bad), Some("sampling.refinement"));
            assert_eq!(field_of(|params| params.top_k_filter = bad), Some("sampling.top_k_filter"));
        }
        assert_eq!(field_of(|params| params.guidance_scale = 0.0), Some("sampling.guidance_scale"));
        assert_eq!(field_of(|params| params.top_k_filter = 1.0), Some("sampling.top_k_filter"));
        assert_eq!(field_of(|params| params.refinement = 0.95), Some("sampling.refinement"));
    }

    #[test]
    fn the_published_sampler_refuses_to_refine_and_drops_it_when_chosen_over_a_default() {
        let mut params = SamplingParams { refinement: 0.5, ..SamplingParams::default() };
        assert_eq!(params.validate(), Ok(()));
        params.change_sampler(Sampler::Published);
        assert_eq!((params.refinement, params.validate()), (0.0, Ok(())));
        params.refinement = 0.5;
        assert_eq!(params.validate().map_err(|error| error.field), Err("sampling.refinement"));
    }

    #[test]
    fn refinement_leaves_at_least_one_step_to_fill_the_grid() {
        for (step_count, refinement, fill) in [
            (1, 0.9, 1),
            (2, 0.5, 1),
            (3, 0.5, 2),
            (40, 0.5, 20),
            (40, 0.0, 40),
            (40, 0.6, 16),
            (40, 0.7, 12),
            (40, 0.9, 4),
            (100, 0.29, 71),
        ] {
            let params = SamplingParams { step_count, refinement, ..SamplingParams::default() };
            assert_eq!(params.fill_steps(), fill, "{refinement} of {step_count}");
        }
    }
}
