//! Reading a single-frame DICOM radiograph.

use std::borrow::Cow;

use dicom_dictionary_std::tags;

use crate::image::{DecodeLimits, ImageError, Picture};

use super::decompress::decompress;
use super::elements::{Elements, Pixels};
use super::pixels::{Layout, Window, to_gray};

/// Reads a DICOM file as a gray picture: window applied where the file has one, MONOCHROME1 inverted.
pub(in crate::image) fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Picture, ImageError> {
    let elements = Elements::of_file(bytes)?;
    let Some(pixels) = &elements.pixels else {
        return Err(ImageError::DicomWithoutPixels);
    };
    let frames = elements.decimal(tags::NUMBER_OF_FRAMES).unwrap_or(1.0);
    if frames > 1.0 {
        return Err(ImageError::DicomMultiFrame { frames: frames as u32 });
    }
    let rows = elements.unsigned(tags::ROWS).unwrap_or(0);
    let columns = elements.unsigned(tags::COLUMNS).unwrap_or(0);
    limits.check_dimensions(u64::from(columns), u64::from(rows))?;

    let photometric = elements.text(tags::PHOTOMETRIC_INTERPRETATION).unwrap_or("MONOCHROME2");
    let layout = layout(&elements, photometric, usize::from(rows), usize::from(columns))?;
    let samples = match pixels {
        Pixels::Native(bytes) => Cow::Borrowed(*bytes),
        Pixels::Fragments(fragments) => {
            Cow::Owned(decompress(fragments, &elements.transfer_syntax, photometric, &layout)?)
        }
    };
    to_gray(&samples, &layout)
}

fn layout(elements: &Elements<'_>, photometric: &str, rows: usize, columns: usize) -> Result<Layout, ImageError> {
    let samples = elements.unsigned(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
    let allocated = elements.unsigned(tags::BITS_ALLOCATED).unwrap_or(8);
    let stored = elements.unsigned(tags::BITS_STORED).unwrap_or(allocated);
    let native = matches!(elements.pixels, Some(Pixels::Native(_)));
    let known = match (photometric, samples) {
        ("MONOCHROME1" | "MONOCHROME2", 1) => true,
        ("RGB" | "YBR_FULL", 3) => allocated == 8,
        // Two pixels share their colour; only decoders unfold that.
        ("YBR_FULL_422", 3) => allocated == 8 && !native,
        _ => false,
    };
    if !known || !(allocated == 8 || allocated == 16) || stored == 0 || stored > allocated {
        let what = format!("{photometric} with {samples} samples of {stored} in {allocated} bits");
        return Err(ImageError::DicomUnsupported { what });
    }
    let window = match (elements.decimal(tags::WINDOW_CENTER), elements.decimal(tags::WINDOW_WIDTH)) {
        (Some(centre), Some(width)) if width >= 1.0 => Some(Window { centre, width }),
        _ => None,
    };
    Ok(Layout {
        rows,
        columns,
        samples: usize::from(samples),
        // Decoders interleave what they decode, and give RGB.
        planar: native && elements.unsigned(tags::PLANAR_CONFIGURATION) == Some(1),
        luma_first: native && photometric == "YBR_FULL",
        bytes: usize::from(allocated) / 8,
        big_endian: native && elements.big_endian,
        stored_bits: u32::from(stored),
        signed: elements.unsigned(tags::PIXEL_REPRESENTATION) == Some(1),
        inverted: photometric == "MONOCHROME1",
        slope: elements.decimal(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0).unwrap_or(1.0),
        intercept: elements.decimal(tags::RESCALE_INTERCEPT).unwrap_or(0.0),
        window,
    })
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
