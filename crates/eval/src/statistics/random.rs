//! Random numbers addressed by (seed, purpose, index): ChaCha8, so that a result depends on nothing else.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The numbers with this `index` under `seed` for one `purpose` (a short word, at most 16 bytes of it count).
pub(crate) fn stream(seed: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    for (byte, letter) in key[8..24].iter_mut().zip(purpose.bytes()) {
        *byte = letter;
    }
    let mut generator = ChaCha8Rng::from_seed(key);
    generator.set_stream(index);
    generator
}

/// A whole number in `0..count`, every one equally likely. 0 when `count` is 0.
pub(crate) fn below(generator: &mut impl Rng, count: usize) -> usize {
    // The high half of a 64 by 64 bit product: off from even by less than count / 2^64.
    ((u128::from(generator.next_u64()) * count as u128) >> 64) as usize
}

/// Puts the items into a random order, every order equally likely (Fisher and Yates).
pub(crate) fn shuffle<T>(generator: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(generator, last + 1));
    }
}
