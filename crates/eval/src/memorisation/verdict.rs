//! The verdict: are generated films nearer to training films than fresh real films are?
//!
//! Two questions. Is any film a copy: far nearer than any real one? And are too many near: more than their share below a low
//! quantile of the real distances? If generated and held-out films are drawn alike, the number of generated ones below the
//! r-th smallest held-out distance is beta-binomial, exactly, whatever the distances: the test is the binomial one with
//! that the quantile is known from so many held-out films only taken into account.

use crate::statistics::beta_binomial_at_least;

use super::{MemorisationError, Nearest};

/// What counts as too near.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Criteria {
    /// Share of the real distances that lie below the near distance.
    pub near_share: f64,
    /// Chance of a false alarm of "too many near".
    pub alpha: f64,
    /// A copy lies below this share of the near distance (and below every held-out distance).
    pub copy_factor: f64,
    /// So many of the most suspicious films are listed.
    pub listed: usize,
}

/// A generated film and the training film that it may be a copy of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Suspect {
    /// Its place among the generated films.
    pub generated: usize,
    /// The place of its nearest among the training films.
    pub training: usize,
    /// How far it is.
    pub distance: f64,
    /// Share of the held-out real films that are at least as near to theirs.
    pub real_share: f64,
    /// Whether it is taken for a copy.
    pub copy: bool,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Some films are copies of training films.
    Copies,
    /// No copy, but films lie nearer to training films than real ones do, beyond chance.
    NearerThanReal,
    /// Neither. That is no proof: see how few held-out films there were, and what the space claims to catch.
    NotFound,
}

/// Generated films against training films, judged by held-out real films.
#[derive(Debug, Clone, PartialEq)]
pub struct Memorisation {
    /// The verdict.
    pub verdict: Verdict,
    /// Distance below which a film counts as near: the `rank`-th smallest of the held-out films'.
    pub near_distance: f64,
    /// Share of the generated films below it.
    pub near_share: f64,
    /// The share that real films would have.
    pub expected_share: f64,
    /// Chance of at least so many near films, if generated films were drawn as the held-out ones.
    pub p_value: f64,
    /// Distance below which a film counts as a copy.
    pub copy_distance: f64,
    /// Copies.
    pub copies: usize,
    /// The most suspicious films, nearest first: all copies, and others up to the number wanted.
    pub suspects: Vec<Suspect>,
    /// Generated films.
    pub generated: usize,
    /// Held-out films.
    pub held_out: usize,
}

impl Default for Criteria {
    fn default() -> Self {
        // On 797 chest films at 256 pixels, in pixel space: noisy, darkened and moved copies lie at 0.10 in the median and 0.16
        // at the 99th percentile, and no film is nearer than 0.22 to one of another patient; the near distance is 0.28.
        Self { near_share: 0.05, alpha: 0.01, copy_factor: 2.0 / 3.0, listed: 16 }
    }
}

/// Judges the nearest training films of generated films by those of held-out real films (of patients whose films the
/// training set has not), found in the same space.
///
/// # Errors
/// No film on either side, distances that are no numbers, criteria outside (0, 1).
pub fn judge(
    generated: &[Nearest],
    held_out: &[Nearest],
    criteria: &Criteria,
) -> Result<Memorisation, MemorisationError> {
    check(generated, "generated films")?;
    check(held_out, "held-out films")?;
    let Criteria { near_share, alpha, copy_factor, .. } = *criteria;
    for (name, found) in [("the near share", near_share), ("alpha", alpha), ("the copy factor", copy_factor)] {
        if !(found > 0.0 && found < 1.0) {
            return Err(MemorisationError::Criterion { name, found });
        }
    }
    let mut real: Vec<f64> = held_out.iter().map(|nearest| nearest.distance).collect();
    real.sort_by(f64::total_cmp);
    // The chance that a fresh film lies below the rank-th of m is rank / (m + 1).
    let rank = ((near_share * (real.len() + 1) as f64).floor() as usize).clamp(1, real.len());
    let near_distance = real[rank - 1];
    let copy_distance = (near_distance * copy_factor).min(real[0]);
    let is_copy = |distance: f64| distance < copy_distance;
    let near = generated.iter().filter(|nearest| nearest.distance < near_distance).count();
    let p_value = beta_binomial_at_least(near as u64, generated.len() as u64, rank as u64, real.len() as u64);
    let mut suspects: Vec<Suspect> = generated
        .iter()
        .enumerate()
        .map(|(place, nearest)| Suspect {
            generated: place,
            training: nearest.index,
            distance: nearest.distance,
            real_share: real.partition_point(|real| *real <= nearest.distance) as f64 / real.len() as f64,
            copy: is_copy(nearest.distance),
        })
        .collect();
    suspects.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    let copies = suspects.iter().filter(|suspect| suspect.copy).count();
    suspects.truncate(copies.max(criteria.listed));
    let verdict = match (copies, p_value) {
        (1.., _) => Verdict::Copies,
        (0, p) if p < alpha => Verdict::NearerThanReal,
        _ => Verdict::NotFound,
    };
    Ok(Memorisation {
        verdict,
        near_distance,
        near_share: near as f64 / generated.len() as f64,
        expected_share: rank as f64 / (real.len() + 1) as f64,
        p_value,
        copy_distance,
        copies,
        suspects,
        generated: generated.len(),
        held_out: real.len(),
    })
}

fn check(nearest: &[Nearest], set: &'static str) -> Result<(), MemorisationError> {
    if nearest.is_empty() {
        return Err(MemorisationError::Nothing(set));
    }
    match nearest.iter().position(|nearest| !nearest.distance.is_finite()) {
        Some(index) => Err(MemorisationError::NotFinite { set, index }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::{below, stream};

    fn distances(seed: u64, count: usize, scale: f64) -> Vec<Nearest> {
        let mut generator = stream(seed, "test", 0);
        let mut uniform = || below(&mut generator, 1 << 40) as f64 / (1u64 << 40) as f64;
        (0..count).map(|index| Nearest { index, distance: scale * (1.0 + uniform()) }).collect()
    }

    #[test]
    fn real_films_are_called_memorised_as_rarely_as_alpha_says() -> Result<(), MemorisationError> {
        let mut called = 0;
        for seed in 0..600 {
            let criteria = Criteria { alpha: 0.05, ..Criteria::default() };
            let found = judge(&distances(2 * seed, 200, 1.0), &distances(2 * seed + 1, 60, 1.0), &criteria)?;
            called += u32::from(found.verdict != Verdict::NotFound);
        }
        // At most 30 of 600 expected, standard deviation 5.3. A binomial test with the share for known calls 100.
        assert!((10..=46).contains(&called), "{called} of 600");
        Ok(())
    }

    #[test]
    fn a_single_copy_among_many_is_caught_and_named() -> Result<(), MemorisationError> {
        let mut generated = distances(1, 500, 1.0);
        generated[123] = Nearest { index: 77, distance: 0.2 };
        let found = judge(&generated, &distances(2, 100, 1.0), &Criteria::default())?;
        assert_eq!((found.verdict, found.copies, found.suspects.len()), (Verdict::Copies, 1, 16));
        let first = found.suspects[0];
        assert_eq!((first.generated, first.training, first.copy, first.real_share), (123, 77, true, 0.0));
        assert!(found.p_value > 0.01, "{found:?}");
        Ok(())
    }

    #[test]
    fn many_that_are_a_little_nearer_are_told_from_copies() -> Result<(), MemorisationError> {
        let found = judge(&distances(1, 300, 0.8), &distances(2, 200, 1.0), &Criteria::default())?;
        assert_eq!((found.verdict, found.copies), (Verdict::NearerThanReal, 0));
        assert!(found.near_share > 3.0 * found.expected_share && found.p_value < 1e-4, "{found:?}");
        assert_eq!(
            judge(&[], &distances(2, 9, 1.0), &Criteria::default()),
            Err(MemorisationError::Nothing("generated films"))
        );
        let unfit = Criteria { copy_factor: 1.0, ..Criteria::default() };
        assert!(judge(&distances(1, 9, 1.0), &distances(2, 9, 1.0), &unfit).is_err());
        Ok(())
    }
}
