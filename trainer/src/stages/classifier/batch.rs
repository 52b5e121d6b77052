//! Films as the classifier reads them.

use anyhow::Result;
use candle_core::{Device, Tensor};
use raygen_model::densenet::DenseNetConfig;
use raygen_model::image::Picture;
use rayon::prelude::*;

use super::answers::Answers;
use crate::config::ClassifierConfig;
use crate::data::{Ahead, FilmError, FilmOrder, FilmSet, random_mirror, random_shift, shifted};

/// What a step learns from.
pub(super) struct Batch {
    /// [films, channels, side, side].
    pub(super) images: Tensor,
    /// [films, classes].
    pub(super) targets: Tensor,
    /// [films, classes]: 0 where nobody knows.
    pub(super) weights: Tensor,
}

/// Films of a step, moved.
pub(super) struct Drawn {
    films: Vec<usize>,
    /// One after another, as the network reads them.
    pixels: Vec<f32>,
}

/// How a film is moved before it is seen.
#[derive(Clone, Copy, Default)]
struct Move {
    shift: (isize, isize),
    mirror: bool,
}

/// Where the films of a run come from.
pub(super) struct Films<'a> {
    pub(super) seed: u64,
    pub(super) films: &'a FilmSet,
    pub(super) answers: &'a Answers,
    pub(super) shape: &'a DenseNetConfig,
    pub(super) device: &'a Device,
}

impl Films<'_> {
    /// Loads and moves the films of the steps from `step` on, ahead of them: those of the rank at `place`.
    pub(super) fn ahead(&self, config: &ClassifierConfig, step: u64, place: (usize, usize)) -> Result<Ahead<Drawn>> {
        let (seed, batch, largest_shift, flip) = (self.seed, config.batch, config.shift, config.flip);
        let (train, films, side) = (self.answers.train.clone(), self.films.shared_pixels(), self.films.side);
        let shape = self.shape.clone();
        let mut order = FilmOrder::new(seed, train.len());
        Ok(Ahead::new(step, config.steps, move |step| {
            let drawn: Vec<(usize, u64)> =
                order.batch_of(step, batch, place).into_iter().map(|(film, epoch)| (train[film], epoch)).collect();
            let moved = drawn.par_iter().map(|(film, epoch)| {
                let shift = random_shift(seed, *film, *epoch, largest_shift);
                let by = Move { shift, mirror: flip && random_mirror(seed, *film, *epoch) };
                pixels(&films.film(*film)?, side, &shape, by)
            });
            let pixels = moved.collect::<Result<Vec<_>, FilmError>>()?.concat();
            Ok(Drawn { films: drawn.into_iter().map(|(film, _)| film).collect(), pixels })
        })?)
    }

    /// The films of a step, moved, with what they show.
    pub(super) fn to_learn(&self, drawn: Drawn) -> Result<Batch> {
        let answers = self.answers.to_learn(drawn.films.iter().copied());
        self.batch(drawn.films.len(), drawn.pixels, answers)
    }

    /// Films as they are, with what they show.
    pub(super) fn to_validate(&self, films: &[usize]) -> Result<Batch> {
        let unmoved = films
            .par_iter()
            .map(|film| pixels(&self.films.pixels(*film)?, self.films.side, self.shape, Move::default()));
        let pixels = unmoved.collect::<Result<Vec<_>, FilmError>>()?.concat();
        self.batch(films.len(), pixels, self.answers.to_validate(films))
    }

    fn batch(&self, count: usize, pixels: Vec<f32>, (targets, weights): (Vec<f32>, Vec<f32>)) -> Result<Batch> {
        let shape = self.shape;
        let images = (count, shape.in_channels, shape.image_size, shape.image_size);
        let answers = (count, shape.classes.len());
        Ok(Batch {
            images: Tensor::from_vec(pixels, images, self.device)?,
            targets: Tensor::from_vec(targets, answers, self.device)?,
            weights: Tensor::from_vec(weights, answers, self.device)?,
        })
    }
}

/// A film as the network reads it: moved at the size that the run has it in, then made smaller if it is to be.
fn pixels(film: &[u8], side: usize, shape: &DenseNetConfig, by: Move) -> Result<Vec<f32>, FilmError> {
    let mut square = Vec::with_capacity(side * side);
    shifted(film, side, by.shift, &mut square);
    if by.mirror {
        square.chunks_exact_mut(side).for_each(<[f32]>::reverse);
    }
    // From [-1, 1] to [0, 1].
    square.iter_mut().for_each(|value| *value = (*value + 1.0) * 0.5);
    Ok(shape.pixels(&Picture::new(side, side, square)?)?)
}
