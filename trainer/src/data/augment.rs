//! Small random shifts of a film, and its mirror, keyed by (film, epoch).

use raygen_model::random::{Purpose, Randomness, below};

/// The shift (right, down) in pixels of `film` in `epoch`, each in `-largest..=largest`.
#[must_use]
pub fn random_shift(randomness_seed: u64, film: usize, epoch: u64, largest: usize) -> (isize, isize) {
    if largest == 0 {
        return (0, 0);
    }
    let mut stream = Randomness::new(randomness_seed, Purpose::Shift).stream(film as u64, epoch);
    let mut draw = || below(&mut stream, 2 * largest + 1) as isize - largest as isize;
    (draw(), draw())
}

/// Whether `film` is mirrored in `epoch`: every second time.
#[must_use]
pub fn random_mirror(randomness_seed: u64, film: usize, epoch: u64) -> bool {
    below(&mut Randomness::new(randomness_seed, Purpose::Mirror).stream(film as u64, epoch), 2) == 1
}

/// The square film `pixels` (side `side`, 0 to 255) shifted by (right, down), its edge repeated; values in [-1, 1], appended to `out`.
pub fn shifted(pixels: &[u8], side: usize, (right, down): (isize, isize), out: &mut Vec<f32>) {
    let last = side as isize - 1;
    for y in 0..side as isize {
        let row = (y - down).clamp(0, last) as usize * side;
        for x in 0..side as isize {
            let column = (x - right).clamp(0, last) as usize;
            out.push(f32::from(pixels[row + column]) / 127.5 - 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_moves_the_film_and_repeats_its_edge() {
        let pixels = [0u8, 51, 102, 153, 204, 255, 10, 20, 30];
        let mut out = Vec::new();
        shifted(&pixels, 3, (1, 0), &mut out);
        let back: Vec<u8> = out.iter().map(|v| ((v + 1.0) * 127.5).round() as u8).collect();
        assert_eq!(back, [0, 0, 51, 153, 153, 204, 10, 10, 20]);
    }

    #[test]
    fn about_half_of_the_films_are_mirrored_and_others_in_another_epoch() {
        let mirrored = |epoch| (0..200).map(|film| random_mirror(1, film, epoch)).collect::<Vec<_>>();
        let count = mirrored(0).iter().filter(|mirrored| **mirrored).count();
        assert!((70..130).contains(&count), "{count}");
        assert_ne!(mirrored(0), mirrored(1));
        assert_eq!(mirrored(0), mirrored(0));
    }

    #[test]
    fn shifts_stay_in_range_and_depend_on_film_and_epoch() {
        let shifts: Vec<_> = (0..50).map(|film| random_shift(1, film, 0, 3)).collect();
        assert!(shifts.iter().all(|(x, y)| x.abs() <= 3 && y.abs() <= 3));
        assert!(shifts.iter().any(|s| *s != shifts[0]));
        assert!((0..50).any(|film| random_shift(1, film, 1, 3) != shifts[film]));
        assert_eq!(random_shift(1, 5, 0, 0), (0, 0));
    }
}
