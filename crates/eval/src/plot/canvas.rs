//! An RGB picture to draw on: text, boxes and smooth lines.

use crate::{
    EvalError,
    font::{self, ADVANCE},
};

/// Height of a line of text in font pixels.
pub(super) const TEXT_HEIGHT: usize = font::HEIGHT;

/// Red, green and blue, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// White.
    pub const WHITE: Self = Self([255, 255, 255]);
    /// Text and axes.
    pub const INK: Self = Self([38, 42, 48]);
    /// Numbers and labels of the axes.
    pub const SOFT_INK: Self = Self([92, 98, 106]);
    /// Behind the curves.
    pub const PAPER: Self = Self([248, 249, 251]);
    /// Grid lines.
    pub const GRID: Self = Self([224, 227, 232]);
    /// The first curve.
    pub const BLUE: Self = Self([31, 104, 190]);
    /// The second curve.
    pub const ORANGE: Self = Self([219, 105, 12]);
    /// The third curve.
    pub const GREEN: Self = Self([30, 132, 73]);
    /// The fourth curve.
    pub const PURPLE: Self = Self([130, 70, 175]);
    /// Marks.
    pub const RED: Self = Self([200, 36, 44]);
    /// Colours that are told apart side by side, also by most who see few colours.
    pub const DISTINCT: [Self; 4] = [Self::BLUE, Self::ORANGE, Self::GREEN, Self::PURPLE];
}

/// An RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

/// A rectangle of pixels that a line may touch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// How much of each pixel of an area a drawing covers, so that what crosses itself is not drawn twice.
pub(super) struct Coverage {
    area: Area,
    shares: Vec<f32>,
}

/// Width of `text` in pixels.
pub(super) fn text_width(text: &str, scale: usize) -> usize {
    (text.chars().count() * ADVANCE).saturating_sub(1) * scale
}

// === impl Canvas ===

impl Canvas {
    /// A picture of one colour.
    pub(super) fn new(width: usize, height: usize, colour: Colour) -> Self {
        Self { width, height, pixels: colour.0.repeat(width * height) }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Red, green and blue of each pixel, row-major.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture as an 8-bit RGB PNG.
    ///
    /// # Errors
    /// [`EvalError::Png`] for a picture beyond PNG's limits.
    pub fn to_png(&self) -> Result<Vec<u8>, EvalError> {
        let side = |side: usize| u32::try_from(side).map_err(|error| EvalError::Png(error.to_string()));
        let failed = |error: png::EncodingError| EvalError::Png(error.to_string());
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, side(self.width)?, side(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }

    /// Fills a box; what falls outside is cut.
    pub(super) fn fill(&mut self, area: Area, colour: Colour) {
        let right = (area.left + area.width).min(self.width);
        for y in area.top..(area.top + area.height).min(self.height) {
            for x in area.left..right {
                self.pixels[3 * (y * self.width + x)..][..3].copy_from_slice(&colour.0);
            }
        }
    }

    /// Writes a line of text whose top left corner is at (x, y), each font pixel `scale` pixels wide and high.
    pub(super) fn text(&mut self, x: usize, y: usize, text: &str, scale: usize, colour: Colour) {
        for (place, character) in text.chars().enumerate() {
            for (column, bits) in font::glyph(character).into_iter().enumerate() {
                for row in (0..font::HEIGHT).filter(|row| bits >> row & 1 == 1) {
                    let (left, top) = (x + (place * ADVANCE + column) * scale, y + row * scale);
                    self.fill(Area { left, top, width: scale, height: scale }, colour);
                }
            }
        }
    }

    /// Paints what is covered, `strength` (0 to 1) of the colour over what is there.
    pub(super) fn paint(&mut self, coverage: &Coverage, colour: Colour, strength: f32) {
        let area = coverage.area;
        for (place, share) in coverage.shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let (x, y) = (area.left + place % area.width, area.top + place / area.width);
            if x >= self.width || y >= self.height {
                continue;
            }
            let share = share * strength;
            for (below, above) in self.pixels[3 * (y * self.width + x)..][..3].iter_mut().zip(colour.0) {
                *below = (f32::from(*below) * (1.0 - share) + f32::from(above) * share).round() as u8;
            }
        }
    }
}

// === impl Coverage ===

impl Coverage {
    /// Nothing of `area` is covered yet.
    pub(super) fn new(area: Area) -> Self {
        Self { area, shares: vec![0.0; area.width * area.height] }
    }

    /// Covers a straight line with round ends from `a` to `b`, in pixels from the area's corner; the rest of it outside is cut.
    pub(super) fn line(&mut self, a: (f32, f32), b: (f32, f32), thickness: f32) {
        let reach = thickness / 2.0 + 0.5;
        // `as` takes what lies left of or above the area to its edge.
        let first = |low: f32| (low - reach).floor() as usize;
        let last = |high: f32, size: usize| ((high + reach).ceil().max(0.0) as usize).min(size);
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let squared = dx * dx + dy * dy;
        for y in first(a.1.min(b.1))..last(a.1.max(b.1), self.area.height) {
            for x in first(a.0.min(b.0))..last(a.0.max(b.0), self.area.width) {
                let (px, py) = (x as f32 + 0.5 - a.0, y as f32 + 0.5 - a.1);
                let along = if squared > 0.0 { ((px * dx + py * dy) / squared).clamp(0.0, 1.0) } else { 0.0 };
                let distance = (px - along * dx).hypot(py - along * dy);
                let share = &mut self.shares[y * self.area.width + x];
                *share = share.max((reach - distance).clamp(0.0, 1.0));
            }
        }
    }
}
