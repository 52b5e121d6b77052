//! DICOM Part 10 files: radiographs in, synthetic Secondary Captures out.

mod attributes;
mod decompress;
mod elements;
mod pixels;
mod read;
mod write;

use super::{ImageError, ImageFormat};

pub use attributes::{DicomAttributes, dicom_attributes};
pub(super) use read::read;
pub(super) use write::write;

fn corrupt(message: impl Into<String>) -> ImageError {
    ImageError::Corrupt { format: ImageFormat::Dicom, message: message.into() }
}
