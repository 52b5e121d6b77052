//! The image type of this crate: borrowed gray pixels.

use crate::EvalError;

/// A gray picture, row-major, nominally in [0, 1].
#[derive(Debug, Clone, Copy)]
pub struct GrayImage<'a> {
    width: usize,
    height: usize,
    pixels: &'a [f32],
}

impl<'a> GrayImage<'a> {
    /// A view of `width * height` pixels.
    ///
    /// # Errors
    /// [`EvalError::PixelCount`] if the slice is not that long, [`EvalError::NotFinite`] if a pixel is NaN or infinite.
    pub fn new(width: usize, height: usize, pixels: &'a [f32]) -> Result<Self, EvalError> {
        if width.checked_mul(height) != Some(pixels.len()) {
            return Err(EvalError::PixelCount { width, height, found: pixels.len() });
        }
        match pixels.iter().position(|pixel| !pixel.is_finite()) {
            Some(index) => Err(EvalError::NotFinite { index }),
            None => Ok(Self { width, height, pixels }),
        }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row-major.
    #[must_use]
    pub fn pixels(&self) -> &'a [f32] {
        self.pixels
    }

    /// Refuses a partner of another size.
    pub(crate) fn same_size(&self, other: &GrayImage<'_>) -> Result<(), EvalError> {
        let (first, second) = ((self.width, self.height), (other.width, other.height));
        if first == second { Ok(()) } else { Err(EvalError::SizesDiffer { first, second }) }
    }
}
