//! Bytes that are no picture, or a picture too far, over the wire.

use raygen_e2e::{Refused, Server, TestResult};
use raygen_proto::v1::{EncodeRequest, Image, ImageFormat, encode_request};
use tonic::Code;

use crate::pictures::{as_image, films};

/// CRC-32 as PNG chunks carry it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A PNG that says it is this large and holds next to nothing.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for chunk in [header, b"IDAT\x78\x9c\x03\x00\x00\x00\x00\x01".to_vec(), b"IEND".to_vec()] {
        bytes.extend(u32::try_from(chunk.len() - 4).unwrap_or_default().to_be_bytes());
        bytes.extend(&chunk);
        bytes.extend(crc(&chunk).to_be_bytes());
    }
    bytes
}

/// A Part 10 file with a transfer syntax and not a pixel.
fn dicom_without_pixels() -> Vec<u8> {
    let mut bytes = vec![0; 128];
    bytes.extend(b"DICM");
    bytes.extend(b"\x02\x00\x00\x00UL\x04\x00\x1c\x00\x00\x00");
    bytes.extend(b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0");
    bytes
}

#[tokio::test]
async fn what_is_no_picture_is_refused_and_what_is_too_large_is_said_to_be() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let (path, _) = films(1)?.remove(0);
    let jpeg = as_image(&path)?.data;
    let mut png = std::io::Cursor::new(Vec::new());
    image::open(&path)?.to_luma8().write_to(&mut png, image::ImageFormat::Png)?;
    let png = png.into_inner();
    let image = |format: ImageFormat, data: Vec<u8>| Image { format: format.into(), data, ..Image::default() };
    let raw = |data: Vec<u8>, width, height, bit_depth| Image {
        format: ImageFormat::Raw.into(),
        data,
        width,
        height,
        bit_depth,
    };
    let auto = ImageFormat::Unspecified;
    let cases = [
        ("no bytes", image(auto, Vec::new()), "IMAGE_INVALID", "image"),
        ("text", image(auto, b"this is no film".to_vec()), "IMAGE_INVALID", "image"),
        ("the first half of a PNG", image(auto, png[..png.len() / 2].to_vec()), "IMAGE_INVALID", "image"),
        ("the signature of a PNG", image(auto, png[..8].to_vec()), "IMAGE_INVALID", "image"),
        ("the beginning of a JPEG", image(auto, jpeg[..200].to_vec()), "IMAGE_INVALID", "image"),
        ("a JPEG that is called PNG", image(ImageFormat::Png, jpeg.clone()), "IMAGE_INVALID", "image"),
        ("a PNG bomb", image(auto, png_bomb(60_000, 60_000)), "IMAGE_TOO_LARGE", "image"),
        ("a longer PNG bomb", image(auto, png_bomb(0x7fff_ffff, 0x7fff_ffff)), "IMAGE_TOO_LARGE", "image"),
        ("a PNG without pixels", image(auto, png_bomb(64, 64)), "IMAGE_INVALID", "image"),
        ("a DICOM file without pixels", image(auto, dicom_without_pixels()), "IMAGE_INVALID", "image"),
        ("RAW without a shape", raw(vec![0; 64], 0, 0, 0), "IMAGE_INVALID", "image"),
        ("RAW of another length", raw(vec![0; 63], 8, 8, 8), "IMAGE_INVALID", "image"),
        ("RAW of 12 bits", raw(vec![0; 64], 8, 8, 12), "IMAGE_INVALID", "image"),
        ("RAW whose size overflows", raw(vec![0; 64], u32::MAX, u32::MAX, 16), "IMAGE_TOO_LARGE", "image"),
        (
            "a format that nobody knows",
            Image { format: 99, data: png.clone(), ..Image::default() },
            "FIELD_INVALID",
            "image.format",
        ),
    ];
    for (name, image, reason, field) in cases {
        let input = Some(encode_request::Input::Image(image));
        let outcome = wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await;
        let Err(status) = outcome else { return Err(format!("{name} was accepted").into()) };
        let refused = Refused::from(&status);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, reason), "{name}: {refused:?}");
        assert_eq!(refused.fields, [field], "{name}");
    }
    let outcome = wire.encode(EncodeRequest::default()).await;
    let refused = outcome.err().map(|status| Refused::from(&status)).ok_or("nothing was accepted")?;
    assert_eq!((refused.reason.as_str(), refused.fields), ("FIELD_INVALID", vec!["input".to_owned()]));

    // A single pixel is a picture, and so is what was cut above when it is whole.
    for data in [png, jpeg] {
        let input = Some(encode_request::Input::Image(image(auto, data)));
        wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await?;
    }
    let input = Some(encode_request::Input::Image(raw(vec![128], 1, 1, 8)));
    wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await?;
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_connection_lives() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let data = vec![0; 40 << 20];
    let input = Some(encode_request::Input::Image(Image { data, ..Image::default() }));
    let outcome = wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await;
    let code = outcome.err().map(|status| status.code());
    assert!(matches!(code, Some(Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument)), "{code:?}");
    wire.model().await?;
    Ok(())
}
