//! A gray picture in memory.

use std::fmt;

use super::ImageError;

/// A gray picture: row-major, 0 black to 1 white.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height` values in [0, 1].
    pub pixels: Vec<f32>,
}

impl Picture {
    /// A picture of these pixels.
    ///
    /// # Errors
    /// A side is zero, or there are not `width * height` pixels.
    pub fn new(width: usize, height: usize, pixels: Vec<f32>) -> Result<Self, ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty);
        }
        match width.checked_mul(height) {
            Some(expected) if expected == pixels.len() => Ok(Self { width, height, pixels }),
            expected => Err(ImageError::PixelCount { width, height, expected, found: pixels.len() }),
        }
    }

    /// The pixels rounded to 8 bits.
    pub fn to_u8(&self) -> Vec<u8> {
        self.pixels.iter().map(|value| (value.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
    }

    /// The pixels rounded to 16 bits.
    pub fn to_u16(&self) -> Vec<u16> {
        self.pixels.iter().map(|value| (value.clamp(0.0, 1.0) * 65_535.0).round() as u16).collect()
    }
}

/// How the bytes of a picture are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImageFormat {
    /// Lossless PNG.
    Png,
    /// Baseline JPEG.
    Jpeg,
    /// Row-major little-endian gray samples without a header.
    Raw,
    /// DICOM Part 10.
    Dicom,
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Raw => "RAW",
            Self::Dicom => "DICOM",
        })
    }
}
