//! What a DICOM file says of a film beside its pixels.

use dicom_dictionary_std::tags;

use crate::image::ImageError;

use super::elements::Elements;

/// Attributes of a film; `None` where the file does not have one, or has it blank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DicomAttributes {
    /// Patient ID (0010,0020) as its bytes, which need not be UTF-8; without padding.
    pub patient_id: Option<Vec<u8>>,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: Option<String>,
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: Option<String>,
    /// View Position (0018,5101): AP, PA, LL, RL and others.
    pub view_position: Option<String>,
    /// Burned In Annotation (0028,0301): YES where words that may tell who the patient is are part of the picture, else NO.
    pub burned_in_annotation: Option<String>,
}

/// Reads the attributes of a DICOM file.
///
/// # Errors
/// The bytes are no DICOM file, or are cut short.
pub fn dicom_attributes(bytes: &[u8]) -> Result<DicomAttributes, ImageError> {
    let elements = Elements::of_file(bytes)?;
    let text = |tag| elements.text(tag).filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(DicomAttributes {
        patient_id: elements.raw(tags::PATIENT_ID).filter(|id| !id.is_empty()).map(<[u8]>::to_vec),
        study_instance_uid: text(tags::STUDY_INSTANCE_UID),
        sop_instance_uid: text(tags::SOP_INSTANCE_UID),
        view_position: text(tags::VIEW_POSITION),
        burned_in_annotation: text(tags::BURNED_IN_ANNOTATION),
    })
}
