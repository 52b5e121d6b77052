//! How alike the pictures of a set are: a generator that collapsed gives the same picture again and again.

use rayon::prelude::*;

use crate::{EvalError, GrayImage, ms_ssim, ssim};

/// What two pictures are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// [`ssim`], for pictures of 11 pixels a side and more.
    Ssim,
    /// [`ms_ssim`], for pictures of 176 pixels a side and more.
    MsSsim,
}

/// Mean over all pairs of the set; 1 if all pictures are equal, lower the more they differ.
///
/// # Errors
/// [`EvalError::TooFew`] under two pictures, and what the measure refuses.
pub fn mean_pairwise(images: &[GrayImage<'_>], measure: Measure) -> Result<f64, EvalError> {
    let (name, compare): (_, fn(&GrayImage<'_>, &GrayImage<'_>) -> _) = match measure {
        Measure::Ssim => ("mean pairwise SSIM", ssim),
        Measure::MsSsim => ("mean pairwise MS-SSIM", ms_ssim),
    };
    if images.len() < 2 {
        return Err(EvalError::TooFew { metric: name, needed: 2, found: images.len() });
    }
    let pairs: Vec<(usize, usize)> =
        (0..images.len()).flat_map(|first| (first + 1..images.len()).map(move |second| (first, second))).collect();
    // Collected before it is summed: the sum must not depend on which thread was first.
    let values: Vec<f64> = pairs
        .par_iter()
        .map(|(first, second)| compare(&images[*first], &images[*second]))
        .collect::<Result<_, EvalError>>()?;
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pictures_score_one_and_different_ones_less() -> Result<(), EvalError> {
        let ramp: Vec<f32> = (0..400).map(|i| i as f32 / 400.0).collect();
        let weave: Vec<f32> = (0..400).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let (ramp, weave) = (GrayImage::new(20, 20, &ramp)?, GrayImage::new(20, 20, &weave)?);
        assert!((mean_pairwise(&[ramp, ramp, ramp], Measure::Ssim)? - 1.0).abs() < 1e-12);
        let mixed = mean_pairwise(&[ramp, weave, ramp], Measure::Ssim)?;
        let alone = ssim(&ramp, &weave)?;
        assert!((mixed - (1.0 + 2.0 * alone) / 3.0).abs() < 1e-12, "{mixed}");
        assert!(matches!(mean_pairwise(&[ramp], Measure::Ssim), Err(EvalError::TooFew { found: 1, .. })));
        Ok(())
    }
}
