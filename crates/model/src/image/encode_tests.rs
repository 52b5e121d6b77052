use super::*;

fn picture() -> Picture {
    Picture::new(9, 7, (0..63).map(|index| index as f32 / 62.0).collect()).unwrap()
}

fn provenance() -> Provenance {
    Provenance::generated("models/default/versions/1", "Small effusion", 42, 3)
}

#[test]
fn a_png_says_what_it_is_in_its_text_chunks() {
    let bytes = encode(&picture(), ImageFormat::Png, BitDepth::Eight, &provenance()).unwrap();
    let reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
    let texts: Vec<(String, String)> =
        reader.info().utf8_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap())).collect();
    for (keyword, value) in [
        ("Software", "RayGen"),
        ("Description", NOTICE),
        ("Model", "models/default/versions/1"),
        ("Seed", "42"),
        ("Sample", "3"),
    ] {
        assert!(texts.contains(&(keyword.to_owned(), value.to_owned())), "{keyword}: {texts:?}");
    }
    assert_eq!(reader.info().bit_depth, png::BitDepth::Eight);
}

#[test]
fn a_jpeg_carries_a_comment_behind_its_first_segment() {
    let bytes = encode(&picture(), ImageFormat::Jpeg, BitDepth::Eight, &provenance()).unwrap();
    let jfif = 4 + usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    assert_eq!(bytes[jfif..jfif + 2], [0xff, 0xfe]);
    let length = usize::from(u16::from_be_bytes([bytes[jfif + 2], bytes[jfif + 3]]));
    let comment = std::str::from_utf8(&bytes[jfif + 4..jfif + 2 + length]).unwrap();
    assert!(comment.contains(NOTICE) && comment.contains("Seed=42"), "{comment}");
}

#[test]
fn a_dicom_says_that_its_data_are_synthetic() {
    use dicom_dictionary_std::{tags, uids};
    let bytes = encode(&picture(), ImageFormat::Dicom, BitDepth::Eight, &provenance()).unwrap();
    let object = dicom_object::from_reader(&bytes[128..]).unwrap();
    let text = |tag| object.element(tag).unwrap().to_str().unwrap().trim_end_matches(['\0', ' ']).to_owned();
    assert_eq!(text(tags::SYNTHETIC_DATA), "YES");
    assert_eq!(text(tags::IMAGE_TYPE), "DERIVED\\SECONDARY");
    assert_eq!(text(tags::SOP_CLASS_UID), uids::SECONDARY_CAPTURE_IMAGE_STORAGE);
    assert_eq!(text(tags::BURNED_IN_ANNOTATION), "NO");
    assert!(text(tags::SOP_INSTANCE_UID).starts_with("2.25.") && text(tags::SOP_INSTANCE_UID).len() <= 64);
    assert!(text(tags::IMAGE_COMMENTS).contains("Seed=42"));
}

#[test]
fn the_same_picture_is_the_same_dicom_object_and_another_is_not() {
    let write = |provenance| encode(&picture(), ImageFormat::Dicom, BitDepth::Sixteen, &provenance).unwrap();
    assert_eq!(write(provenance()), write(provenance()));
    assert_ne!(write(provenance()), write(Provenance { seed: Some(43), ..provenance() }));
}

#[test]
fn a_pixel_that_is_not_finite_is_an_error() {
    let mut picture = picture();
    picture.pixels[5] = f32::NAN;
    let error = encode(&picture, ImageFormat::Png, BitDepth::Eight, &provenance()).unwrap_err();
    assert_eq!(error, ImageError::NotFinite { index: 5 });
}

#[test]
fn values_outside_the_range_are_clamped() {
    let picture = Picture::new(2, 1, vec![-3.0, 7.0]).unwrap();
    let bytes = encode(&picture, ImageFormat::Raw, BitDepth::Eight, &provenance()).unwrap();
    assert_eq!(bytes, [0, 255]);
}
