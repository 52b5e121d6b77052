use super::*;
use crate::image::{BitDepth, Provenance, encode};

fn gradient(width: usize, height: usize) -> Picture {
    let pixels = (0..width * height).map(|index| index as f32 / (width * height - 1) as f32).collect();
    Picture::new(width, height, pixels).unwrap()
}

fn encoded(format: ImageFormat, depth: BitDepth) -> Vec<u8> {
    encode(&gradient(20, 10), format, depth, &Provenance::decoded("models/m/versions/1")).unwrap()
}

fn read(bytes: &[u8]) -> Result<Picture, ImageError> {
    decode(bytes, None, None, &DecodeLimits::default())
}

fn largest_difference(a: &Picture, b: &Picture) -> f32 {
    assert_eq!((a.width, a.height), (b.width, b.height));
    a.pixels.iter().zip(&b.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn what_we_encode_decodes_to_the_same_picture() {
    for (format, depth, tolerance) in [
        (ImageFormat::Png, BitDepth::Eight, 0.002),
        (ImageFormat::Png, BitDepth::Sixteen, 1e-5),
        (ImageFormat::Dicom, BitDepth::Eight, 0.002),
        (ImageFormat::Dicom, BitDepth::Sixteen, 1e-5),
        (ImageFormat::Jpeg, BitDepth::Eight, 0.06),
    ] {
        let picture = read(&encoded(format, depth)).unwrap();
        let difference = largest_difference(&picture, &gradient(20, 10));
        assert!(difference <= tolerance, "{format} {depth:?}: {difference}");
    }
}

#[test]
fn raw_needs_its_shape_and_exactly_its_bytes() {
    let limits = DecodeLimits::default();
    let bytes = encoded(ImageFormat::Raw, BitDepth::Sixteen);
    let shape = RawShape { width: 20, height: 10, bit_depth: 16 };
    let picture = decode(&bytes, Some(ImageFormat::Raw), Some(shape), &limits).unwrap();
    assert!(largest_difference(&picture, &gradient(20, 10)) < 1e-5);

    let shorter = decode(&bytes[1..], Some(ImageFormat::Raw), Some(shape), &limits);
    assert_eq!(shorter, Err(ImageError::RawLengthMismatch { expected: 400, found: 399 }));
    let no_shape = decode(&bytes, Some(ImageFormat::Raw), None, &limits);
    assert_eq!(no_shape, Err(ImageError::RawShape { width: 0, height: 0, bit_depth: 0 }));
    let huge = RawShape { width: u32::MAX, height: u32::MAX, bit_depth: 16 };
    assert!(decode(&bytes, Some(ImageFormat::Raw), Some(huge), &limits).unwrap_err().is_too_large());
}

#[test]
fn a_declared_format_that_disagrees_is_an_error_naming_both() {
    let png = encoded(ImageFormat::Png, BitDepth::Eight);
    let error = decode(&png, Some(ImageFormat::Jpeg), None, &DecodeLimits::default()).unwrap_err();
    assert_eq!(error, ImageError::FormatMismatch { declared: ImageFormat::Jpeg, found: ImageFormat::Png });
    assert!(error.to_string().contains("JPEG") && error.to_string().contains("PNG"));
}

#[test]
fn bytes_that_are_no_picture_are_refused() {
    assert_eq!(read(b""), Err(ImageError::Empty));
    assert_eq!(read(b"GIF89a not read"), Err(ImageError::UnknownFormat));
    assert_eq!(read(&[0; 4096]), Err(ImageError::UnknownFormat));
    let declared = decode(b"hello", Some(ImageFormat::Dicom), None, &DecodeLimits::default());
    assert!(matches!(declared, Err(ImageError::Corrupt { format: ImageFormat::Dicom, .. })));
}

#[test]
fn pictures_cut_short_are_refused_in_every_format() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Dicom] {
        let bytes = encoded(format, BitDepth::Eight);
        for length in [9, bytes.len() / 4, bytes.len() / 2, bytes.len() - 30] {
            assert!(read(&bytes[..length]).is_err(), "{format} cut to {length} of {}", bytes.len());
        }
    }
}

#[test]
fn a_header_that_asks_for_too_much_is_refused_before_any_allocation() {
    // A PNG that says 60000 x 60000 in a hundred bytes.
    let mut png = encoded(ImageFormat::Png, BitDepth::Eight);
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let error = read(&png).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { width: 60_000, height: 60_000, .. }), "{error}");
}

#[test]
fn limits_apply_to_bytes_sides_and_area() {
    let png = encoded(ImageFormat::Png, BitDepth::Eight);
    let with = |limits| decode(&png, None, None, &limits);
    let limits = DecodeLimits::default();
    assert!(matches!(with(DecodeLimits { max_bytes: 50, ..limits }), Err(ImageError::TooManyBytes { limit: 50, .. })));
    assert!(matches!(with(DecodeLimits { max_side: 19, ..limits }), Err(ImageError::TooLarge { width: 20, .. })));
    assert!(matches!(with(DecodeLimits { max_pixels: 199, ..limits }), Err(ImageError::TooLarge { .. })));
    assert!(with(DecodeLimits { max_side: 20, max_pixels: 200, ..limits }).is_ok());
}

#[test]
fn the_largest_picture_is_4096_by_4096() {
    let limits = DecodeLimits::default();
    assert_eq!(limits.check_dimensions(4096, 4096), Ok(()));
    for (width, height) in [(4096, 4097), (8192, 4096), (8193, 1)] {
        assert!(limits.check_dimensions(width, height).unwrap_err().is_too_large(), "{width} x {height}");
    }
}

#[test]
fn colour_of_8_and_16_bits_with_and_without_alpha_has_the_same_luma() {
    let image = DynamicImage::ImageRgba16(::image::ImageBuffer::from_fn(3, 1, |x, _| {
        ::image::Rgba(
            [[65_535, 0, 0, 9], [257, 257 * 2, 257 * 3, 0], [257 * 77, 257 * 77, 257 * 77, 65_535]][x as usize],
        )
    }));
    let expected = [0.299, (0.299 + 0.587 * 2.0 + 0.114 * 3.0) / 255.0, 77.0 / 255.0];
    for image in [
        DynamicImage::ImageRgba8(image.to_rgba8()),
        DynamicImage::ImageRgb16(image.to_rgb16()),
        DynamicImage::ImageRgb8(image.to_rgb8()),
        image,
    ] {
        let mut png = Cursor::new(Vec::new());
        image.write_to(&mut png, ::image::ImageFormat::Png).unwrap();
        let picture = read(png.get_ref()).unwrap();
        for (found, expected) in picture.pixels.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{:?}: {found} is not {expected}", image.color());
        }
    }
}

#[test]
fn colour_becomes_luma_and_gray_in_colour_stays_what_it_was() {
    let mut colour = ::image::RgbImage::new(2, 1);
    colour.put_pixel(0, 0, ::image::Rgb([255, 0, 0]));
    colour.put_pixel(1, 0, ::image::Rgb([77, 77, 77]));
    let mut png = Cursor::new(Vec::new());
    colour.write_to(&mut png, ::image::ImageFormat::Png).unwrap();
    let picture = read(png.get_ref()).unwrap();
    assert!((picture.pixels[0] - 0.299).abs() < 1e-6);
    assert_eq!(picture.pixels[1], 77.0 / 255.0);
}

#[test]
fn no_prefix_or_flipped_byte_panics() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Dicom] {
        let bytes = encoded(format, BitDepth::Eight);
        for place in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0xa5;
            // Anything but a panic: some damage is not noticeable.
            if let Ok(picture) = read(&damaged) {
                assert_eq!(picture.pixels.len(), picture.width * picture.height);
            }
        }
    }
}

/// CRC-32 of a PNG chunk, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
