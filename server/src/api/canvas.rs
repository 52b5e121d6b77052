//! What a generation starts from: a picture or a grid, and which positions of it to make anew.

use raygen_model::image::{DecodeLimits, ImageFormat, Picture};
use raygen_model::random::{Purpose, Randomness};
use raygen_proto::v1;
use raygen_proto::v1::canvas::Source;

use super::errors::{Reason, Violation};
use super::{picture, validate};
use crate::engine::ModelInfo;

/// A pixel of a JPEG mask is white from here on; lossless masks count every pixel that is not black.
const JPEG_WHITE: f32 = 0.5;

/// A canvas that is in order.
#[derive(Debug)]
pub(super) struct Canvas {
    pub(super) source: CanvasSource,
    regenerate: Regenerate,
}

/// A picture still to be encoded, or a grid.
#[derive(Debug)]
pub(super) enum CanvasSource {
    Picture(Picture),
    Grid(Vec<u32>),
}

#[derive(Debug)]
enum Regenerate {
    /// These positions, and any that are undecided.
    Positions(Vec<bool>),
    /// This share, chosen anew for each sample.
    Share(f32),
    /// Only what is undecided.
    Undecided,
}

/// Whether a canvas has a picture that will be decoded.
pub(super) fn holds_picture(canvas: &v1::Canvas) -> bool {
    canvas.mask.is_some() || matches!(canvas.source, Some(Source::Image(_)))
}

/// Checks a canvas. CPU-bound.
pub(super) fn check(canvas: &v1::Canvas, info: &ModelInfo, limits: &DecodeLimits) -> Result<Canvas, Violation> {
    let invalid = |field: &str, description: &str| Violation::new(field, Reason::FieldInvalid, description);
    let source = match &canvas.source {
        None => return Err(invalid("canvas.source", "is missing; send an image or a grid")),
        Some(Source::Image(image)) => {
            CanvasSource::Picture(picture::read_prepared("canvas.image", image, info.image_size, limits)?)
        }
        Some(Source::Grid(grid)) => CanvasSource::Grid(validate::grid("canvas.grid", grid, info, true)?),
    };
    let undecided = matches!(&source, CanvasSource::Grid(ids) if ids.contains(&info.codebook_size));
    let regenerate = match (&canvas.mask, canvas.strength) {
        (Some(_), Some(_)) => {
            return Err(invalid("canvas.strength", "is for canvases without a mask; send one of them"));
        }
        (Some(mask), None) => {
            let positions = positions_of(mask, info, limits)?;
            if !undecided && !positions.contains(&true) {
                return Err(invalid("canvas.mask", "is black everywhere; paint white what is to be made anew"));
            }
            Regenerate::Positions(positions)
        }
        (None, Some(share)) if share > 0.0 && share <= 1.0 => Regenerate::Share(share),
        (None, Some(share)) => {
            let description = format!("is {share}, but must be above 0 and at most 1");
            return Err(Violation::new("canvas.strength", Reason::FieldInvalid, description));
        }
        (None, None) if undecided => Regenerate::Undecided,
        (None, None) => {
            return Err(invalid("canvas", "says nothing of what to make anew; send a mask or a strength"));
        }
    };
    Ok(Canvas { source, regenerate })
}

impl Canvas {
    /// The grid that a sample starts from.
    pub(super) fn start(&self, ids: &[u32], mask_id: u32, seed: u64, sample: u32) -> Vec<u32> {
        let mut start = ids.to_vec();
        match &self.regenerate {
            Regenerate::Undecided => {}
            Regenerate::Positions(positions) => {
                for (id, anew) in start.iter_mut().zip(positions) {
                    if *anew {
                        *id = mask_id;
                    }
                }
            }
            Regenerate::Share(share) => {
                let count = (f64::from(*share) * ids.len() as f64).ceil() as usize;
                for position in chosen(ids.len(), count, seed, sample) {
                    start[position] = mask_id;
                }
            }
        }
        start
    }
}

/// `count` of `positions`, by the seed and the sample.
fn chosen(positions: usize, count: usize, seed: u64, sample: u32) -> Vec<usize> {
    let mut places = Randomness::new(seed, Purpose::EditMask).places(sample, 0);
    let mut drawn: Vec<(f32, usize)> =
        (0..positions).map(|position| (places.draws(position as u32).uniform(), position)).collect();
    drawn.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    drawn.into_iter().take(count).map(|(_, position)| position).collect()
}

/// A mask reduced to the grid: a position is made anew if any pixel of the mask over it is white. Of a mask that is not
/// square the middle counts, as of the picture.
fn positions_of(mask: &v1::Image, info: &ModelInfo, limits: &DecodeLimits) -> Result<Vec<bool>, Violation> {
    let picture = picture::read("canvas.mask", mask, limits)?;
    let jpeg = raygen_model::image::detect(&mask.data) == Some(ImageFormat::Jpeg)
        && mask.format != i32::from(v1::ImageFormat::Raw);
    let white = |value: f32| if jpeg { value >= JPEG_WHITE } else { value > 0.0 };
    let (rows, columns) = (info.grid_height as usize, info.grid_width as usize);
    let side = picture.width.min(picture.height);
    let (left, top) = ((picture.width - side) / 2, (picture.height - side) / 2);
    // At least one pixel for each position, where the mask is smaller than the grid.
    let span = |place: usize, count: usize| {
        let first = place * side / count;
        first..((place + 1) * side).div_ceil(count).max(first + 1).min(side)
    };
    let any_white = |row: usize, column: usize| {
        span(row, rows).any(|y| {
            span(column, columns)
                .any(|x| picture.pixels.get((top + y) * picture.width + left + x).is_some_and(|v| white(*v)))
        })
    };
    Ok((0..rows * columns).map(|position| any_white(position / columns, position % columns)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::StepModel;
    use crate::engine::fake::FakeModel;

    fn raw(width: u32, height: u32, data: Vec<u8>) -> v1::Image {
        v1::Image { format: v1::ImageFormat::Raw.into(), data, width, height, bit_depth: 8 }
    }

    fn grid(ids: Vec<u32>) -> Source {
        Source::Grid(v1::TokenGrid { height: 4, width: 4, token_ids: ids, mask_token_id: 16 })
    }

    fn checked(canvas: &v1::Canvas) -> Result<Canvas, Violation> {
        check(canvas, FakeModel::new().info(), &DecodeLimits::default())
    }

    #[test]
    fn a_mask_of_any_size_is_reduced_to_the_positions_it_touches() {
        let mut large = vec![0; 64];
        large[8 * 7 + 7] = 1;
        let mask = Some(raw(8, 8, large));
        let canvas = checked(&v1::Canvas { source: Some(grid(vec![3; 16])), mask, strength: None }).expect("in order");
        let start = canvas.start(&[3; 16], 16, 0, 0);
        assert_eq!(start.iter().position(|&id| id == 16), Some(15));
        assert_eq!(start.iter().filter(|&&id| id == 16).count(), 1);

        let mask = Some(raw(2, 2, vec![255, 0, 0, 0]));
        let canvas = checked(&v1::Canvas { source: Some(grid(vec![3; 16])), mask, strength: None }).expect("in order");
        let anew: Vec<usize> = (0..16).filter(|&at| canvas.start(&[3; 16], 16, 0, 0)[at] == 16).collect();
        assert_eq!(anew, [0, 1, 4, 5]);
    }

    #[test]
    fn strength_takes_its_share_and_differs_from_sample_to_sample() {
        let canvas = v1::Canvas { source: Some(grid(vec![3; 16])), mask: None, strength: Some(0.5) };
        let canvas = checked(&canvas).expect("in order");
        let first = canvas.start(&[3; 16], 16, 7, 0);
        assert_eq!(first.iter().filter(|&&id| id == 16).count(), 8);
        assert_eq!(first, canvas.start(&[3; 16], 16, 7, 0));
        assert_ne!(first, canvas.start(&[3; 16], 16, 7, 1));
    }

    #[test]
    fn a_canvas_that_does_not_say_what_to_change_is_refused_by_field() {
        let field = |canvas: v1::Canvas| checked(&canvas).expect_err("refused").field;
        let full = || Some(grid(vec![3; 16]));
        assert_eq!(field(v1::Canvas { source: None, mask: None, strength: Some(1.0) }), "canvas.source");
        assert_eq!(field(v1::Canvas { source: full(), mask: None, strength: None }), "canvas");
        for strength in [0.0, -1.0, 1.1, f32::NAN, f32::INFINITY] {
            let canvas = v1::Canvas { source: full(), mask: None, strength: Some(strength) };
            assert_eq!(field(canvas), "canvas.strength");
        }
        let black = Some(raw(4, 4, vec![0; 16]));
        assert_eq!(field(v1::Canvas { source: full(), mask: black, strength: None }), "canvas.mask");
        let both = Some(raw(4, 4, vec![1; 16]));
        assert_eq!(field(v1::Canvas { source: full(), mask: both, strength: Some(0.5) }), "canvas.strength");
    }

    #[test]
    fn undecided_positions_of_a_grid_need_no_mask() {
        let mut ids = vec![3; 16];
        ids[5] = 16;
        let canvas = checked(&v1::Canvas { source: Some(grid(ids.clone())), mask: None, strength: None });
        assert_eq!(canvas.expect("in order").start(&ids, 16, 0, 0), ids);
    }
}
