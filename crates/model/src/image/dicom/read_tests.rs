use dicom_core::smallvec::SmallVec;
use dicom_core::value::{DataSetSequence, PixelFragmentSequence, PrimitiveValue};
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::uids;
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

use super::*;

/// A 4 x 2 radiograph of 12 bits in 16 with the values 0, 100, .. 700.
fn film() -> InMemDicomObject {
    let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let pixels: Vec<u16> = (0..8).map(|index| index * 100).collect();
    InMemDicomObject::from_element_iter([
        DataElement::new(tags::SOP_CLASS_UID, VR::UI, PrimitiveValue::from("1.2.840.10008.5.1.4.1.1.1.1")),
        DataElement::new(tags::SOP_INSTANCE_UID, VR::UI, PrimitiveValue::from("2.25.1")),
        DataElement::new(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, PrimitiveValue::from("MONOCHROME2")),
        number(tags::SAMPLES_PER_PIXEL, 1),
        number(tags::ROWS, 2),
        number(tags::COLUMNS, 4),
        number(tags::BITS_ALLOCATED, 16),
        number(tags::BITS_STORED, 12),
        number(tags::HIGH_BIT, 11),
        number(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(SmallVec::from_vec(pixels))),
    ])
}

fn with_text(mut object: InMemDicomObject, tag: Tag, vr: VR, value: &str) -> InMemDicomObject {
    object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    object
}

fn bytes_of(object: InMemDicomObject, transfer_syntax: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let meta = FileMetaTableBuilder::new().transfer_syntax(transfer_syntax);
    object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
    bytes
}

fn decode(object: InMemDicomObject) -> Result<Picture, ImageError> {
    read(&bytes_of(object, uids::EXPLICIT_VR_LITTLE_ENDIAN), &DecodeLimits::default())
}

#[test]
fn twelve_bit_values_are_scaled_by_the_bits_stored() {
    let picture = decode(film()).unwrap();
    assert_eq!((picture.width, picture.height), (4, 2));
    assert!((picture.pixels[7] - 700.0 / 4095.0).abs() < 1e-6);
}

#[test]
fn monochrome1_is_inverted() {
    let picture = decode(with_text(film(), tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1")).unwrap();
    assert_eq!(picture.pixels[0], 1.0);
    assert!(picture.pixels[7] < picture.pixels[0]);
}

#[test]
fn the_window_decides_what_is_black_and_white() {
    let object = with_text(film(), tags::WINDOW_CENTER, VR::DS, "350");
    let picture = decode(with_text(object, tags::WINDOW_WIDTH, VR::DS, "201")).unwrap();
    assert_eq!(picture.pixels[..3], [0.0, 0.0, 0.0]);
    assert_eq!(picture.pixels[5..], [1.0, 1.0, 1.0]);
    assert!((picture.pixels[3] + picture.pixels[4] - 1.0).abs() < 0.02);
}

#[test]
fn every_uncompressed_byte_order_reads_the_same() {
    let expected = decode(film()).unwrap();
    for transfer_syntax in [uids::IMPLICIT_VR_LITTLE_ENDIAN, "1.2.840.10008.1.2.2"] {
        let bytes = bytes_of(film(), transfer_syntax);
        assert_eq!(read(&bytes, &DecodeLimits::default()).unwrap(), expected, "{transfer_syntax}");
    }
}

#[test]
fn a_file_without_preamble_is_read() {
    let bytes = bytes_of(film(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let limits = DecodeLimits::default();
    let picture = crate::image::decode(&bytes[128..], None, None, &limits).unwrap();
    assert_eq!(picture, decode(film()).unwrap());
}

#[test]
fn files_that_are_not_one_gray_frame_are_refused_by_reason() {
    let mut without = film();
    without.remove_element(tags::PIXEL_DATA);
    assert_eq!(decode(without), Err(ImageError::DicomWithoutPixels));
    let many = with_text(film(), tags::NUMBER_OF_FRAMES, VR::IS, "12");
    assert_eq!(decode(many), Err(ImageError::DicomMultiFrame { frames: 12 }));
    let palette = with_text(film(), tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "PALETTE COLOR");
    assert!(matches!(decode(palette), Err(ImageError::DicomUnsupported { .. })));
}

#[test]
fn more_rows_than_pixels_and_more_pixels_than_allowed_are_refused() {
    let mut tall = film();
    tall.put(DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(3u16)));
    assert!(matches!(decode(tall), Err(ImageError::Corrupt { .. })));
    let mut huge = film();
    huge.put(DataElement::new(tags::ROWS, VR::US, PrimitiveValue::from(60_000u16)));
    assert!(matches!(decode(huge), Err(ImageError::TooLarge { height: 60_000, .. })));
}

fn compressed(fragment: Vec<u8>) -> InMemDicomObject {
    let mut object = film();
    object.put(DataElement::new(tags::BITS_ALLOCATED, VR::US, PrimitiveValue::from(8u16)));
    object.put(DataElement::new(tags::BITS_STORED, VR::US, PrimitiveValue::from(8u16)));
    let sequence = PixelFragmentSequence::new_fragments(vec![fragment]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, dicom_core::DicomValue::PixelSequence(sequence)));
    object
}

fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let mut stream = Vec::new();
    let pixels = vec![128; usize::from(width) * usize::from(height)];
    let encoder = jpeg_encoder::Encoder::new(&mut stream, 90);
    encoder.encode(&pixels, width, height, jpeg_encoder::ColorType::Luma).unwrap();
    if stream.len() % 2 == 1 {
        stream.push(0);
    }
    stream
}

#[test]
fn jpeg_inside_dicom_is_decoded_if_its_own_sides_agree() {
    let limits = DecodeLimits::default();
    let good = read(&bytes_of(compressed(jpeg(4, 2)), uids::JPEG_BASELINE8_BIT), &limits).unwrap();
    assert!(good.pixels.iter().all(|value| (value - 128.0 / 255.0).abs() < 0.01));
    let liar = read(&bytes_of(compressed(jpeg(400, 200)), uids::JPEG_BASELINE8_BIT), &limits);
    assert!(matches!(liar, Err(ImageError::Corrupt { .. })), "{liar:?}");
}

#[test]
fn a_damaged_compressed_frame_is_an_error_and_no_panic() {
    let limits = DecodeLimits::default();
    for transfer_syntax in [uids::JPEG_BASELINE8_BIT, uids::RLE_LOSSLESS] {
        let bytes = bytes_of(compressed(vec![1, 0, 0, 0, 64, 0, 0, 0, 255, 216]), transfer_syntax);
        assert!(matches!(read(&bytes, &limits), Err(ImageError::Corrupt { .. })));
    }
    let bytes = bytes_of(compressed(jpeg(4, 2)), "1.2.840.10008.1.2.4.90");
    assert!(matches!(read(&bytes, &limits), Err(ImageError::DicomUnsupported { .. })));
}

#[test]
fn sequences_may_nest_as_deeply_as_the_file_is_long() {
    let expected = decode(film()).unwrap();
    for depth in [1, 200, 300_000] {
        assert_eq!(read(&nested(depth), &DecodeLimits::default()).unwrap(), expected, "{depth}");
    }
}

#[test]
fn an_element_that_declares_more_than_there_is_is_refused_by_tag() {
    let mut bytes = bytes_of(film(), uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let at = bytes.windows(6).position(|window| window == [0xe0, 0x7f, 0x10, 0x00, b'O', b'W']).unwrap();
    bytes[at + 8..at + 12].copy_from_slice(&0xffff_fffe_u32.to_le_bytes());
    let error = read(&bytes, &DecodeLimits::default()).unwrap_err();
    assert!(error.to_string().contains("4294967294 bytes, 16 are left"), "{error}");
}

#[test]
fn a_deflated_file_is_not_unpacked() {
    let mut bytes = bytes_of(compressed(jpeg(4, 2)), "1.2.840.10008.1.2.4.90");
    let at = bytes.windows(22).position(|window| window == b"1.2.840.10008.1.2.4.90").unwrap();
    bytes[at..at + 22].copy_from_slice(b"1.2.840.10008.1.2.1.99");
    let error = read(&bytes, &DecodeLimits::default()).unwrap_err();
    assert!(matches!(error, ImageError::DicomUnsupported { .. }), "{error}");
}

/// The film, with `depth` sequences inside each other before its pixels.
fn nested(depth: usize) -> Vec<u8> {
    let tag = Tag(0x0008, 0x1140);
    let mut object = film();
    object.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(vec![InMemDicomObject::new_empty()])));
    let bytes = bytes_of(object, uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let header = [0x08, 0x00, 0x40, 0x11, b'S', b'Q', 0, 0];
    let start = bytes.windows(8).position(|window| window == header).unwrap();
    // The written sequence: 12 bytes of header, one empty item (with or without delimiters) up to the next element.
    let next = bytes.windows(6).position(|window| window == [0x28, 0x00, 0x02, 0x00, b'U', b'S']).unwrap();
    let mut opened = Vec::new();
    for _ in 0..depth {
        opened.extend(header);
        opened.extend([0xff; 4]);
        opened.extend([0xfe, 0xff, 0x00, 0xe0, 0xff, 0xff, 0xff, 0xff]);
    }
    let mut closed = Vec::new();
    for _ in 0..depth {
        closed.extend([0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0, 0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
    }
    [&bytes[..start], &opened, &closed, &bytes[next..]].concat()
}

#[test]
fn attributes_are_read_and_blank_ones_are_none() {
    let object = with_text(film(), tags::PATIENT_ID, VR::LO, "MRN 7 ");
    let object = with_text(object, tags::VIEW_POSITION, VR::CS, "  ");
    let object = with_text(object, tags::BURNED_IN_ANNOTATION, VR::CS, "YES");
    let bytes = bytes_of(object, uids::IMPLICIT_VR_LITTLE_ENDIAN);
    let attributes = crate::image::dicom_attributes(&bytes).unwrap();
    assert_eq!(attributes.patient_id.as_deref(), Some(b"MRN 7".as_slice()));
    assert_eq!(attributes.sop_instance_uid.as_deref(), Some("2.25.1"));
    assert_eq!(attributes.burned_in_annotation.as_deref(), Some("YES"));
    assert_eq!((attributes.view_position, attributes.study_instance_uid), (None, None));
    assert!(crate::image::dicom_attributes(b"not DICOM").is_err());
}
