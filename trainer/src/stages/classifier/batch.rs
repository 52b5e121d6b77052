//! Films as the classifier reads them.

use anyhow::Result;
use candle_core::{Device, Tensor};
use raygen_model::densenet::DenseNetConfig;
use raygen_model::image::Picture;
use rayon::prelude::*;

use super::answers::Answers;
use crate::config::ClassifierConfig;
use crate::data::{FilmOrder, FilmSet, random_mirror, random_shift, shifted};

/// What a step learns from.
pub(super) struct Batch {
    /// [films, channels, side, side].
    pub(super) images: Tensor,
    /// [films, classes].
    pub(super) targets: Tensor,
    /// [films, classes]: 0 where nobody knows.
    pub(super) weights: Tensor,
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
    /// The films of a step, moved, with what they show.
    pub(super) fn to_learn(&self, config: &ClassifierConfig, order: &mut FilmOrder, step: u64) -> Result<Batch> {
        let drawn: Vec<(usize, u64)> = order
            .batch(step, config.batch)
            .into_iter()
            .map(|(place, epoch)| (self.answers.train[place], epoch))
            .collect();
        let moves: Vec<(usize, Move)> = drawn
            .iter()
            .map(|(film, epoch)| {
                let shift = random_shift(self.seed, *film, *epoch, config.shift);
                let mirror = config.flip && random_mirror(self.seed, *film, *epoch);
                (*film, Move { shift, mirror })
            })
            .collect();
        let answers = self.answers.to_learn(drawn.iter().map(|(film, _)| *film));
        self.batch(&moves, answers)
    }

    /// Films as they are, with what they show.
    pub(super) fn to_validate(&self, films: &[usize]) -> Result<Batch> {
        let unmoved: Vec<(usize, Move)> = films.iter().map(|film| (*film, Move::default())).collect();
        self.batch(&unmoved, self.answers.to_validate(films))
    }

    fn batch(&self, films: &[(usize, Move)], (targets, weights): (Vec<f32>, Vec<f32>)) -> Result<Batch> {
        let shape = self.shape;
        let pixels: Vec<Vec<f32>> =
            films.par_iter().map(|(film, by)| pixels(self.films, shape, *film, *by)).collect::<Result<_>>()?;
        let images = (films.len(), shape.in_channels, shape.image_size, shape.image_size);
        let answers = (films.len(), shape.classes.len());
        Ok(Batch {
            images: Tensor::from_vec(pixels.concat(), images, self.device)?,
            targets: Tensor::from_vec(targets, answers, self.device)?,
            weights: Tensor::from_vec(weights, answers, self.device)?,
        })
    }
}

/// A film as the network reads it: moved at the size that the run has it in, then made smaller if it is to be.
fn pixels(films: &FilmSet, shape: &DenseNetConfig, film: usize, by: Move) -> Result<Vec<f32>> {
    let side = films.side;
    let mut square = Vec::with_capacity(side * side);
    shifted(&films.pixels(film)?, side, by.shift, &mut square);
    if by.mirror {
        square.chunks_exact_mut(side).for_each(<[f32]>::reverse);
    }
    // From [-1, 1] to [0, 1].
    square.iter_mut().for_each(|value| *value = (*value + 1.0) * 0.5);
    Ok(shape.pixels(&Picture::new(side, side, square)?)?)
}
