//! How alike the pictures of one prompt are, by MS-SSIM, under the two protocols that published numbers follow.
//!
//! | protocol | pictures a prompt | pairs | each picture |
//! |---|---|---|---|
//! | [`MsSsimProtocol::Published`] (RayGen's code) | 2, of two runs | 1 | divided by its own maximum |
//! | [`MsSsimProtocol::FourSamples`] (RoentGen) | 4 | 6 | as it is |
//!
//! The two differ by far on the same pictures and do not compare. Neither can be read alone: films of different patients are
//! alike too, and [`real_baseline`] says how much. (RoentGen's own code takes the similarity of the coarsest scale only
//! where the window lies inside; here both protocols use torchmetrics' windows, see [`crate::ms_ssim`].)

use std::collections::HashSet;
use std::hash::Hash;

use rayon::prelude::*;

use crate::statistics::{Bootstrap, Interval, Units, shuffle, stream};
use crate::{EvalError, GrayImage, ms_ssim};

/// How pictures of a prompt are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MsSsimProtocol {
    /// Two pictures a prompt, each divided by its own maximum.
    Published,
    /// Four pictures a prompt, all six pairs, as they are.
    FourSamples,
}

/// MS-SSIM of a set: lower is more varied.
#[derive(Debug, Clone, PartialEq)]
pub struct SetSimilarity {
    /// Mean over the prompts.
    pub mean: f64,
    /// Bootstrap interval over the prompts.
    pub interval: Option<Interval>,
    /// What it was measured by; see [`MsSsimProtocol::name`].
    pub protocol: String,
    /// Mean over the pairs of each prompt; for a baseline, the value of each pair.
    pub per_prompt: Vec<f64>,
}

// === impl MsSsimProtocol ===

impl MsSsimProtocol {
    /// Pictures of each prompt.
    #[must_use]
    pub fn pictures(self) -> usize {
        match self {
            Self::Published => 2,
            Self::FourSamples => 4,
        }
    }

    /// The protocol in words, for a [`crate::Measurement`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Published => "MS-SSIM, one pair a prompt, each picture divided by its maximum",
            Self::FourSamples => "MS-SSIM, four pictures and six pairs a prompt, pictures as they are",
        }
    }

    /// The same for films of different patients.
    #[must_use]
    pub fn baseline_name(self) -> &'static str {
        match self {
            Self::Published => "MS-SSIM, pairs of real films of different patients, each divided by its maximum",
            Self::FourSamples => "MS-SSIM, pairs of real films of different patients, as they are",
        }
    }

    /// Mean over the pairs of one prompt's pictures: for callers that hold only one prompt at a time.
    ///
    /// # Errors
    /// [`EvalError::PicturesPerPrompt`], and what [`ms_ssim`] refuses.
    pub fn of_prompt(self, pictures: &[GrayImage<'_>]) -> Result<f64, EvalError> {
        if pictures.len() != self.pictures() {
            let (protocol, needed) = (self.name(), self.pictures());
            return Err(EvalError::PicturesPerPrompt { protocol, needed, found: pictures.len() });
        }
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (place, first) in pictures.iter().enumerate() {
            for second in &pictures[place + 1..] {
                sum += self.of_pair(first, second)?;
                pairs += 1.0;
            }
        }
        Ok(sum / pairs)
    }

    fn of_pair(self, first: &GrayImage<'_>, second: &GrayImage<'_>) -> Result<f64, EvalError> {
        if self == Self::FourSamples {
            return ms_ssim(first, second);
        }
        let (one, other) = (over_own_maximum(first), over_own_maximum(second));
        let first = GrayImage::new(first.width(), first.height(), &one)?;
        ms_ssim(&first, &GrayImage::new(second.width(), second.height(), &other)?)
    }
}

/// A black picture stays black (the published code makes it not a number).
fn over_own_maximum(picture: &GrayImage<'_>) -> Vec<f32> {
    let largest = picture.pixels().iter().fold(0f32, |largest, pixel| largest.max(*pixel));
    let divisor = if largest > 0.0 { largest } else { 1.0 };
    picture.pixels().iter().map(|pixel| pixel / divisor).collect()
}

// === impl SetSimilarity ===

impl SetSimilarity {
    /// From the values of each prompt ([`MsSsimProtocol::of_prompt`]); `protocol` is its name.
    ///
    /// # Errors
    /// No prompt, or values that are no numbers.
    pub fn new(protocol: &str, per_prompt: Vec<f64>, bootstrap: &Bootstrap) -> Result<Self, EvalError> {
        let (mean, interval) = bootstrap.mean(&per_prompt, &Units::items(per_prompt.len()))?;
        Ok(Self { mean, interval, protocol: protocol.to_owned(), per_prompt })
    }
}

/// MS-SSIM of the pictures of each of `prompts`.
///
/// # Errors
/// As [`MsSsimProtocol::of_prompt`]; no prompt.
pub fn set_similarity(
    prompts: &[Vec<GrayImage<'_>>],
    protocol: MsSsimProtocol,
    bootstrap: &Bootstrap,
) -> Result<SetSimilarity, EvalError> {
    let per_prompt: Vec<f64> =
        prompts.par_iter().map(|pictures| protocol.of_prompt(pictures)).collect::<Result<_, EvalError>>()?;
    SetSimilarity::new(protocol.name(), per_prompt, bootstrap)
}

/// MS-SSIM of `pairs` pairs of real films of different patients, compared as `protocol` does; drawn under `seed`. Up to half
/// as many pairs as films, no film is in two, and the interval is over independent pairs.
///
/// # Errors
/// [`EvalError::TooFewPairs`], and what [`ms_ssim`] refuses; patients of another number than films.
pub fn real_baseline<P: Eq + Hash>(
    films: &[GrayImage<'_>],
    patients: &[P],
    protocol: MsSsimProtocol,
    pairs: usize,
    seed: u64,
    bootstrap: &Bootstrap,
) -> Result<SetSimilarity, EvalError> {
    Units::groups(patients).check(films.len())?;
    let drawn = pairs_of_different_patients(patients, pairs, seed)?;
    let values: Vec<f64> = drawn
        .par_iter()
        .map(|(first, second)| protocol.of_pair(&films[*first], &films[*second]))
        .collect::<Result<_, EvalError>>()?;
    SetSimilarity::new(protocol.baseline_name(), values, bootstrap)
}

/// `count` different pairs of places in `patients` with different patients, drawn under `seed`: for callers that load films
/// pair by pair. Every place is used once before one is used twice, as far as patients allow.
///
/// # Errors
/// [`EvalError::TooFewPairs`].
pub fn pairs_of_different_patients<P: Eq>(
    patients: &[P],
    count: usize,
    seed: u64,
) -> Result<Vec<(usize, usize)>, EvalError> {
    let (mut pairs, mut known) = (Vec::with_capacity(count), HashSet::new());
    // A round of a drawn order may fail where few pairs are left; this many in a row and there is none worth waiting for.
    let (mut round, mut idle) = (0, 0);
    while pairs.len() < count {
        let mut order: Vec<usize> = (0..patients.len()).collect();
        shuffle(&mut stream(seed, "real pairs", round), &mut order);
        let before = pairs.len();
        while let Some(first) = order.pop() {
            let partner = order.iter().rposition(|second| {
                patients[first] != patients[*second] && !known.contains(&(first.min(*second), first.max(*second)))
            });
            if let Some(place) = partner {
                let second = order.remove(place);
                let pair = (first.min(second), first.max(second));
                known.insert(pair);
                pairs.push(pair);
            }
        }
        idle = if pairs.len() == before { idle + 1 } else { 0 };
        if idle == 8 {
            return Err(EvalError::TooFewPairs { needed: count, found: pairs.len() });
        }
        round += 1;
    }
    pairs.truncate(count);
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 176;

    fn picture(seed: usize, gain: f32) -> Vec<f32> {
        let value = |place: usize| {
            let (x, y) = ((place % SIDE) as f32, (place / SIDE) as f32);
            ((x * 0.05 + seed as f32).sin() + (y * 0.07 * (seed + 1) as f32).cos() + 2.0) / 4.0 * gain
        };
        (0..SIDE * SIDE).map(value).collect()
    }

    #[test]
    fn the_published_protocol_does_not_see_brightness_and_the_other_does() -> Result<(), EvalError> {
        let (bright, dark) = (picture(1, 1.0), picture(1, 0.4));
        let pair = vec![GrayImage::new(SIDE, SIDE, &bright)?, GrayImage::new(SIDE, SIDE, &dark)?];
        let published = MsSsimProtocol::Published.of_prompt(&pair)?;
        assert!(published > 1.0 - 1e-6, "{published}");
        let four = MsSsimProtocol::FourSamples.of_prompt(&[pair[0], pair[0], pair[1], pair[1]])?;
        // Two of six pairs are equal, four differ by brightness.
        let expected = (2.0 + 4.0 * ms_ssim(&pair[0], &pair[1])?) / 6.0;
        assert!((four - expected).abs() < 1e-12 && four < 0.95, "{four} {expected}");
        assert!(matches!(
            MsSsimProtocol::FourSamples.of_prompt(&pair),
            Err(EvalError::PicturesPerPrompt { needed: 4, found: 2, .. })
        ));
        Ok(())
    }

    #[test]
    fn the_set_is_the_mean_over_prompts_with_an_interval() -> Result<(), EvalError> {
        let pictures: Vec<Vec<f32>> = (0..8).map(|seed| picture(seed, 1.0)).collect();
        let views: Vec<GrayImage<'_>> =
            pictures.iter().map(|pixels| GrayImage::new(SIDE, SIDE, pixels)).collect::<Result<_, _>>()?;
        let prompts: Vec<Vec<GrayImage<'_>>> = views.chunks(2).map(<[_]>::to_vec).collect();
        let set = set_similarity(&prompts, MsSsimProtocol::Published, &Bootstrap::default())?;
        let mean = set.per_prompt.iter().sum::<f64>() / 4.0;
        assert!((set.mean - mean).abs() < 1e-12 && set.per_prompt.len() == 4);
        assert!(set.interval.is_some_and(|interval| interval.contains(set.mean)));
        let baseline =
            real_baseline(&views, &[0, 0, 1, 1, 2, 2, 3, 3], MsSsimProtocol::Published, 4, 1, &Bootstrap::default())?;
        assert_eq!(baseline.per_prompt.len(), 4);
        assert_ne!(baseline.protocol, set.protocol);
        // A black picture has no maximum to divide by.
        let black = vec![0.0; SIDE * SIDE];
        let black = GrayImage::new(SIDE, SIDE, &black)?;
        assert!((MsSsimProtocol::Published.of_prompt(&[black, black])? - 1.0).abs() < 1e-12);
        Ok(())
    }

    #[test]
    fn pairs_are_of_different_patients_and_use_every_film_first() -> Result<(), EvalError> {
        let patients: Vec<usize> = (0..40).map(|film| film / 4).collect();
        let pairs = pairs_of_different_patients(&patients, 300, 7)?;
        assert!(pairs.iter().all(|(a, b)| patients[*a] != patients[*b]));
        assert_eq!(pairs.iter().collect::<HashSet<_>>().len(), 300);
        let first_round: HashSet<usize> = pairs[..18].iter().flat_map(|(a, b)| [*a, *b]).collect();
        assert!(first_round.len() >= 34, "{}", first_round.len());
        assert_eq!(pairs_of_different_patients(&patients, 300, 7)?, pairs);
        assert_eq!(pairs_of_different_patients(&[1, 1, 2], 3, 0), Err(EvalError::TooFewPairs { needed: 3, found: 2 }));
        Ok(())
    }
}
