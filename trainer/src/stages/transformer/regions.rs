//! Masks of whole regions: one to three rectangles of a grid, as an edit hides them.

use rand_core::Rng;
use raygen_model::random::{Purpose, Randomness, below, uniform};

/// Rectangles of a mask, at most.
const MOST: usize = 3;

/// Which films of a run get such a mask, and which one: a function of (seed, film, epoch) alone.
pub(super) struct Regions {
    share: f64,
    /// Side of the square grid.
    side: usize,
    randomness: Randomness,
}

impl Regions {
    /// Masks for the share `share` of the films, of grids of `positions` tokens.
    pub(super) fn new(seed: u64, share: f64, positions: usize) -> Self {
        Self { share, side: positions.isqrt(), randomness: Randomness::new(seed, Purpose::RegionMask) }
    }

    /// Which tokens of a film are hidden in an epoch, where it is one of the share: at least one.
    pub(super) fn draw(&self, film: u64, epoch: u64) -> Option<Vec<bool>> {
        if self.share == 0.0 {
            return None;
        }
        let mut stream = self.randomness.stream(film, epoch);
        (f64::from(uniform(&mut stream)) < self.share).then(|| rectangles(&mut stream, self.side))
    }
}

/// One to three rectangles, each number equally likely; sides from 1 to the grid's, places among those that fit.
fn rectangles(stream: &mut impl Rng, side: usize) -> Vec<bool> {
    let mut hidden = vec![false; side * side];
    for _ in 0..=below(stream, MOST) {
        let (height, width) = (1 + below(stream, side), 1 + below(stream, side));
        let (top, left) = (below(stream, side - height + 1), below(stream, side - width + 1));
        for row in hidden.chunks_exact_mut(side).skip(top).take(height) {
            row[left..left + width].fill(true);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hidden positions whose upper and left neighbours are shown: each is the corner of a rectangle of its own.
    fn corners(hidden: &[bool], side: usize) -> usize {
        let at = |y: usize, x: usize| hidden[y * side + x];
        let corner = |place: &usize| {
            let (y, x) = (place / side, place % side);
            at(y, x) && (y == 0 || !at(y - 1, x)) && (x == 0 || !at(y, x - 1))
        };
        (0..hidden.len()).filter(corner).count()
    }

    #[test]
    fn the_share_is_as_asked_and_masks_are_a_few_rectangles() {
        let regions = Regions::new(5, 0.25, 256);
        let masks: Vec<_> = (0..4000).filter_map(|film| regions.draw(film, film % 3)).collect();
        // Five standard deviations of a binomial share.
        assert!((masks.len() as f64 - 1000.0).abs() < 5.0 * 750f64.sqrt(), "{}", masks.len());
        let mut areas = Vec::new();
        for mask in &masks {
            let area = mask.iter().filter(|hidden| **hidden).count();
            assert!(area >= 1 && (1..=MOST).contains(&corners(mask, 16)), "{area}");
            areas.push(area);
        }
        areas.sort_unstable();
        // From a corner to nearly everything.
        assert!(areas[0] < 16 && areas[areas.len() - 1] > 240, "{areas:?}");
        let scattered = (0..256).map(|place| place % 2 == 0).collect::<Vec<_>>();
        assert!(corners(&scattered, 16) > MOST, "the test can tell");
    }

    #[test]
    fn a_mask_depends_on_seed_film_and_epoch_alone_and_none_is_drawn_unasked() {
        let regions = Regions::new(5, 0.5, 64);
        let again = Regions::new(5, 0.5, 64);
        for film in 0..50 {
            assert_eq!(regions.draw(film, 1), again.draw(film, 1));
        }
        assert!((0..50).any(|film| regions.draw(film, 1) != regions.draw(film, 2)));
        assert!((0..50).any(|film| regions.draw(film, 1) != Regions::new(6, 0.5, 64).draw(film, 1)));
        assert!((0..50).all(|film| Regions::new(5, 0.0, 64).draw(film, 0).is_none()));
        assert!(Regions::new(5, 1.0, 1).draw(0, 0).is_some_and(|hidden| hidden == [true]));
    }
}
