//! Peak signal-to-noise ratio.

use crate::{EvalError, GrayImage};

/// 10 log10(1 / mean squared error) in dB, for pixels in [0, 1]; infinite where the pictures are equal.
///
/// # Errors
/// [`EvalError::SizesDiffer`].
pub fn psnr(a: &GrayImage<'_>, b: &GrayImage<'_>) -> Result<f64, EvalError> {
    a.same_size(b)?;
    let squares: f64 = a.pixels().iter().zip(b.pixels()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let mean = squares / a.pixels().len().max(1) as f64;
    Ok(-10.0 * mean.log10())
}

/// What [`psnr_capped`] says of equal pictures, in dB. Pictures that differ by one of 65,535 gray values everywhere are at 96.
pub const PSNR_CAP: f64 = 100.0;

/// [`psnr`], at most [`PSNR_CAP`]: for means and for JSON, which an infinite value would spoil.
///
/// # Errors
/// [`EvalError::SizesDiffer`].
pub fn psnr_capped(a: &GrayImage<'_>, b: &GrayImage<'_>) -> Result<f64, EvalError> {
    Ok(psnr(a, b)?.min(PSNR_CAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capped_value_is_finite_for_equal_pictures_and_the_same_below_the_cap() -> Result<(), EvalError> {
        let (a, b) = ([0.5_f32; 12], [0.6_f32; 12]);
        let (a, b) = (GrayImage::new(4, 3, &a)?, GrayImage::new(4, 3, &b)?);
        assert_eq!(psnr_capped(&a, &a)?, PSNR_CAP);
        assert_eq!(psnr_capped(&a, &b)?, psnr(&a, &b)?);
        assert!(matches!(psnr_capped(&a, &GrayImage::new(1, 1, &[0.0])?), Err(EvalError::SizesDiffer { .. })));
        Ok(())
    }

    #[test]
    fn a_difference_of_a_tenth_everywhere_is_twenty_decibels() -> Result<(), EvalError> {
        let a = [0.5_f32; 12];
        let b = [0.6_f32; 12];
        let value = psnr(&GrayImage::new(4, 3, &a)?, &GrayImage::new(4, 3, &b)?)?;
        assert!((value - 20.0).abs() < 1e-5, "{value}");
        Ok(())
    }

    #[test]
    fn equal_pictures_are_infinitely_good_and_unequal_sizes_are_refused() -> Result<(), EvalError> {
        let pixels = [0.25_f32; 12];
        let wide = GrayImage::new(4, 3, &pixels)?;
        assert_eq!(psnr(&wide, &wide)?, f64::INFINITY);
        assert!(matches!(psnr(&wide, &GrayImage::new(3, 4, &pixels)?), Err(EvalError::SizesDiffer { .. })));
        assert!(matches!(GrayImage::new(5, 3, &pixels), Err(EvalError::PixelCount { found: 12, .. })));
        assert!(matches!(GrayImage::new(1, 1, &[f32::NAN]), Err(EvalError::NotFinite { index: 0 })));
        Ok(())
    }
}
