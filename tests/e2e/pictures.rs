//! Reading what the programs wrote, and films to send.

use std::path::{Path, PathBuf};

use raygen_e2e::{TestResult, repository};
use raygen_proto::v1::Image;

/// A gray picture with pixels in [0, 1].
pub(crate) struct Gray {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<f32>,
}

/// Decodes PNG or JPEG.
pub(crate) fn decode(bytes: &[u8]) -> TestResult<Gray> {
    let picture = image::load_from_memory(bytes)?.to_luma8();
    Ok(gray(&picture))
}

/// A film as the model should see it: shrunk to a square of `side`.
pub(crate) fn film_at(path: &Path, side: u32) -> TestResult<Gray> {
    let film = image::open(path)?.to_luma8();
    Ok(gray(&image::imageops::resize(&film, side, side, image::imageops::FilterType::Triangle)))
}

fn gray(picture: &image::GrayImage) -> Gray {
    Gray {
        width: picture.width() as usize,
        height: picture.height() as usize,
        pixels: picture.as_raw().iter().map(|pixel| f32::from(*pixel) / 255.0).collect(),
    }
}

/// Peak signal-to-noise ratio of two pictures, in dB.
pub(crate) fn psnr(a: &Gray, b: &Gray) -> TestResult<f64> {
    let a = raygen_eval::GrayImage::new(a.width, a.height, &a.pixels)?;
    Ok(raygen_eval::psnr(&a, &raygen_eval::GrayImage::new(b.width, b.height, &b.pixels)?)?)
}

/// Keyword and text of every text chunk of a PNG.
pub(crate) fn png_texts(bytes: &[u8]) -> TestResult<Vec<(String, String)>> {
    let reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let info = reader.info();
    let mut texts: Vec<(String, String)> =
        info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone())).collect();
    for chunk in &info.utf8_text {
        texts.push((chunk.keyword.clone(), chunk.get_text()?));
    }
    Ok(texts)
}

/// Whether bytes hold a sequence.
pub(crate) fn holds(bytes: &[u8], sequence: &[u8]) -> bool {
    bytes.windows(sequence.len()).any(|window| window == sequence)
}

/// The first validation films of the committed collection, with their impressions.
pub(crate) fn films(count: usize) -> TestResult<Vec<(PathBuf, String)>> {
    let table = std::fs::read_to_string(repository("data/nih-256/manifest.csv"))?;
    let films: Vec<(PathBuf, String)> = (table.lines().skip(1))
        .filter_map(|line| {
            let (path, rest) = line.split_once(',')?;
            let rest = rest.strip_prefix("val,")?;
            let (_view, impression) = rest.split_once(',')?.1.split_once(',')?;
            let impression = match impression.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?.0,
                None => impression.split_once(',')?.0,
            };
            Some((repository("data/nih-256").join(path), impression.to_owned()))
        })
        .take(count)
        .collect();
    if films.len() == count { Ok(films) } else { Err(format!("{} films instead of {count}", films.len()).into()) }
}

/// A film as the wire takes it; the server finds out its format.
pub(crate) fn as_image(path: &Path) -> TestResult<Image> {
    Ok(Image { data: std::fs::read(path)?, ..Image::default() })
}
