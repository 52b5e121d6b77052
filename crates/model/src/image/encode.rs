//! Encoding pictures that we made; each says that it is synthetic.

use super::{ImageError, ImageFormat, NOTICE, Picture, Provenance, dicom};

/// Bits of a gray sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitDepth {
    /// 8 bits.
    Eight,
    /// 16 bits; JPEG has 8 regardless.
    Sixteen,
}

/// JPEG quality: previews are small and looked at for a moment, films are kept as PNG.
const JPEG_QUALITY: u8 = 90;

/// Encodes a picture with its provenance: PNG text chunks, a JPEG comment, or DICOM attributes with Synthetic Data =
/// YES. RAW has no room for any.
///
/// # Errors
/// A pixel is not finite, or the format cannot hold the picture.
pub fn encode(
    picture: &Picture,
    format: ImageFormat,
    depth: BitDepth,
    provenance: &Provenance,
) -> Result<Vec<u8>, ImageError> {
    if let Some(index) = picture.pixels.iter().position(|value| !value.is_finite()) {
        return Err(ImageError::NotFinite { index });
    }
    match format {
        ImageFormat::Png => png(picture, depth, provenance),
        ImageFormat::Jpeg => jpeg(picture, provenance),
        ImageFormat::Raw => Ok(samples(picture, depth, u16::to_le_bytes)),
        ImageFormat::Dicom => dicom::write(picture, depth, provenance),
    }
}

/// The samples as bytes, 16 bits in the order that the format wants.
pub(super) fn samples(picture: &Picture, depth: BitDepth, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    match depth {
        BitDepth::Eight => picture.to_u8(),
        BitDepth::Sixteen => picture.to_u16().into_iter().flat_map(order).collect(),
    }
}

fn png(picture: &Picture, depth: BitDepth, provenance: &Provenance) -> Result<Vec<u8>, ImageError> {
    let failed =
        |error: png::EncodingError| ImageError::Encode { format: ImageFormat::Png, message: error.to_string() };
    let (width, height) = sides(picture, ImageFormat::Png)?;
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(match depth {
        BitDepth::Eight => png::BitDepth::Eight,
        BitDepth::Sixteen => png::BitDepth::Sixteen,
    });
    let fixed = [("Software", "RayGen".to_owned()), ("Description", NOTICE.to_owned())];
    for (keyword, text) in fixed.into_iter().chain(provenance.fields()) {
        encoder.add_itxt_chunk(keyword.to_owned(), text).map_err(failed)?;
    }
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(&samples(picture, depth, u16::to_be_bytes)).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

fn jpeg(picture: &Picture, provenance: &Provenance) -> Result<Vec<u8>, ImageError> {
    let failed = |message: String| ImageError::Encode { format: ImageFormat::Jpeg, message };
    let too_large = |_| failed("a side is over 65535 pixels".to_owned());
    let width = u16::try_from(picture.width).map_err(too_large)?;
    let height = u16::try_from(picture.height).map_err(too_large)?;
    let mut plain = Vec::new();
    jpeg_encoder::Encoder::new(&mut plain, JPEG_QUALITY)
        .encode(&picture.to_u8(), width, height, jpeg_encoder::ColorType::Luma)
        .map_err(|error| failed(error.to_string()))?;

    // The encoder writes start-of-image and the JFIF segment first; the comment goes behind them.
    let jfif_length = plain.get(4..6).map_or(0, |pair| usize::from(pair[0]) << 8 | usize::from(pair[1]));
    let behind = if plain.get(2..4) == Some(&[0xff, 0xe0]) { 4 + jfif_length } else { 2 };
    let (head, tail) = plain.split_at_checked(behind).ok_or_else(|| failed("no room for a comment".to_owned()))?;
    let comment = provenance.line();
    let length = u16::try_from(comment.len() + 2).map_err(|_| failed("the comment is too long".to_owned()))?;
    Ok([head, &[0xff, 0xfe], &length.to_be_bytes(), comment.as_bytes(), tail].concat())
}

/// The sides as the formats store them.
pub(super) fn sides(picture: &Picture, format: ImageFormat) -> Result<(u32, u32), ImageError> {
    match (u32::try_from(picture.width), u32::try_from(picture.height)) {
        (Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err(ImageError::Encode { format, message: "a side is too long".to_owned() }),
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
