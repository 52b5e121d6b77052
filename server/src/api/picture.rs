//! Pictures on the wire: reading what clients send within limits, writing what we made.

use raygen_model::image::{
    BitDepth, DecodeLimits, ImageError, ImageFormat, Picture, Provenance, RawShape, decode, encode, prepare,
};
use raygen_proto::v1;

use super::errors::{ApiError, Reason, Violation};

/// The format of a field, or `None` where it is unspecified.
pub(super) fn format(field: &str, value: i32) -> Result<Option<ImageFormat>, Violation> {
    match v1::ImageFormat::try_from(value) {
        Ok(v1::ImageFormat::Unspecified) => Ok(None),
        Ok(v1::ImageFormat::Png) => Ok(Some(ImageFormat::Png)),
        Ok(v1::ImageFormat::Jpeg) => Ok(Some(ImageFormat::Jpeg)),
        Ok(v1::ImageFormat::Raw) => Ok(Some(ImageFormat::Raw)),
        Ok(v1::ImageFormat::Dicom) => Ok(Some(ImageFormat::Dicom)),
        Err(_) => {
            let description =
                format!("{value} is not an image format; there are PNG (1), JPEG (2), RAW (3) and DICOM (4)");
            Err(Violation::new(field, Reason::FieldInvalid, description))
        }
    }
}

/// Decodes a picture that a client sent. CPU-bound: call it off the runtime.
pub(super) fn read(field: &str, image: &v1::Image, limits: &DecodeLimits) -> Result<Picture, Violation> {
    let declared = format(&format!("{field}.format"), image.format)?;
    let raw = RawShape { width: image.width, height: image.height, bit_depth: image.bit_depth };
    decode(&image.data, declared, Some(raw), limits).map_err(|error| refused(field, &error))
}

/// The same, scaled and cropped to the model's size.
pub(super) fn read_prepared(
    field: &str,
    image: &v1::Image,
    side: u32,
    limits: &DecodeLimits,
) -> Result<Picture, Violation> {
    let picture = read(field, image, limits)?;
    prepare(&picture, side as usize).map_err(|error| refused(field, &error))
}

fn refused(field: &str, error: &ImageError) -> Violation {
    let reason = if error.is_too_large() { Reason::ImageTooLarge } else { Reason::ImageInvalid };
    Violation::new(field, reason, error.to_string())
}

/// Encodes a picture that we made. CPU-bound: call it off the runtime.
pub(super) fn write(picture: &Picture, format: ImageFormat, provenance: &Provenance) -> Result<v1::Image, ApiError> {
    let data =
        encode(picture, format, BitDepth::Eight, provenance).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(v1::Image {
        format: match format {
            ImageFormat::Png => v1::ImageFormat::Png,
            ImageFormat::Jpeg => v1::ImageFormat::Jpeg,
            ImageFormat::Raw => v1::ImageFormat::Raw,
            ImageFormat::Dicom => v1::ImageFormat::Dicom,
        }
        .into(),
        data,
        width: u32::try_from(picture.width).unwrap_or(u32::MAX),
        height: u32::try_from(picture.height).unwrap_or(u32::MAX),
        bit_depth: 8,
    })
}
