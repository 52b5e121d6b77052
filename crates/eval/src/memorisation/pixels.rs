//! Nearest films by their pixels: small pictures, brightness and contrast taken out, moved a little.
//!
//! Films are reduced to 64 x 64 pixels. The distance is the root mean square difference of 29 x 29 pixels with mean 0 and
//! variance 1, smoothed from those, the least over the 25 ways to lay them within the 64 x 64: 0 for a copy, 1.4 for
//! pictures with nothing in common. It claims to catch copies whatever their brightness and contrast, with noise, blur,
//! compression or loss of detail, and moved by up to 1/32 of a side. It does not claim to catch mirrored, turned, rescaled or
//! cropped copies.

use crate::GrayImage;
use crate::products::Rows;

use super::{MemorisationError, Nearest, all_found, least};

/// Side of the small picture.
const SIDE: usize = 64;
/// How far a picture is moved each way.
const SHIFT: usize = 2;
/// Ways to move it along one side.
const MOVES: usize = 2 * SHIFT + 1;
/// Weights by which pixels are smoothed and every second is taken.
const TAPS: [f64; 4] = [0.125, 0.375, 0.375, 0.125];
/// Side of what is compared: coarser than what is moved, so that a move by a fraction of a pixel matters little.
const CORE: usize = (SIDE - 2 * SHIFT - TAPS.len()) / 2 + 1;

/// Small pictures of films: 16 KiB each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Thumbnails {
    /// SIDE x SIDE a film.
    pixels: Vec<f32>,
}

impl Thumbnails {
    /// Of these films, whatever their sizes.
    #[must_use]
    pub fn new(films: &[GrayImage<'_>]) -> Self {
        let mut thumbnails = Self::default();
        films.iter().for_each(|film| thumbnails.push(film));
        thumbnails
    }

    /// Adds a film: for callers that read one at a time.
    pub fn push(&mut self, film: &GrayImage<'_>) {
        let columns = Shares::new(film.width());
        let rows = Shares::new(film.height());
        for row in &rows.0 {
            let mut line = vec![0f64; film.width()];
            for &(y, share) in row {
                let pixels = &film.pixels()[y * film.width()..][..film.width()];
                line.iter_mut().zip(pixels).for_each(|(sum, pixel)| *sum += share * f64::from(*pixel));
            }
            let averaged = columns.0.iter().map(|column| column.iter().map(|&(x, share)| share * line[x]).sum::<f64>());
            self.pixels.extend(averaged.map(|value| value as f32));
        }
    }

    /// Films.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pixels.len() / (SIDE * SIDE)
    }

    /// The part of each film that begins at (x, y), with mean 0 and length 1; a blank one is 0.
    fn cores(&self, x: usize, y: usize) -> Vec<f32> {
        let mut cores = Vec::with_capacity(self.count() * CORE * CORE);
        for film in self.pixels.chunks_exact(SIDE * SIDE) {
            let block = |place: usize| -> f64 {
                let (row, column) = (y + 2 * (place / CORE), x + 2 * (place % CORE));
                let line = |(down, weight): (usize, &f64)| {
                    let pixels = film[(row + down) * SIDE + column..].iter().zip(TAPS);
                    weight * pixels.map(|(pixel, weight)| f64::from(*pixel) * weight).sum::<f64>()
                };
                TAPS.iter().enumerate().map(line).sum()
            };
            let core: Vec<f64> = (0..CORE * CORE).map(block).collect();
            let mean = core.iter().sum::<f64>() / core.len() as f64;
            let length = core.iter().map(|pixel| (pixel - mean).powi(2)).sum::<f64>().sqrt();
            // Rounding is no contrast.
            let scale = if length > 1e-4 { 1.0 / length } else { 0.0 };
            cores.extend(core.iter().map(|pixel| ((pixel - mean) * scale) as f32));
        }
        cores
    }
}

/// Which pixels of a side, and how much of each, make up each of SIDE parts of it.
struct Shares(Vec<Vec<(usize, f64)>>);

impl Shares {
    fn new(length: usize) -> Self {
        let step = length as f64 / SIDE as f64;
        let part = |part: usize| {
            let (start, end) = (part as f64 * step, (part + 1) as f64 * step);
            let places = (start.floor() as usize)..(end.ceil() as usize).min(length);
            let share = |place: usize| (end.min((place + 1) as f64) - start.max(place as f64)) / step;
            places.map(|place| (place, share(place))).filter(|(_, share)| *share > 0.0).collect()
        };
        Self((0..SIDE).map(part).collect())
    }
}

/// The nearest of `training` for each of `films`, among those that `allowed(film, training film)` lets it be held against:
/// all for generated films, those of other patients for real ones.
///
/// # Errors
/// [`MemorisationError::NoCandidate`].
pub fn nearest_pixels<A>(
    films: &Thumbnails,
    training: &Thumbnails,
    allowed: A,
) -> Result<Vec<Nearest>, MemorisationError>
where
    A: Fn(usize, usize) -> bool + Sync,
{
    let centre = training.cores(SHIFT, SHIFT);
    let others = Rows::new(&centre, CORE * CORE);
    let mut found: Vec<Option<Nearest>> = vec![None; films.count()];
    for place in 0..MOVES * MOVES {
        let cores = films.cores(place % MOVES, place / MOVES);
        let moved = Rows::new(&cores, CORE * CORE).map_squared_distances(&others, |film, distances| {
            // Of unit vectors; as root mean square of pixels with variance 1 it is the same number.
            least(distances.iter().map(|squared| squared.sqrt()), |other| allowed(film, other))
        });
        for (best, moved) in found.iter_mut().zip(moved) {
            let nearer = match (&best, &moved) {
                (Some(best), Some(moved)) => moved.distance < best.distance,
                _ => true,
            };
            if nearer {
                *best = moved;
            }
        }
    }
    all_found(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EvalError;

    fn waves(width: usize, height: usize, seed: f32, dx: f32) -> Vec<f32> {
        let value = |place: usize| {
            let (x, y) = ((place % width) as f32 / width as f32 + dx, (place / width) as f32 / height as f32);
            0.5 + 0.2 * (x * 9.0 * seed).sin() + 0.2 * (y * 7.0 + seed).cos() * (x * 5.0).sin()
        };
        (0..width * height).map(value).collect()
    }

    #[test]
    fn a_copy_is_near_whatever_its_size_brightness_and_contrast_and_if_moved_a_little() -> Result<(), EvalError> {
        let training: Vec<Vec<f32>> = (1..6).map(|seed| waves(256, 256, seed as f32, 0.0)).collect();
        let views: Vec<GrayImage<'_>> =
            training.iter().map(|pixels| GrayImage::new(256, 256, pixels)).collect::<Result<_, _>>()?;
        let training = Thumbnails::new(&views);
        let dark: Vec<f32> = waves(300, 200, 3.0, 0.0).iter().map(|pixel| 0.1 + 0.3 * pixel).collect();
        let moved = waves(256, 256, 4.0, 1.0 / 32.0);
        let queries = Thumbnails::new(&[GrayImage::new(300, 200, &dark)?, GrayImage::new(256, 256, &moved)?, views[4]]);
        let nearest =
            nearest_pixels(&queries, &training, |_, _| true).map_err(|error| EvalError::Png(error.to_string()))?;
        assert_eq!(nearest.iter().map(|nearest| nearest.index).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(nearest[0].distance < 0.05 && nearest[1].distance < 0.05 && nearest[2].distance < 1e-3, "{nearest:?}");
        // The film itself left out, the next is far.
        let other = nearest_pixels(&queries, &training, |film, other| other != film + 2);
        assert!(other.is_ok_and(|others| others.iter().all(|nearest| nearest.distance > 0.3)));
        assert_eq!(
            nearest_pixels(&queries, &training, |film, _| film != 1),
            Err(MemorisationError::NoCandidate { query: 1 })
        );
        Ok(())
    }

    #[test]
    fn a_blank_film_is_a_copy_of_none() -> Result<(), EvalError> {
        let (blank, waves) = (vec![0.3; 4096], waves(64, 64, 2.0, 0.0));
        let (blank, waves) = (GrayImage::new(64, 64, &blank)?, GrayImage::new(64, 64, &waves)?);
        let nearest = nearest_pixels(&Thumbnails::new(&[blank]), &Thumbnails::new(&[waves]), |_, _| true);
        assert!(nearest.is_ok_and(|nearest| (nearest[0].distance - 1.0).abs() < 1e-3));
        Ok(())
    }
}
