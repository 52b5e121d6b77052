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

#[cfg(test)]
mod tests {
    use super::*;

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
