//! Small films for runs in tests.

use std::fs::File;
use std::path::Path;

/// Writes `film-N.png` of 16 px into `folder`, with stripes `film + 1` pixels wide; its name.
pub(super) fn striped_film(folder: &Path, film: u32) -> String {
    let pixels: Vec<u8> =
        (0..256u32).map(|i| if ((i % 16) / (film + 1)).is_multiple_of(2) { 40 } else { 200 }).collect();
    let name = format!("film-{film}.png");
    let mut encoder = png::Encoder::new(File::create(folder.join(&name)).unwrap(), 16, 16);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    name
}
