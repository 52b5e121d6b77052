//! Preparing a film for the tokenizer: the shortest side to the model's, then the middle; and making a film smaller.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use super::{ImageError, Picture};

/// The largest centred square of `picture`, resized to `side` x `side`: what "shortest side to `side`, then centre crop"
/// gives, without ever holding the part that is cut away. Bilinear, antialiased where it shrinks.
///
/// # Errors
/// `side` is zero or too long, or the picture is not as large as its sides say.
pub fn prepare(picture: &Picture, side: usize) -> Result<Picture, ImageError> {
    if picture.width == side && picture.height == side && side > 0 {
        return Ok(picture.clone());
    }
    if side == 0 || picture.pixels.is_empty() {
        return Err(ImageError::Empty);
    }
    resized(picture, side, side, &ResizeOptions::new().fit_into_destination(Some((0.5, 0.5))))
}

/// `picture` with its shorter side at `side` pixels, all of it kept; one that is smaller is left alone. Bilinear,
/// antialiased.
///
/// # Errors
/// `side` is zero, or the picture is not as large as its sides say.
pub fn shrink(picture: &Picture, side: usize) -> Result<Picture, ImageError> {
    let shorter = picture.width.min(picture.height);
    if side == 0 || picture.pixels.is_empty() {
        return Err(ImageError::Empty);
    }
    if shorter <= side {
        return Ok(picture.clone());
    }
    let scaled = |length: usize| (length as f64 * side as f64 / shorter as f64).round() as usize;
    resized(picture, scaled(picture.width), scaled(picture.height), &ResizeOptions::new())
}

fn resized(picture: &Picture, width: usize, height: usize, options: &ResizeOptions) -> Result<Picture, ImageError> {
    let length = |value: usize| u32::try_from(value).map_err(|error| failed(&error));
    let pixels: Vec<F32> = picture.pixels.iter().map(|&value| F32::new(value)).collect();
    let source =
        TypedImageRef::new(length(picture.width)?, length(picture.height)?, &pixels).map_err(|error| failed(&error))?;
    let mut target = TypedImage::<F32>::new(length(width)?, length(height)?);
    let options = options.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| failed(&error))?;
    Picture::new(width, height, target.pixels().iter().map(|pixel| pixel.0.clamp(0.0, 1.0)).collect())
}

fn failed(message: &dyn std::fmt::Display) -> ImageError {
    ImageError::Resize(message.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Picture {
        let pixels = (0..width * height).map(|index| value(index % width, index / width)).collect();
        Picture::new(width, height, pixels).unwrap()
    }

    #[test]
    fn a_picture_of_the_right_size_is_left_alone() {
        let picture = of(8, 8, |x, y| (x * y) as f32 / 64.0);
        assert_eq!(prepare(&picture, 8).unwrap(), picture);
    }

    #[test]
    fn the_middle_of_a_wide_picture_is_kept() {
        // Black, but for a white middle as wide as the picture is high.
        let picture = of(30, 10, |x, _| if (10..20).contains(&x) { 1.0 } else { 0.0 });
        let prepared = prepare(&picture, 5).unwrap();
        assert_eq!((prepared.width, prepared.height), (5, 5));
        assert!(prepared.pixels[12] > 0.999);
        assert!(prepared.pixels.iter().all(|&value| value > 0.8), "{:?}", prepared.pixels);
    }

    #[test]
    fn a_film_made_smaller_keeps_its_shape_and_a_small_one_its_pixels() {
        let picture = of(30, 10, |x, _| if x < 15 { 0.0 } else { 1.0 });
        let smaller = shrink(&picture, 5).unwrap();
        assert_eq!((smaller.width, smaller.height), (15, 5));
        assert!(smaller.pixels[0] < 0.01 && smaller.pixels[14] > 0.99);
        assert_eq!(shrink(&picture, 10).unwrap(), picture);
        assert!(shrink(&picture, 0).is_err());
    }

    #[test]
    fn shrinking_averages_instead_of_picking() {
        let checkers = of(64, 64, |x, y| ((x + y) % 2) as f32);
        let prepared = prepare(&checkers, 8).unwrap();
        assert!(prepared.pixels.iter().all(|value| (value - 0.5).abs() < 0.05));
    }

    #[test]
    fn extreme_shapes_do_not_blow_up() {
        for (width, height) in [(1, 8192), (8192, 1), (1, 1)] {
            let prepared = prepare(&of(width, height, |_, _| 0.25), 64).unwrap();
            assert_eq!(prepared.pixels.len(), 64 * 64);
            assert!(prepared.pixels.iter().all(|value| (value - 0.25).abs() < 1e-5));
        }
    }
}
