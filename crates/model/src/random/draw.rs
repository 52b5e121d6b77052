//! Distributions drawn from a stream of random words.

use rand_core::Rng;

/// A number in the open interval (0, 1), with 23 random bits: neither end is ever returned, in f32 either.
pub fn uniform(generator: &mut impl Rng) -> f32 {
    ((generator.next_u32() >> 9) as f32 + 0.5) / 8_388_608.0
}

/// A whole number in `0..count`, every one equally likely. 0 when `count` is 0.
pub fn below(generator: &mut impl Rng, count: usize) -> usize {
    // The high half of a 64 by 64 bit product: off from even by less than count / 2^64.
    ((u128::from(generator.next_u64()) * count as u128) >> 64) as usize
}

/// Puts the items into a random order, every order equally likely (Fisher and Yates).
pub fn shuffle<T>(generator: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(generator, last + 1));
    }
}

/// A number from the normal distribution with mean 0 and variance 1 (Box and Muller).
pub fn standard_normal(generator: &mut impl Rng) -> f32 {
    let radius = (-2.0 * uniform(generator).ln()).sqrt();
    radius * (std::f32::consts::TAU * uniform(generator)).cos()
}

/// Gumbel noise from a uniform number in (0, 1).
pub fn gumbel(uniform: f32) -> f32 {
    -(-uniform.ln()).ln()
}

#[cfg(test)]
mod tests {
    use crate::random::{Purpose, Randomness};

    use super::*;

    #[test]
    fn uniform_numbers_fill_the_interval_evenly_and_never_touch_its_ends() {
        let mut generator = Randomness::new(1, Purpose::Mask).stream(0, 0);
        let mut bins = [0u32; 10];
        for _ in 0..100_000 {
            let number = uniform(&mut generator);
            assert!(number > 0.0 && number < 1.0);
            bins[(number * 10.0) as usize] += 1;
        }
        assert!(bins.iter().all(|&count| (9_500..10_500).contains(&count)), "{bins:?}");
    }

    #[test]
    fn the_largest_word_still_gives_less_than_one() {
        assert!(((u32::MAX >> 9) as f32 + 0.5) / 8_388_608.0 < 1.0);
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut generator = Randomness::new(2, Purpose::Shuffle).stream(0, 0);
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut generator, &mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut generator = Randomness::new(3, Purpose::Initialise).stream(0, 0);
        let numbers: Vec<f32> = (0..50_000).map(|_| standard_normal(&mut generator)).collect();
        let mean = numbers.iter().sum::<f32>() / 50_000.0;
        let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f32>() / 50_000.0;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
