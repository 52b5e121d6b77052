//! Stored samples to gray: rescale, window, inversion.

use crate::image::decode::luma;
use crate::image::{ImageError, Picture};

use super::corrupt;

/// What the bytes of the pixel data mean.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Samples a pixel: 1 or 3.
    pub(super) samples: usize,
    /// Whether colours come plane by plane.
    pub(super) planar: bool,
    /// Bytes a sample: 1 or 2.
    pub(super) bytes: usize,
    /// Whether a sample of two bytes has its high byte first.
    pub(super) big_endian: bool,
    /// Bits that count, at the low end of a sample.
    pub(super) stored_bits: u32,
    pub(super) signed: bool,
    /// MONOCHROME1: the smallest value is white.
    pub(super) inverted: bool,
    /// Uncompressed YBR: the first sample is luma already.
    pub(super) luma_first: bool,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    pub(super) window: Option<Window>,
}

/// The linear window of values that are shown between black and white.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) centre: f64,
    pub(super) width: f64,
}

/// Gray in [0, 1] of `samples`.
pub(super) fn to_gray(samples: &[u8], layout: &Layout) -> Result<Picture, ImageError> {
    let pixels = layout.rows * layout.columns;
    let expected = pixels * layout.samples * layout.bytes;
    if samples.len() < expected {
        return Err(corrupt(format!("its pixel data has {} bytes, its shape needs {expected}", samples.len())));
    }
    let gray = if layout.samples == 3 {
        (0..pixels).map(|index| colour_to_gray(samples, layout, index, pixels)).collect()
    } else {
        (0..pixels).map(|index| gray_of(stored(samples, layout, index), layout)).collect()
    };
    Picture::new(layout.columns, layout.rows, gray)
}

fn colour_to_gray(samples: &[u8], layout: &Layout, index: usize, pixels: usize) -> f32 {
    let sample = |channel: usize| {
        let place = if layout.planar { channel * pixels + index } else { index * 3 + channel };
        f32::from(samples[place])
    };
    if layout.luma_first { sample(0) / 255.0 } else { luma([sample(0), sample(1), sample(2)], 255.0) }
}

/// The stored value of a sample, with its sign and without the bits that do not count.
fn stored(samples: &[u8], layout: &Layout, index: usize) -> i32 {
    let raw = match layout.bytes {
        1 => u32::from(samples[index]),
        _ if layout.big_endian => u32::from(u16::from_be_bytes([samples[2 * index], samples[2 * index + 1]])),
        _ => u32::from(u16::from_le_bytes([samples[2 * index], samples[2 * index + 1]])),
    };
    let unused = 32 - layout.stored_bits;
    if layout.signed { ((raw << unused) as i32) >> unused } else { ((raw << unused) >> unused) as i32 }
}

fn gray_of(stored: i32, layout: &Layout) -> f32 {
    let value = f64::from(stored) * layout.slope + layout.intercept;
    let gray = match layout.window {
        // DICOM PS3.3 C.11.2.1.2.1, linear.
        Some(Window { centre, width }) if width > 1.0 => (value - (centre - 0.5)) / (width - 1.0) + 0.5,
        Some(Window { centre, .. }) => f64::from(value > centre - 0.5),
        None => {
            let range = f64::from((1u32 << layout.stored_bits) - 1);
            let lowest = if layout.signed { -f64::from(1u32 << (layout.stored_bits - 1)) } else { 0.0 };
            (f64::from(stored) - lowest) / range
        }
    };
    let gray = gray.clamp(0.0, 1.0) as f32;
    if layout.inverted { 1.0 - gray } else { gray }
}
