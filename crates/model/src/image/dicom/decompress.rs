//! Compressed pixel data: JPEG and RLE, once the compressed stream is known to be as large as the file says.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dicom_core::value::{PixelFragmentSequence, PrimitiveValue};
use dicom_core::{DataElement, DicomValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use dicom_pixeldata::PixelDecoder;

use crate::image::ImageError;

use super::corrupt;
use super::pixels::Layout;

/// The samples of compressed fragments, in the machine's byte order, colours interleaved.
pub(super) fn decompress(
    fragments: &[&[u8]],
    transfer_syntax: &str,
    photometric: &str,
    layout: &Layout,
) -> Result<Vec<u8>, ImageError> {
    let jpeg = [uids::JPEG_BASELINE8_BIT, uids::JPEG_EXTENDED12_BIT, uids::JPEG_LOSSLESS, uids::JPEG_LOSSLESS_SV1];
    if jpeg.contains(&transfer_syntax) {
        let (rows, columns) = jpeg_sides(&fragments.concat()).ok_or_else(|| corrupt("its JPEG stream has no frame"))?;
        if (rows, columns) != (layout.rows, layout.columns) {
            let Layout { columns: said_columns, rows: said_rows, .. } = layout;
            return Err(corrupt(format!("it says {said_columns} x {said_rows}, its JPEG stream {columns} x {rows}")));
        }
    } else if transfer_syntax != uids::RLE_LOSSLESS {
        let what = format!("compression (transfer syntax {transfer_syntax})");
        return Err(ImageError::DicomUnsupported { what });
    } else if fragments.len() != 1 {
        return Err(corrupt(format!("its RLE frame has {} fragments instead of one", fragments.len())));
    }
    // The decoders index what they have decoded by what the file declares, and panic where the two differ.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(fragments, transfer_syntax, photometric, layout)));
    decoded.unwrap_or_else(|_| Err(corrupt("its compressed pixel data do not fill the frame")))
}

fn decode(
    fragments: &[&[u8]],
    transfer_syntax: &str,
    photometric: &str,
    layout: &Layout,
) -> Result<Vec<u8>, ImageError> {
    // Sides and bit depths came from 16-bit fields.
    let number = |tag: Tag, value: usize| DataElement::new(tag, VR::US, PrimitiveValue::from(value as u16));
    let fragments: Vec<Vec<u8>> = fragments.iter().map(|fragment| fragment.to_vec()).collect();
    let object = InMemDicomObject::from_element_iter([
        DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from(photometric)),
        DataElement::new(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from(uids::SECONDARY_CAPTURE_IMAGE_STORAGE)),
        DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("2.25.1")),
        number(tags::SAMPLES_PER_PIXEL, layout.samples),
        number(tags::PLANAR_CONFIGURATION, 0),
        number(tags::ROWS, layout.rows),
        number(tags::COLUMNS, layout.columns),
        number(tags::BITS_ALLOCATED, layout.bytes * 8),
        number(tags::BITS_STORED, layout.stored_bits as usize),
        number(tags::HIGH_BIT, layout.stored_bits as usize - 1),
        number(tags::PIXEL_REPRESENTATION, usize::from(layout.signed)),
        DataElement::new(
            tags::PIXEL_DATA,
            VR::OB,
            DicomValue::PixelSequence(PixelFragmentSequence::new_fragments(fragments)),
        ),
    ]);
    let meta = FileMetaTableBuilder::new().transfer_syntax(transfer_syntax);
    let object = object.with_meta(meta).map_err(|error| corrupt(error.to_string()))?;
    let decoded = object.decode_pixel_data().map_err(|error| corrupt(report(&error)))?;
    Ok(decoded.into_data())
}

/// Rows and columns from a JPEG stream's start-of-frame segment.
fn jpeg_sides(stream: &[u8]) -> Option<(usize, usize)> {
    let mut at = 2;
    loop {
        let segment = stream.get(at..at + 4)?;
        if segment[0] != 0xff {
            return None;
        }
        let marker = segment[1];
        if marker == 0xff {
            at += 1;
            continue;
        }
        let length = usize::from(u16::from_be_bytes([segment[2], segment[3]]));
        // Every SOF but DHT (C4), JPG (C8) and DAC (CC).
        if (0xc0..=0xcf).contains(&marker) && ![0xc4, 0xc8, 0xcc].contains(&marker) {
            let sides = stream.get(at + 5..at + 9)?;
            let side = |high: u8, low: u8| usize::from(u16::from_be_bytes([high, low]));
            return Some((side(sides[0], sides[1]), side(sides[2], sides[3])));
        }
        at += 2 + length.max(2);
    }
}

/// An error with its causes, which the crate's own message leaves out.
fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
