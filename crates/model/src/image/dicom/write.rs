//! Writing a generated picture as a Secondary Capture that says it is synthetic.

use dicom_core::smallvec::SmallVec;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};
use sha2::{Digest, Sha256};

use crate::image::encode::{samples, sides};
use crate::image::{BitDepth, ImageError, ImageFormat, NOTICE, Picture, Provenance};

/// Encodes a picture. Identifiers follow from the provenance and the pixels, so the same picture is the same object.
pub(in crate::image) fn write(
    picture: &Picture,
    depth: BitDepth,
    provenance: &Provenance,
) -> Result<Vec<u8>, ImageError> {
    let (width, height) = sides(picture, ImageFormat::Dicom)?;
    let side = |value: u32| u16::try_from(value).map_err(|_| failed(&"a side is over 65535 pixels"));
    let (columns, rows) = (side(width)?, side(height)?);
    let bits: u16 = match depth {
        BitDepth::Eight => 8,
        BitDepth::Sixteen => 16,
    };
    let mut pixel_data = samples(picture, depth, u16::to_le_bytes);
    // Values have an even length.
    if !pixel_data.len().is_multiple_of(2) {
        pixel_data.push(0);
    }
    let line = provenance.line();
    let study = uid(&["study", &provenance.model, provenance.impression_digest.as_deref().unwrap_or(""), &line]);
    let series = uid(&["series", &study]);
    let mut instance = Sha256::new();
    instance.update(line.as_bytes());
    instance.update(&pixel_data);
    let instance = uid_of(&instance.finalize());

    let mut object = InMemDicomObject::from_element_iter([
        string(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"),
        strings(tags::IMAGE_TYPE, VR::CS, &["DERIVED", "SECONDARY"]),
        string(tags::SOP_CLASS_UID, VR::UI, uids::SECONDARY_CAPTURE_IMAGE_STORAGE),
        string(tags::SOP_INSTANCE_UID, VR::UI, &instance),
        string(tags::SYNTHETIC_DATA, VR::CS, "YES"),
        string(tags::STUDY_DATE, VR::DA, ""),
        string(tags::STUDY_TIME, VR::TM, ""),
        string(tags::ACCESSION_NUMBER, VR::SH, ""),
        string(tags::MODALITY, VR::CS, "OT"),
        string(tags::CONVERSION_TYPE, VR::CS, "SYN"),
        string(tags::MANUFACTURER, VR::LO, "RayGen"),
        string(tags::REFERRING_PHYSICIAN_NAME, VR::PN, ""),
        string(tags::SERIES_DESCRIPTION, VR::LO, NOTICE),
        string(tags::DERIVATION_DESCRIPTION, VR::ST, &line),
        string(tags::PATIENT_NAME, VR::PN, "SYNTHETIC"),
        string(tags::PATIENT_ID, VR::LO, ""),
        string(tags::PATIENT_BIRTH_DATE, VR::DA, ""),
        string(tags::PATIENT_SEX, VR::CS, ""),
        string(tags::BODY_PART_EXAMINED, VR::CS, "CHEST"),
        string(tags::STUDY_INSTANCE_UID, VR::UI, &study),
        string(tags::SERIES_INSTANCE_UID, VR::UI, &series),
        string(tags::STUDY_ID, VR::SH, ""),
        string(tags::SERIES_NUMBER, VR::IS, ""),
        string(tags::INSTANCE_NUMBER, VR::IS, &provenance.sample.map_or(String::new(), |sample| sample.to_string())),
        string(tags::PATIENT_ORIENTATION, VR::CS, ""),
        string(tags::IMAGE_COMMENTS, VR::LT, &line),
        string(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        number(tags::SAMPLES_PER_PIXEL, 1),
        number(tags::ROWS, rows),
        number(tags::COLUMNS, columns),
        number(tags::BITS_ALLOCATED, bits),
        number(tags::BITS_STORED, bits),
        number(tags::HIGH_BIT, bits - 1),
        number(tags::PIXEL_REPRESENTATION, 0),
        string(tags::BURNED_IN_ANNOTATION, VR::CS, "NO"),
    ]);
    let (vr, value) = match depth {
        BitDepth::Eight => (VR::OB, PrimitiveValue::U8(SmallVec::from_vec(pixel_data))),
        BitDepth::Sixteen => (VR::OW, PrimitiveValue::U16(SmallVec::from_vec(picture.to_u16()))),
    };
    object.put(DataElement::new(tags::PIXEL_DATA, vr, value));

    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(uid(&["implementation", "raygen"]))
        .implementation_version_name("RAYGEN");
    let mut bytes = Vec::new();
    object.with_meta(meta).map_err(|error| failed(&error))?.write_all(&mut bytes).map_err(|error| failed(&error))?;
    Ok(bytes)
}

fn string(tag: Tag, vr: VR, value: &str) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

fn strings(tag: Tag, vr: VR, values: &[&str]) -> DataElement<InMemDicomObject> {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    DataElement::new(tag, vr, PrimitiveValue::Strs(values))
}

fn number(tag: Tag, value: u16) -> DataElement<InMemDicomObject> {
    DataElement::new(tag, VR::US, PrimitiveValue::from(value))
}

/// A UID under 2.25, the root for UUIDs, from a digest.
fn uid(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    uid_of(&digest.finalize())
}

fn uid_of(digest: &[u8]) -> String {
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    // Version 8 (custom) and the RFC 9562 variant make it a well-formed UUID.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    format!("2.25.{}", u128::from_be_bytes(bytes))
}

fn failed(message: &dyn std::fmt::Display) -> ImageError {
    ImageError::Encode { format: ImageFormat::Dicom, message: message.to_string() }
}
