//! Ranks on the CPU: threads of one process that add up in the order of ranks, so that every run gives the same bits.

use std::sync::Arc;

use super::Gradients;
use super::meeting::Meeting;
use super::reduce::{RankError, Reduce, Word};

/// One of several threads.
#[derive(Clone)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

// === impl Threads ===

impl Threads {
    /// The rank `rank` of those that come to `meeting`.
    #[must_use]
    pub fn new(rank: usize, meeting: Arc<Meeting>) -> Self {
        Self { rank, meeting }
    }

    /// Checks that all ranks bring the same tensors.
    ///
    /// # Errors
    /// Names one that does not, or one that is gone.
    pub(super) fn agree_on(&self, gradients: &Gradients) -> Result<(), RankError> {
        let of = |gradients: &Gradients| -> Vec<(String, Vec<usize>)> {
            gradients.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
        };
        let own = of(gradients);
        let all = self.exchange(Arc::new(own.clone()))?;
        match all.iter().position(|word| word.downcast_ref() != Some(&own)) {
            Some(rank) => Err(RankError::OutOfStep { rank, with: self.rank }),
            None => Ok(()),
        }
    }
}

impl Reduce for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.meeting.ranks()
    }

    fn exchange(&self, own: Word) -> Result<Vec<Word>, RankError> {
        self.meeting.attend(self.rank, own)
    }

    fn sum_gradients(&self, gradients: Gradients) -> Result<Gradients, RankError> {
        self.agree_on(&gradients)?;
        let mut sum = Gradients::default();
        for (rank, word) in self.exchange(Arc::new(gradients))?.iter().enumerate() {
            let of_rank =
                word.downcast_ref::<Gradients>().ok_or(RankError::OutOfStep { rank, with: self.rank })?.clone();
            sum = sum.plus(of_rank).map_err(|error| RankError::Tensor { rank: self.rank, error })?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::thread;

    use candle_core::{Device, Tensor};

    use super::*;

    /// What each of `ranks` threads makes of `work`.
    fn on_each<T: Send>(ranks: usize, work: impl Fn(&dyn Reduce) -> T + Sync) -> Vec<T> {
        let meeting = Arc::new(Meeting::new(ranks));
        thread::scope(|scope| {
            let threads: Vec<_> = (0..ranks)
                .map(|rank| {
                    let (meeting, work) = (Arc::clone(&meeting), &work);
                    scope.spawn(move || work(&Threads::new(rank, meeting)))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn gradients(name: &str, values: &[f32]) -> Gradients {
        Gradients::from_iter([(name.to_owned(), Tensor::new(values, &Device::Cpu).unwrap())])
    }

    #[test]
    fn sums_are_those_in_the_order_of_ranks_on_every_rank() {
        // In f32 the order shows: (1e8 + 1) - 1e8 is 0, and (1e8 - 1e8) + 1 is 1.
        let of = [[1e8f32, 1.0], [1.0, 2.0], [-1e8, 3.0]];
        let sums = on_each(3, |ranks| {
            let own = gradients("w", &of[ranks.rank()]);
            let sum = ranks.sum_gradients(own).unwrap().get("w").unwrap().to_vec1::<f32>().unwrap();
            let numbers = ranks.sum_numbers(vec![0.1, f64::from(of[ranks.rank()][1])]).unwrap();
            (sum, numbers, ranks.gather(vec![ranks.rank(); 2]).unwrap())
        });
        for (sum, numbers, gathered) in sums {
            assert_eq!(sum, [(1e8f32 + 1.0) - 1e8, 6.0]);
            assert_eq!(numbers, [0.1 + 0.1 + 0.1, 6.0]);
            assert_eq!(gathered, [0, 0, 1, 1, 2, 2]);
        }
    }

    #[test]
    fn one_alone_does_it_and_all_have_it() {
        let made = on_each(2, |ranks| {
            ranks.once(|| if ranks.leads() { Ok::<_, RankError>("made".to_owned()) } else { panic!("twice") }).unwrap()
        });
        assert_eq!(made, ["made", "made"]);
    }

    #[test]
    fn ranks_that_bring_different_things_are_named() {
        let errors = on_each(2, |ranks| match ranks.rank() {
            0 => ranks.sum_gradients(gradients("w", &[1.0])).map(drop).unwrap_err().to_string(),
            _ => ranks.sum_gradients(gradients("v", &[1.0])).map(drop).unwrap_err().to_string(),
        });
        assert!(errors[0].starts_with("rank 1 is out of step"), "{errors:?}");
        assert!(errors[1].starts_with("rank 0 is out of step"), "{errors:?}");
        let errors = on_each(2, |ranks| match ranks.rank() {
            0 => ranks.once(|| Ok::<_, RankError>(1u8)).map(drop),
            _ => ranks.sum_numbers(vec![1.0]).map(drop),
        });
        assert!(errors.iter().all(|result| matches!(result, Err(RankError::OutOfStep { .. }))), "{errors:?}");
    }
}
