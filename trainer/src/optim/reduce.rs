//! Sums over the processes that train one network together, each on films of its own: data-parallel training behind one trait.
//!
//! All ranks hold the same weights and moments and make the same update, so nothing else has to be exchanged. Each takes
//! `batch * accumulate` films of a step; their gradients count by masked tokens, as those of accumulated batches do.

use candle_core::Result;

use super::Gradients;

/// One of the processes, or the only one.
pub trait Reduce: Sync {
    /// Which it is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// The sum of each number over all ranks, the same on each of them.
    ///
    /// # Errors
    /// Where another rank is gone.
    fn sum_numbers(&self, numbers: Vec<f64>) -> Result<Vec<f64>>;

    /// The sum of each gradient over all ranks, the same bits on each of them.
    ///
    /// # Errors
    /// Where another rank is gone, or has other tensors.
    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients>;
}

/// The only process: its sums are its own, and cost nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Reduce for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum_numbers(&self, numbers: Vec<f64>) -> Result<Vec<f64>> {
        Ok(numbers)
    }

    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients> {
        Ok(gradients)
    }
}
