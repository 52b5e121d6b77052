//! Dropout of attention probabilities, from a counter: which ones fall out is a function of keys and places alone.

use candle_core::{Device, Result, Tensor, bail};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::Extents;

/// Values of a random word: a probability of dropping is rounded to a multiple of one over this.
const LEVELS: f64 = 65_536.0;
/// Bytes of a random word.
const WORD: usize = 2;
/// Bytes of a ChaCha block, and words of its counter in one.
const BLOCK: (usize, u128) = (64, 16);

/// Which attention probabilities fall out in training, and how much the others grow so that their mean stays (Srivastava
/// et al. 2014, inverted as in PyTorch).
///
/// Whether the probability of (head, query, key) of an item falls out depends on the item's [`DropoutKey`] and that
/// place: never on the item's place in the batch, on threads or on what ran before.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Random words below this drop their probability.
    threshold: u16,
    /// What the others are multiplied by.
    scale: f32,
    /// One for each item of the batch.
    items: Vec<DropoutKey>,
}

/// The random numbers of one item of a batch: ChaCha8 of this key and stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutKey {
    /// Key of the cipher.
    pub key: [u8; 32],
    /// Its stream.
    pub stream: u64,
}

impl Dropout {
    /// Drops the share `rate`, which is in [0, 1) and rounded to a multiple of 1/65536, with a key for each item.
    ///
    /// # Errors
    /// If `rate` is out of range.
    pub fn new(rate: f64, items: Vec<DropoutKey>) -> Result<Self> {
        let threshold = (rate * LEVELS).round();
        if !(0.0..LEVELS).contains(&threshold) {
            bail!("attention: dropout of {rate}; a share in [0, 1) was expected")
        }
        Ok(Self { threshold: threshold as u16, scale: (LEVELS / (LEVELS - threshold)) as f32, items })
    }

    /// How many items it has keys for.
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    /// The factors of a tile of queries: 0 where a probability falls out, the scale elsewhere.
    ///
    /// `factors` is [rows, keys], for the queries from `first` of a head, counted over the batch.
    pub(super) fn fill(&self, factors: &mut [f32], extents: Extents, head: usize, first: usize) {
        let Extents { heads, queries, keys, .. } = extents;
        let item = self.items[head / heads];
        let mut generator = ChaCha8Rng::from_seed(item.key);
        generator.set_stream(item.stream);
        // Each row starts at a block of its own, so that it does not depend on how rows are cut into tiles.
        let blocks = (keys * WORD).div_ceil(BLOCK.0);
        let mut words = vec![0u8; keys * WORD];
        for (row, factors) in factors.chunks_exact_mut(keys).enumerate() {
            let place = (head % heads * queries + first + row) * blocks;
            generator.set_word_pos(place as u128 * BLOCK.1);
            generator.fill_bytes(&mut words);
            for (factor, word) in factors.iter_mut().zip(words.as_chunks::<WORD>().0) {
                *factor = if u16::from_le_bytes(*word) < self.threshold { 0.0 } else { self.scale };
            }
        }
    }

    /// All factors of a batch, [items, heads, queries, keys] in f32 on the CPU.
    ///
    /// # Errors
    /// If the tensor cannot be made.
    pub fn factors(&self, heads: usize, queries: usize, keys: usize) -> Result<Tensor> {
        let extents = Extents { heads, queries, keys, width: 0 };
        let area = queries * keys;
        let mut factors = vec![0.0; self.items.len() * heads * area];
        if area > 0 {
            for (head, factors) in factors.chunks_exact_mut(area).enumerate() {
                self.fill(factors, extents, head, 0);
            }
        }
        Tensor::from_vec(factors, (self.items.len(), heads, queries, keys), &Device::Cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout(rate: f64, streams: &[u64]) -> Result<Dropout> {
        Dropout::new(rate, streams.iter().map(|stream| DropoutKey { key: [7; 32], stream: *stream }).collect())
    }

    #[test]
    fn the_mean_of_the_factors_is_one_and_the_rate_is_as_asked() -> Result<()> {
        let factors = dropout(0.1, &[1, 2])?.factors(4, 200, 130)?.flatten_all()?.to_vec1::<f32>()?;
        let count = factors.len() as f64;
        let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / count;
        let mean = factors.iter().map(|factor| f64::from(*factor)).sum::<f64>() / count;
        // Five standard deviations of a binomial share.
        assert!((dropped - 0.1).abs() < 5.0 * (0.09 / count).sqrt(), "{dropped}");
        assert!((mean - 1.0).abs() < 6.0 * (0.09 / count).sqrt(), "{mean}");
        assert!(factors.iter().all(|factor| *factor == 0.0 || (factor - 1.0 / 0.9).abs() < 1e-4));
        Ok(())
    }

    #[test]
    fn a_factor_depends_on_its_item_head_query_and_key_alone() -> Result<()> {
        let whole = dropout(0.5, &[1, 2])?;
        let all = whole.factors(3, 40, 33)?;
        let second = dropout(0.5, &[2])?.factors(3, 40, 33)?;
        let bits = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        assert_eq!(bits(&all.narrow(0, 1, 1)?)?, bits(&second)?);
        // A tile of queries 5 to 12 of the last head of the second item.
        let mut tile = vec![0.0; 8 * 33];
        whole.fill(&mut tile, Extents { heads: 3, queries: 40, keys: 33, width: 0 }, 5, 5);
        assert_eq!(tile, bits(&all.narrow(0, 1, 1)?.narrow(1, 2, 1)?.narrow(2, 5, 8)?)?);
        let rows: Vec<Vec<f32>> = all.reshape((2 * 3 * 40, 33))?.to_vec2()?;
        for (index, row) in rows.iter().enumerate() {
            assert!(rows[..index].iter().all(|other| other != row), "row {index} repeats an earlier one");
        }
        Ok(())
    }

    #[test]
    fn a_rate_that_is_no_share_is_refused() {
        for rate in [-0.1, 1.0, f64::NAN] {
            assert!(dropout(rate, &[1]).is_err(), "{rate}");
        }
    }
}
