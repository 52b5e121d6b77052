//! Counter-based randomness: every number is a pure function of (seed, purpose, place), never of order, thread or time.
//!
//! ChaCha8 with a key made of (seed, purpose). In sampling the place is (sample, step, position); in training it
//! is two free numbers, usually (film, epoch). Adding a purpose never changes the numbers of another one.

mod draw;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

pub use draw::{below, gumbel, shuffle, standard_normal, uniform};

/// What a random number is for. The discriminant is part of the key: append, never reorder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Purpose {
    /// Which codebook id a position takes.
    TokenChoice = 1,
    /// Gumbel noise on the confidence of a position (MaskGIT sampler).
    Confidence = 2,
    /// How far a sample's Halton order is rolled.
    HaltonRoll = 3,
    /// Which positions are masked in training.
    Mask = 4,
    /// Random shift of a film in training.
    Shift = 5,
    /// Whether a film's text is dropped in training.
    ConditionDropout = 6,
    /// Order of the films in an epoch.
    Shuffle = 7,
    /// Initial values of a tensor.
    Initialise = 8,
    /// Which positions are masked in scoring.
    ScoreMask = 9,
    /// Which latent replaces a codebook entry that nothing uses.
    CodeRestart = 10,
    /// Which positions of an edited grid are generated afresh.
    EditMask = 11,
    /// Which ids stand beside each other in the grids that mean patches are measured on.
    MeanPatch = 12,
    /// Seeds of the pictures that are generated for a scored item.
    ScoreSample = 13,
    /// Which attention probabilities fall out in training.
    AttentionDropout = 14,
    /// Which positions are masked where the validation loss moves the learning rate.
    ValidationMask = 15,
    /// Which tokens of a full grid are decided anew.
    Refinement = 16,
    /// Which films of an epoch get a mask of whole regions, and which regions.
    RegionMask = 17,
    /// Whether a film is mirrored in training.
    Mirror = 18,
}

/// All random numbers of one purpose under one seed.
#[derive(Clone)]
pub struct Randomness {
    /// Bytes 0..8 seed, 8..16 purpose, 16..24 second coordinate of a stream, 24 kind of place, 25..27 site in a network.
    key: [u8; 32],
}

/// Byte 24 of the key: numbers addressed by (sample, step, position).
const PLACES: u8 = 1;
/// Byte 24 of the key: numbers addressed by two free coordinates.
const STREAMS: u8 = 2;
/// Byte 24 of the key: numbers addressed by two free coordinates, a site in a network, and a counter of the user's.
const SITES: u8 = 3;
/// Each position owns 2^32 ChaCha blocks of 16 words.
const WORDS_PER_POSITION_LOG2: u32 = 32 + 4;

impl Randomness {
    /// All numbers for `purpose` under `seed`.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(purpose as u64).to_le_bytes());
        Self { key }
    }

    /// One number in the open interval (0, 1) for a place in a generation.
    pub fn uniform(&self, sample: u32, step: u32, position: u32) -> f32 {
        self.places(sample, step).draws(position).uniform()
    }

    /// All numbers of one step of one sample; set up once, then addressed by position.
    pub fn places(&self, sample: u32, step: u32) -> Places {
        let mut key = self.key;
        key[24] = PLACES;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream((u64::from(sample) << 32) | u64::from(step));
        Places { generator }
    }

    /// A generator of as many numbers as are wanted for a place with two coordinates, such as (film, epoch).
    pub fn stream(&self, a: u64, b: u64) -> ChaCha8Rng {
        let mut key = self.key;
        key[16..24].copy_from_slice(&b.to_le_bytes());
        key[24] = STREAMS;
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(a);
        generator
    }

    /// ChaCha8 key and stream of the numbers that a kernel draws for the place (a, b) at one site of a network; the block
    /// counter is the kernel's.
    pub fn site(&self, a: u64, b: u64, site: u16) -> ([u8; 32], u64) {
        let mut key = self.key;
        key[16..24].copy_from_slice(&b.to_le_bytes());
        key[24] = SITES;
        key[25..27].copy_from_slice(&site.to_le_bytes());
        (key, a)
    }
}

/// The numbers of one step of one sample.
pub struct Places {
    generator: ChaCha8Rng,
}

impl Places {
    /// The numbers of one position, from its first on.
    pub fn draws(&mut self, position: u32) -> Draws<'_> {
        self.generator.set_word_pos(u128::from(position) << WORDS_PER_POSITION_LOG2);
        Draws { generator: &mut self.generator }
    }
}

/// The numbers of one position, in order.
pub struct Draws<'a> {
    generator: &'a mut ChaCha8Rng,
}

impl Draws<'_> {
    /// The next number, in the open interval (0, 1).
    pub fn uniform(&mut self) -> f32 {
        uniform(self.generator)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand_core::Rng;

    use super::*;

    #[test]
    fn a_number_depends_only_on_its_place() {
        let randomness = Randomness::new(7, Purpose::TokenChoice);
        let alone = randomness.uniform(3, 2, 900);
        let mut places = randomness.places(3, 2);
        for position in [5, 1000, 0, 900] {
            let number = places.draws(position).uniform();
            assert_eq!(number == alone, position == 900);
        }
    }

    #[test]
    fn every_coordinate_changes_the_number() {
        let base = Randomness::new(7, Purpose::TokenChoice);
        let numbers = [
            base.uniform(0, 0, 0),
            base.uniform(1, 0, 0),
            base.uniform(0, 1, 0),
            base.uniform(0, 0, 1),
            Randomness::new(8, Purpose::TokenChoice).uniform(0, 0, 0),
            Randomness::new(7, Purpose::Confidence).uniform(0, 0, 0),
            uniform(&mut base.stream(0, 0)),
            uniform(&mut base.stream(1, 0)),
            uniform(&mut base.stream(0, 1)),
        ];
        let distinct: BTreeSet<u32> = numbers.iter().map(|number| number.to_bits()).collect();
        assert_eq!(distinct.len(), numbers.len());
    }

    #[test]
    fn numbers_are_those_of_plain_chacha8() {
        // Computed from the cipher's definition: key (seed, purpose, b, kind), nonce (a) or (sample, step), and the
        // position in the upper half of the block counter. A release that changes them changes everybody's pictures.
        let randomness = Randomness::new(42, Purpose::TokenChoice);
        assert_eq!(randomness.stream(1, 2).next_u64(), 15_625_051_227_805_416_398);
        assert_eq!(randomness.uniform(1, 2, 3).to_bits(), 1_022_015_264);
    }

    #[test]
    fn positions_do_not_overlap_for_a_large_codebook() {
        let mut places = Randomness::new(1, Purpose::TokenChoice).places(0, 0);
        let mut draws = places.draws(0);
        let long: Vec<u32> = (0..20_000).map(|_| draws.uniform().to_bits()).collect();
        let mut draws = places.draws(1);
        let next: Vec<u32> = (0..8).map(|_| draws.uniform().to_bits()).collect();
        assert!(!long.windows(8).any(|window| window == next));
    }
}
