//! Sheets: pictures laid out in rows and columns with labels, to be looked at by a person.
//!
//! ```
//! use raygen_eval::{GrayImage, sheet::Sheet};
//! # fn main() -> Result<(), raygen_eval::EvalError> {
//! let pixels = vec![0.5_f32; 64 * 64];
//! let picture = GrayImage::new(64, 64, &pixels)?;
//! let mut sheet = Sheet::new(4).title("step 1000").column_labels(["seed 0", "seed 1"]);
//! sheet.row("Pulmonary edema.", &[picture, picture])?;
//! let png = sheet.to_png()?;
//! # assert_eq!(&png[1..4], b"PNG");
//! # Ok(())
//! # }
//! ```

use crate::{
    EvalError, GrayImage,
    font::{self, ADVANCE},
};

/// Space around tiles, in pixels.
const GAP: usize = 4;
/// Height of a line of text, in font pixels.
const LINE: usize = font::HEIGHT + 2;
/// Width of a tile for each pixel of the sheet that a font pixel is wide: the text stays legible where a sheet of large
/// pictures is shown reduced.
const TILE_PER_SCALE: usize = 64;
/// Largest size of a font pixel.
const LARGEST_SCALE: usize = 4;
const BACKGROUND: u8 = 255;
const INK: u8 = 0;

/// Rows of pictures, each row under its own label. Pictures keep their size; a tile is as large as the largest of them, and
/// the text grows with it.
#[derive(Debug, Clone)]
pub struct Sheet {
    columns: usize,
    title: String,
    column_labels: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    label: String,
    tiles: Vec<Raster>,
}

/// A sheet as 8-bit gray pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Row-major, 0 black to 255 white.
    pub pixels: Vec<u8>,
}

impl Sheet {
    /// An empty sheet with so many columns (at least one).
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns: columns.max(1), title: String::new(), column_labels: Vec::new(), rows: Vec::new() }
    }

    /// Text above everything.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// One label above each column; cut where it is wider than the column.
    #[must_use]
    pub fn column_labels<S: Into<String>>(mut self, labels: impl IntoIterator<Item = S>) -> Self {
        self.column_labels = labels.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a row. An empty label takes no space; a long one is broken into lines.
    ///
    /// # Errors
    /// [`EvalError::TooManyColumns`].
    pub fn row(&mut self, label: impl Into<String>, pictures: &[GrayImage<'_>]) -> Result<&mut Self, EvalError> {
        let label = label.into();
        if pictures.len() > self.columns {
            return Err(EvalError::TooManyColumns { row: label, found: pictures.len(), columns: self.columns });
        }
        self.rows.push(Row { label, tiles: pictures.iter().map(Raster::from).collect() });
        Ok(self)
    }

    /// Draws the sheet.
    #[must_use]
    pub fn render(&self) -> Raster {
        let tiles = || self.rows.iter().flat_map(|row| &row.tiles);
        let tile_width = tiles().map(|tile| tile.width).max().unwrap_or(ADVANCE);
        let tile_height = tiles().map(|tile| tile.height).max().unwrap_or(0);
        let scale = (tile_width / TILE_PER_SCALE).clamp(1, LARGEST_SCALE);
        let (advance, line_height) = (ADVANCE * scale, LINE * scale);
        let width = GAP + self.columns * (tile_width + GAP);
        let line_length = ((width - 2 * GAP) / advance).max(1);
        let title = wrapped(&self.title, line_length);
        let labels: Vec<Vec<String>> = self.rows.iter().map(|row| wrapped(&row.label, line_length)).collect();

        let header_lines = title.len() + usize::from(!self.column_labels.is_empty());
        let label_lines: usize = labels.iter().map(Vec::len).sum();
        let height = GAP + (header_lines + label_lines) * line_height + self.rows.len() * (tile_height + GAP);
        let mut raster = Raster { width, height, pixels: vec![BACKGROUND; width * height] };

        let mut y = GAP;
        for line in &title {
            raster.write(GAP, y, line, scale);
            y += line_height;
        }
        if !self.column_labels.is_empty() {
            for (column, label) in self.column_labels.iter().take(self.columns).enumerate() {
                let fits: String = label.chars().take(tile_width / advance).collect();
                raster.write(GAP + column * (tile_width + GAP), y, &fits, scale);
            }
            y += line_height;
        }
        for (row, label) in self.rows.iter().zip(&labels) {
            for line in label {
                raster.write(GAP, y, line, scale);
                y += line_height;
            }
            for (column, tile) in row.tiles.iter().enumerate() {
                raster.draw(GAP + column * (tile_width + GAP), y, tile);
            }
            y += tile_height + GAP;
        }
        raster
    }

    /// Draws the sheet and encodes it.
    ///
    /// # Errors
    /// [`EvalError::Png`] for a sheet without pixels or beyond PNG's limits.
    pub fn to_png(&self) -> Result<Vec<u8>, EvalError> {
        self.render().to_png()
    }
}

impl Raster {
    /// The pixels as an 8-bit gray PNG.
    ///
    /// # Errors
    /// [`EvalError::Png`] for a raster without pixels or beyond PNG's limits.
    pub fn to_png(&self) -> Result<Vec<u8>, EvalError> {
        let side = |side: usize| u32::try_from(side).map_err(|error| EvalError::Png(error.to_string()));
        let failed = |error: png::EncodingError| EvalError::Png(error.to_string());
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    fn draw(&mut self, x: usize, y: usize, tile: &Raster) {
        for (row, pixels) in tile.pixels.chunks_exact(tile.width.max(1)).enumerate() {
            self.pixels[(y + row) * self.width + x..][..tile.width].copy_from_slice(pixels);
        }
    }

    /// Writes a line of text whose top left corner is at (x, y), each font pixel `scale` pixels wide and high; what falls
    /// outside is cut.
    fn write(&mut self, x: usize, y: usize, text: &str, scale: usize) {
        for (place, character) in text.chars().enumerate() {
            for (column, bits) in font::glyph(character).into_iter().enumerate() {
                let x = x + (place * ADVANCE + column) * scale;
                for row in (0..font::HEIGHT).filter(|row| bits >> row & 1 == 1) {
                    self.dot(x, y + row * scale, scale);
                }
            }
        }
    }

    /// A square of ink; what falls outside is cut.
    fn dot(&mut self, x: usize, y: usize, side: usize) {
        let (left, right) = (x.min(self.width), (x + side).min(self.width));
        for y in y.min(self.height)..(y + side).min(self.height) {
            self.pixels[y * self.width..][left..right].fill(INK);
        }
    }
}

impl From<&GrayImage<'_>> for Raster {
    fn from(image: &GrayImage<'_>) -> Self {
        let pixels = image.pixels().iter().map(|pixel| (pixel.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        Self { width: image.width(), height: image.height(), pixels }
    }
}

/// Breaks text at spaces into lines of at most `length` characters; longer words are cut.
fn wrapped(text: &str, length: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let piece: String = word.drain(..word.len().min(length)).collect();
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + piece.chars().count() <= length => {
                    line.push(' ');
                    line.push_str(&piece);
                }
                _ => lines.push(piece),
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_side_by_side_below_their_label() -> Result<(), EvalError> {
        let black = [0.0_f32; 6 * 4];
        let gray = [0.5_f32; 6 * 4];
        let (black, gray) = (GrayImage::new(6, 4, &black)?, GrayImage::new(6, 4, &gray)?);
        let mut sheet = Sheet::new(2);
        sheet.row("", &[black, gray])?.row("ab", &[gray])?;
        let raster = sheet.render();
        assert_eq!((raster.width, raster.height), (GAP + 2 * (6 + GAP), GAP + LINE + 2 * (4 + GAP)));
        let at = |x: usize, y: usize| raster.pixels[y * raster.width + x];
        assert_eq!((at(GAP, GAP), at(GAP + 6 + GAP, GAP)), (0, 128));
        let second_row = GAP + 4 + GAP + LINE;
        assert_eq!((at(GAP, second_row), at(GAP + 6 + GAP, second_row)), (128, BACKGROUND));
        let label = &raster.pixels[(second_row - LINE) * raster.width..second_row * raster.width];
        assert!(label.contains(&INK), "the label left no ink");
        Ok(())
    }

    #[test]
    fn the_png_decodes_to_the_drawn_pixels() -> Result<(), Box<dyn std::error::Error>> {
        let pixels: Vec<f32> = (0..32 * 32).map(|i| i as f32 / 1024.0).collect();
        let mut sheet = Sheet::new(1).title("t").column_labels(["c"]);
        sheet.row("r", &[GrayImage::new(32, 32, &pixels)?])?;
        let bytes = sheet.to_png()?;
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
        let mut decoded = vec![0; reader.output_buffer_size().ok_or("too large")?];
        let info = reader.next_frame(&mut decoded)?;
        let raster = sheet.render();
        assert_eq!((info.width as usize, info.height as usize), (raster.width, raster.height));
        assert_eq!(decoded, raster.pixels);
        Ok(())
    }

    #[test]
    fn the_text_grows_with_the_pictures_and_the_sheet_with_the_text() -> Result<(), EvalError> {
        let pixels = [1.0_f32; 128 * 128];
        let picture = GrayImage::new(128, 128, &pixels)?;
        let mut sheet = Sheet::new(2);
        sheet.row("I", &[picture, picture])?;
        let raster = sheet.render();
        assert_eq!(raster.height, GAP + 2 * LINE + 128 + GAP);
        // All ink is the letter's: a stem of seven font pixels with two serifs of two more each, every one 2 x 2 pixels.
        assert_eq!(raster.pixels.iter().filter(|pixel| **pixel == INK).count(), (7 + 4) * 4);
        Ok(())
    }

    #[test]
    fn long_labels_are_broken_and_none_is_lost() {
        assert_eq!(wrapped("no acute disease seen", 9), ["no acute", "disease", "seen"]);
        assert_eq!(wrapped("cardiomegaly", 5), ["cardi", "omega", "ly"]);
        assert!(wrapped("  ", 5).is_empty());
    }

    #[test]
    fn a_row_wider_than_the_sheet_is_refused_by_name() -> Result<(), EvalError> {
        let pixels = [0.0_f32; 1];
        let picture = GrayImage::new(1, 1, &pixels)?;
        let error = Sheet::new(1).row("edema", &[picture, picture]).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("row \"edema\" holds 2 pictures but the sheet has 1 columns"));
        Ok(())
    }
}
