//! Decoding pictures from anyone: format by magic bytes, dimensions before any allocation.

use std::io::Cursor;

use ::image::codecs::jpeg::JpegDecoder;
use ::image::codecs::png::PngDecoder;
use ::image::{DynamicImage, ImageDecoder, Limits};

use super::{ImageError, ImageFormat, Picture, dicom};

/// How much a picture may ask of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Encoded bytes.
    pub max_bytes: usize,
    /// Pixels a side.
    pub max_side: u32,
    /// Pixels in all: what bounds the memory of a decoding. At worst that is about 16 bytes each besides the encoded
    /// bytes: 8 of RGBA in 16 bits, or 9 of a progressive JPEG in colour (3 decoded, 6 of coefficients), 4 of gray, and a
    /// margin for the decoder's own tables.
    pub max_pixels: u64,
}

impl Default for DecodeLimits {
    /// 32 MiB, 8192 pixels a side, 16 Mi pixels: any plain radiograph, such as 4096 x 4096.
    fn default() -> Self {
        Self { max_bytes: 32 << 20, max_side: 8192, max_pixels: 16 << 20 }
    }
}

impl DecodeLimits {
    pub(super) fn check_dimensions(&self, width: u64, height: u64) -> Result<(), ImageError> {
        if width == 0 || height == 0 {
            return Err(ImageError::Empty);
        }
        let side = u64::from(self.max_side);
        // Both sides are at most 2^32 once they passed, so the product cannot overflow.
        if width > side || height > side || width * height > self.max_pixels {
            let max_pixels = self.max_pixels;
            return Err(ImageError::TooLarge { width, height, limit: self.max_side, max_pixels });
        }
        Ok(())
    }
}

/// Shape of a RAW picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawShape {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bits a sample: 8 or 16.
    pub bit_depth: u32,
}

/// The format that the bytes start like; RAW never, because it has no header.
pub fn detect(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(ImageFormat::Jpeg)
    } else if bytes.get(128..132) == Some(b"DICM") || bytes.starts_with(b"DICM") {
        Some(ImageFormat::Dicom)
    } else {
        None
    }
}

/// Decodes a picture to gray. `declared` is checked against the bytes where given; `raw` is read for RAW only.
///
/// Colour is reduced to luma (0.299, 0.587, 0.114), alpha is dropped, 16 bits are kept.
///
/// # Errors
/// The bytes are no picture, are not what was declared, or ask for more than the limits.
pub fn decode(
    bytes: &[u8],
    declared: Option<ImageFormat>,
    raw: Option<RawShape>,
    limits: &DecodeLimits,
) -> Result<Picture, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    if bytes.len() > limits.max_bytes {
        return Err(ImageError::TooManyBytes { found: bytes.len(), limit: limits.max_bytes });
    }
    let format = match (declared, detect(bytes)) {
        (Some(ImageFormat::Raw), _) => ImageFormat::Raw,
        (None, None) => return Err(ImageError::UnknownFormat),
        (None, Some(found)) => found,
        (Some(declared), Some(found)) if declared != found => {
            return Err(ImageError::FormatMismatch { declared, found });
        }
        (Some(declared), Some(_)) => declared,
        (Some(format), None) => {
            let message = format!("the bytes do not start as {format} does");
            return Err(ImageError::Corrupt { format, message });
        }
    };
    match format {
        ImageFormat::Png => {
            // The decoder gives up on huge sides before it says which they are.
            if let Some((width, height)) = png_sides(bytes) {
                limits.check_dimensions(width, height)?;
            }
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), decoder_limits(limits))
                .map_err(|error| corrupt(format, &error))?;
            decode_with(decoder, format, limits)
        }
        ImageFormat::Jpeg => {
            if !has_whole_scan(bytes) {
                let message = "it has no end-of-image marker behind its last scan".to_owned();
                return Err(ImageError::Corrupt { format, message });
            }
            let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(|error| corrupt(format, &error))?;
            decode_with(decoder, format, limits)
        }
        ImageFormat::Raw => decode_raw(bytes, raw, limits),
        ImageFormat::Dicom => dicom::read(bytes, limits),
    }
}

/// Width and height in a PNG's header.
fn png_sides(bytes: &[u8]) -> Option<(u64, u64)> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let side = |bytes: &[u8; 4]| u64::from(u32::from_be_bytes(*bytes));
    Some((side(header.first_chunk()?), side(header.get(4..)?.first_chunk()?)))
}

/// Whether a JPEG's last scan is ended by a marker. The decoder fills what is cut away with gray, and says nothing.
fn has_whole_scan(bytes: &[u8]) -> bool {
    // In a scan 0xff is followed by 0 or a restart: these two markers are themselves wherever they are.
    let last = |marker: u8| bytes.array_windows().rposition(|pair| *pair == [0xff, marker]);
    last(0xd9).is_some_and(|end| last(0xda).is_some_and(|start| start < end))
}

/// Decodes once the header's dimensions are known to be within the limits.
fn decode_with(
    mut decoder: impl ImageDecoder,
    format: ImageFormat,
    limits: &DecodeLimits,
) -> Result<Picture, ImageError> {
    let (width, height) = decoder.dimensions();
    limits.check_dimensions(u64::from(width), u64::from(height))?;
    decoder.set_limits(decoder_limits(limits)).map_err(|error| corrupt(format, &error))?;
    let image = DynamicImage::from_decoder(decoder).map_err(|error| corrupt(format, &error))?;
    Picture::new(width as usize, height as usize, to_gray(&image))
}

/// The decoders' own limits: the largest picture that we read, at 8 bytes a pixel.
fn decoder_limits(limits: &DecodeLimits) -> Limits {
    let mut decoder_limits = Limits::no_limits();
    decoder_limits.max_alloc = Some(limits.max_pixels.saturating_mul(8).saturating_add(1 << 20));
    decoder_limits
}

fn corrupt(format: ImageFormat, error: &::image::ImageError) -> ImageError {
    ImageError::Corrupt { format, message: error.to_string() }
}

/// Straight from the decoded pixels to gray: no copy of the colours in floating point, which would be larger than both.
fn to_gray(image: &DynamicImage) -> Vec<f32> {
    match image {
        DynamicImage::ImageLuma8(gray) => gray.iter().map(|&value| f32::from(value) / 255.0).collect(),
        DynamicImage::ImageLumaA8(gray) => gray.pixels().map(|pixel| f32::from(pixel.0[0]) / 255.0).collect(),
        DynamicImage::ImageLuma16(gray) => gray.iter().map(|&value| f32::from(value) / 65_535.0).collect(),
        DynamicImage::ImageLumaA16(gray) => gray.pixels().map(|pixel| f32::from(pixel.0[0]) / 65_535.0).collect(),
        DynamicImage::ImageRgb8(colour) => colour.pixels().map(|pixel| luma(pixel.0.map(f32::from), 255.0)).collect(),
        DynamicImage::ImageRgba8(colour) => {
            colour.pixels().map(|pixel| luma(opaque(pixel.0).map(f32::from), 255.0)).collect()
        }
        DynamicImage::ImageRgb16(colour) => {
            colour.pixels().map(|pixel| luma(pixel.0.map(f32::from), 65_535.0)).collect()
        }
        DynamicImage::ImageRgba16(colour) => {
            colour.pixels().map(|pixel| luma(opaque(pixel.0).map(f32::from), 65_535.0)).collect()
        }
        // Neither PNG nor JPEG: pixels in floating point.
        colour => colour.to_rgb32f().pixels().map(|pixel| luma(pixel.0, 1.0)).collect(),
    }
}

/// A pixel without its alpha.
fn opaque<T>([red, green, blue, _]: [T; 4]) -> [T; 3] {
    [red, green, blue]
}

/// Luma of red, green and blue, as JPEG and most readers have it.
pub(super) fn luma([red, green, blue]: [f32; 3], white: f32) -> f32 {
    if red == green && green == blue {
        // A gray film saved in colour stays exactly what it was.
        return red / white;
    }
    (0.299 * red + 0.587 * green + 0.114 * blue) / white
}

fn decode_raw(bytes: &[u8], shape: Option<RawShape>, limits: &DecodeLimits) -> Result<Picture, ImageError> {
    let RawShape { width, height, bit_depth } = shape.unwrap_or(RawShape { width: 0, height: 0, bit_depth: 0 });
    if width == 0 || height == 0 || !(bit_depth == 8 || bit_depth == 16) {
        return Err(ImageError::RawShape { width, height, bit_depth });
    }
    limits.check_dimensions(u64::from(width), u64::from(height))?;
    let expected = u64::from(width) * u64::from(height) * u64::from(bit_depth / 8);
    if bytes.len() as u64 != expected {
        return Err(ImageError::RawLengthMismatch { expected, found: bytes.len() as u64 });
    }
    let pixels = if bit_depth == 8 {
        bytes.iter().map(|&value| f32::from(value) / 255.0).collect()
    } else {
        bytes.as_chunks::<2>().0.iter().map(|pair| f32::from(u16::from_le_bytes(*pair)) / 65_535.0).collect()
    };
    Picture::new(width as usize, height as usize, pixels)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
