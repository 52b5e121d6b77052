//! Pictures: decoding what people send, encoding what we made, and preparing films for the tokenizer.

mod decode;
mod dicom;
mod encode;
mod error;
mod picture;
mod prepare;
mod provenance;

pub use decode::{DecodeLimits, RawShape, decode, detect};
pub use dicom::{DicomAttributes, dicom_attributes};
pub use encode::{BitDepth, encode};
pub use error::ImageError;
pub use picture::{ImageFormat, Picture};
pub use prepare::{prepare, shrink};
pub use provenance::{NOTICE, Provenance, impression_digest};
