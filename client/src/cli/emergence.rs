//! The emergence of a picture as an animated GIF, in the 256 grays that a preview has.

use std::borrow::Cow;

use image::{GrayImage, imageops::FilterType};

/// How long each preview stands, in hundredths of a second.
const STEP_DELAY: u16 = 15;
/// How long the finished picture stands.
const FINAL_DELAY: u16 = 200;
/// GIF's label of a comment extension.
const COMMENT: u8 = 0xfe;

/// The frames of one picture so far.
#[derive(Debug, Default)]
pub(crate) struct Emergence {
    frames: Vec<GrayImage>,
}

impl Emergence {
    /// Adds an encoded picture; one that cannot be shown (DICOM) is passed over.
    pub(crate) fn add(&mut self, encoded: &[u8]) {
        if let Ok(picture) = image::load_from_memory(encoded) {
            self.frames.push(picture.to_luma8());
        }
    }

    /// The animation, with a comment in it; the error is in words.
    pub(crate) fn encode(&self, comment: &str) -> Result<Vec<u8>, String> {
        let last = self.frames.last().ok_or("the server sent no previews")?;
        let (width, height) = last.dimensions();
        let side = |side: u32| u16::try_from(side).map_err(|_| format!("{width} x {height} is too large for a GIF"));
        let grays: Vec<u8> = (0..=255).flat_map(|gray| [gray; 3]).collect();
        let failed = |error: gif::EncodingError| error.to_string();
        let mut bytes = Vec::new();
        let mut encoder = gif::Encoder::new(&mut bytes, side(width)?, side(height)?, &grays).map_err(failed)?;
        encoder.set_repeat(gif::Repeat::Infinite).map_err(failed)?;
        let pieces: Vec<&[u8]> = comment.as_bytes().chunks(255).collect();
        encoder.write_raw_extension(gif::AnyExtension(COMMENT), &pieces).map_err(|error| error.to_string())?;
        for (place, picture) in self.frames.iter().enumerate() {
            let pixels = if picture.dimensions() == (width, height) {
                Cow::Borrowed(picture.as_raw().as_slice())
            } else {
                Cow::Owned(image::imageops::resize(picture, width, height, FilterType::Triangle).into_raw())
            };
            let delay = if place + 1 == self.frames.len() { FINAL_DELAY } else { STEP_DELAY };
            let frame = gif::Frame {
                width: side(width)?,
                height: side(height)?,
                delay,
                buffer: pixels,
                ..gif::Frame::default()
            };
            encoder.write_frame(&frame).map_err(failed)?;
        }
        drop(encoder);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::AnimationDecoder;

    use super::*;

    fn png(side: u32, gray: u8) -> Result<Vec<u8>, image::ImageError> {
        let mut bytes = Cursor::new(Vec::new());
        GrayImage::from_pixel(side, side, image::Luma([gray])).write_to(&mut bytes, image::ImageFormat::Png)?;
        Ok(bytes.into_inner())
    }

    #[test]
    fn each_step_is_a_frame_with_its_exact_grays() -> Result<(), Box<dyn std::error::Error>> {
        let mut emergence = Emergence::default();
        emergence.add(&png(4, 10)?);
        emergence.add(b"a DICOM file, say");
        emergence.add(&png(8, 201)?);
        let bytes = emergence.encode("synthetic")?;
        assert!(bytes.windows(9).any(|window| window == b"synthetic"));
        let frames = image::codecs::gif::GifDecoder::new(Cursor::new(bytes))?.into_frames().collect_frames()?;
        let corners: Vec<_> =
            frames.iter().map(|frame| (frame.buffer().dimensions(), frame.buffer().get_pixel(0, 0).0[0])).collect();
        assert_eq!(corners, [((8, 8), 10), ((8, 8), 201)]);
        Ok(())
    }

    #[test]
    fn without_previews_there_is_no_animation() {
        assert_eq!(Emergence::default().encode(""), Err("the server sent no previews".to_owned()));
    }
}
