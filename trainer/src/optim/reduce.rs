//! Ranks that train one network together, each on films of its own: data-parallel training behind one trait.
//!
//! All ranks hold the same weights and moments and make the same update, so nothing else has to be exchanged. Each takes
//! `batch * accumulate` films of a step; their gradients count by masked tokens, as those of accumulated batches do.
//! Rank 0 alone reads and writes the run directory, and what it decides the others are told.

use std::any::Any;
use std::sync::Arc;

use super::Gradients;

/// What one rank tells the others.
pub type Word = Arc<dyn Any + Send + Sync>;

/// Why a rank cannot go on with the others. The message has the cause in it.
#[derive(Debug, thiserror::Error)]
pub enum RankError {
    /// Another rank is gone; without it there is no step.
    #[error("rank {rank} ended: {why}")]
    Ended {
        /// The rank that ended.
        rank: usize,
        /// Why it did.
        why: String,
    },
    /// A rank says something else than the others: a fault of the program, which would train nothing.
    #[error("rank {rank} is out of step: it brought something else than rank {with} does")]
    OutOfStep {
        /// The rank that differs.
        rank: usize,
        /// From which.
        with: usize,
    },
    /// A sum could not be computed.
    #[error("rank {rank}: {error}")]
    Tensor {
        /// The rank that computed.
        rank: usize,
        /// Why not.
        error: candle_core::Error,
    },
    /// NCCL, or the driver below it, refused.
    #[error("rank {rank} (cuda:{device}): {doing}: {reason}")]
    Nccl {
        /// The rank that was refused.
        rank: usize,
        /// Number of its GPU.
        device: usize,
        /// What it wanted.
        doing: &'static str,
        /// What NCCL says.
        reason: String,
    },
}

/// One of the ranks, or the only one. Each lives on a thread of its own.
pub trait Reduce {
    /// Which it is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// The words of all ranks, in their order. Returns when all have said theirs.
    ///
    /// # Errors
    /// Where another rank is gone.
    fn exchange(&self, own: Word) -> Result<Vec<Word>, RankError>;

    /// The sum of each gradient over all ranks, the same bits on each of them.
    ///
    /// # Errors
    /// Where another rank is gone, or has other tensors.
    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients, RankError>;
}

/// Said by the ranks that wait for rank 0.
struct Listening;

impl dyn Reduce + '_ {
    /// Whether this is rank 0, which reads and writes files, talks to people, and decides.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Its number and how many there are: which films of a step are its own.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        (self.rank(), self.ranks())
    }

    /// The values of all ranks, in the order of ranks.
    ///
    /// # Errors
    /// Where another rank is gone.
    pub fn gather<T: Clone + Send + Sync + 'static>(&self, own: Vec<T>) -> Result<Vec<T>, RankError> {
        if self.ranks() == 1 {
            return Ok(own);
        }
        let mut all = Vec::with_capacity(own.len() * self.ranks());
        for (rank, word) in self.exchange(Arc::new(own))?.iter().enumerate() {
            all.extend_from_slice(heard::<Vec<T>>(word, rank, self.rank())?);
        }
        Ok(all)
    }

    /// The sum of each number over all ranks in their order, the same on each of them.
    ///
    /// # Errors
    /// Where another rank is gone.
    pub fn sum_numbers(&self, own: Vec<f64>) -> Result<Vec<f64>, RankError> {
        if self.ranks() == 1 {
            return Ok(own);
        }
        let mut sums = vec![0.0; own.len()];
        for (rank, word) in self.exchange(Arc::new(own))?.iter().enumerate() {
            let numbers = heard::<Vec<f64>>(word, rank, self.rank())?;
            if numbers.len() != sums.len() {
                return Err(RankError::OutOfStep { rank, with: self.rank() });
            }
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        Ok(sums)
    }

    /// The mean of each number over all ranks, the same on each of them.
    ///
    /// # Errors
    /// Where another rank is gone.
    pub fn mean_numbers(&self, own: Vec<f64>) -> Result<Vec<f64>, RankError> {
        let ranks = self.ranks() as f64;
        Ok(self.sum_numbers(own)?.into_iter().map(|sum| sum / ranks).collect())
    }

    /// What rank 0 makes of something that one alone may do, on every rank: the others wait for it.
    ///
    /// # Errors
    /// Those of `make`, which end rank 0, and on the other ranks that rank 0 ended.
    pub fn once<T, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Clone + Send + Sync + 'static,
        E: From<RankError>,
    {
        if self.ranks() == 1 {
            return make();
        }
        let own: Word = if self.leads() { Arc::new(make()?) } else { Arc::new(Listening) };
        let all = self.exchange(own)?;
        if let Some(rank) = (1..all.len()).find(|rank| !all[*rank].is::<Listening>()) {
            return Err(RankError::OutOfStep { rank, with: 0 }.into());
        }
        Ok(all.first().map_or(Err(RankError::OutOfStep { rank: 0, with: self.rank() }), |word| {
            heard::<T>(word, 0, self.rank()).cloned()
        })?)
    }
}

/// The word of `rank`, where it is of the kind that `with` expects.
fn heard<T: 'static>(word: &Word, rank: usize, with: usize) -> Result<&T, RankError> {
    word.downcast_ref().ok_or(RankError::OutOfStep { rank, with })
}

/// The only rank: its sums are its own, and cost nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Reduce for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn exchange(&self, own: Word) -> Result<Vec<Word>, RankError> {
        Ok(vec![own])
    }

    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients, RankError> {
        Ok(gradients)
    }
}
