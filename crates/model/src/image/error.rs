//! What can be wrong with a picture.

use super::ImageFormat;

/// A picture that cannot be read or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ImageError {
    /// No bytes, or no pixels.
    #[error("the image is empty")]
    Empty,
    /// More bytes than are read.
    #[error("the image has {found} bytes, more than the limit of {limit}")]
    TooManyBytes {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes start like none of the formats.
    #[error("the image is neither PNG, JPEG nor DICOM; RAW has to be declared, with width, height and bit depth")]
    UnknownFormat,
    /// The bytes are another format than declared.
    #[error("the image was declared as {declared}, but its bytes are {found}")]
    FormatMismatch {
        /// What the caller said.
        declared: ImageFormat,
        /// What it is.
        found: ImageFormat,
    },
    /// A side or the area is over the limits.
    #[error("the image is {width} x {height} pixels; at most {limit} a side and {max_pixels} in all are read")]
    TooLarge {
        /// Columns.
        width: u64,
        /// Rows.
        height: u64,
        /// Pixels allowed a side.
        limit: u32,
        /// Pixels allowed in all.
        max_pixels: u64,
    },
    /// The bytes end early or make no sense.
    #[error("the {format} image is damaged or cut short: {message}")]
    Corrupt {
        /// The format.
        format: ImageFormat,
        /// What the decoder says.
        message: String,
    },
    /// RAW without its shape.
    #[error("a RAW image needs width, height and bit_depth (8 or 16); got {width} x {height} at {bit_depth} bits")]
    RawShape {
        /// Columns declared.
        width: u32,
        /// Rows declared.
        height: u32,
        /// Bits declared.
        bit_depth: u32,
    },
    /// RAW of another length than its shape says.
    #[error("the RAW image has {found} bytes, but its shape needs {expected}")]
    RawLengthMismatch {
        /// Bytes that the shape needs.
        expected: u64,
        /// Bytes given.
        found: u64,
    },
    /// A DICOM object that is no picture.
    #[error("the DICOM file has no pixel data")]
    DicomWithoutPixels,
    /// A DICOM series in one file.
    #[error("the DICOM file has {frames} frames; send one frame")]
    DicomMultiFrame {
        /// Frames in the file.
        frames: u32,
    },
    /// A compression or pixel layout that is not read.
    #[error("the DICOM file's {what} is not supported; convert it to uncompressed gray first")]
    DicomUnsupported {
        /// Transfer syntax, photometric interpretation or bit depth.
        what: String,
    },
    /// Not as many pixels as the sides say.
    #[error("a picture of {width} x {height} was given {found} pixels")]
    PixelCount {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Pixels that the sides need; none if that overflows.
        expected: Option<usize>,
        /// Pixels given.
        found: usize,
    },
    /// A pixel is NaN or infinite.
    #[error("pixel {index} is not finite")]
    NotFinite {
        /// Its place in row-major order.
        index: usize,
    },
    /// The encoder failed.
    #[error("the picture cannot be written as {format}: {message}")]
    Encode {
        /// The format.
        format: ImageFormat,
        /// What the encoder says.
        message: String,
    },
    /// Resizing failed.
    #[error("the picture cannot be resized: {0}")]
    Resize(String),
}

impl ImageError {
    /// Whether the picture is refused for its size alone.
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooManyBytes { .. } | Self::TooLarge { .. })
    }
}
