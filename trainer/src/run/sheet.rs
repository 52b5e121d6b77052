//! Sample sheets: pictures side by side in one gray PNG.

use std::fs;
use std::io::{self, BufWriter};
use std::path::Path;

use raygen_model::image::Picture;

/// Pixels between pictures.
const GAP: usize = 2;

/// Writes `pictures` (all of one size), `columns` a row, to `path`.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_sheet(path: &Path, pictures: &[Picture], columns: usize) -> io::Result<()> {
    let Some(first) = pictures.first() else { return Ok(()) };
    let (w, h) = (first.width, first.height);
    let columns = columns.clamp(1, pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (columns * (w + GAP) - GAP, rows * (h + GAP) - GAP);
    let mut sheet = vec![255u8; width * height];
    for (i, picture) in pictures.iter().enumerate() {
        let (x0, y0) = ((i % columns) * (w + GAP), (i / columns) * (h + GAP));
        for (y, row) in picture.pixels.chunks_exact(w).enumerate() {
            for (x, value) in row.iter().enumerate() {
                sheet[(y0 + y) * width + x0 + x] = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            }
        }
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = BufWriter::new(fs::File::create(path)?);
    let mut encoder = png::Encoder::new(file, u32::try_from(width).unwrap_or(0), u32::try_from(height).unwrap_or(0));
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().and_then(|mut w| w.write_image_data(&sheet)).map_err(io::Error::other)
}
