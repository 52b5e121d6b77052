//! Nearest films by their tokens: the share of a grid's places that differ.
//!
//! It claims to catch a generated grid that repeats a training grid, whole or for most of its places. It does not see a copy
//! that is moved, or whose every token is exchanged for a like one.

use rayon::prelude::*;

use super::{MemorisationError, Nearest, all_found, least};

/// The nearest of `training` for each of `grids`, both `positions` tokens a grid, among those that
/// `allowed(grid, training grid)` lets it be held against.
///
/// # Errors
/// [`MemorisationError::Ragged`] and [`MemorisationError::NoCandidate`].
pub fn nearest_tokens<A>(
    grids: &[u32],
    training: &[u32],
    positions: usize,
    allowed: A,
) -> Result<Vec<Nearest>, MemorisationError>
where
    A: Fn(usize, usize) -> bool + Sync,
{
    for tokens in [grids, training] {
        if positions == 0 || !tokens.len().is_multiple_of(positions) {
            return Err(MemorisationError::Ragged { positions, found: tokens.len() });
        }
    }
    let of_grid = |(place, grid): (usize, &[u32])| {
        let share = |other: &[u32]| {
            let differ: u32 = grid.iter().zip(other).map(|(a, b)| u32::from(a != b)).sum();
            f64::from(differ) / positions as f64
        };
        least(training.chunks_exact(positions).map(share), |other| allowed(place, other))
    };
    all_found(grids.par_chunks_exact(positions).enumerate().map(of_grid).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_grid_differs_in_the_fewest_places() -> Result<(), MemorisationError> {
        let training = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 9, 9];
        let nearest = nearest_tokens(&[1, 2, 3, 9, 5, 6, 7, 8], &training, 4, |_, _| true)?;
        assert_eq!(nearest, [Nearest { index: 0, distance: 0.25 }, Nearest { index: 1, distance: 0.0 }]);
        let other = nearest_tokens(&[1, 2, 3, 9], &training, 4, |_, other| other != 0)?;
        assert_eq!(other, [Nearest { index: 2, distance: 0.25 }]);
        let ragged = nearest_tokens(&[1, 2, 3], &training, 4, |_, _| true);
        assert_eq!(ragged, Err(MemorisationError::Ragged { positions: 4, found: 3 }));
        assert_eq!(nearest_tokens(&[1; 4], &[], 4, |_, _| true), Err(MemorisationError::NoCandidate { query: 0 }));
        Ok(())
    }
}
