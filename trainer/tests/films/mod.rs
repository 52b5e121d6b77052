//! Small films for runs in tests.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::fs::File;
use std::path::Path;

/// Writes `film-N.png` of 16 px into `folder`, with stripes `film + 1` pixels wide; its name.
pub(super) fn striped_film(folder: &Path, film: u32) -> String {
    let name = format!("film-{film}.png");
    write_film(folder, &name, 16, |x, _| if (x / (film + 1)).is_multiple_of(2) { 40 } else { 200 });
    name
}

/// Writes a film of `side` px into `folder`, its pixels by column and row.
pub(super) fn write_film(folder: &Path, name: &str, side: u32, pixel: impl Fn(u32, u32) -> u8) {
    let pixels: Vec<u8> = (0..side * side).map(|place| pixel(place % side, place / side)).collect();
    let mut encoder = png::Encoder::new(File::create(folder.join(name)).unwrap(), side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
}
