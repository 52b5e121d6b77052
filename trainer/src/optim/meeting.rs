//! Where the ranks of a process meet: each brings a word and leaves with those of all. A rank that is gone releases the others.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::reduce::{RankError, Word};

/// A place to meet for so many ranks, as often as they like.
pub struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Meetings that took place.
    turn: u64,
    /// The words of those that came to the next one, by rank.
    words: Vec<Option<Word>>,
    /// All words of the last one, and how many ranks have yet to fetch them.
    last: (Vec<Word>, usize),
    /// The first rank that is gone, and why.
    gone: Option<(usize, String)>,
}

// === impl Meeting ===

impl Meeting {
    /// For the ranks `0..ranks`.
    #[must_use]
    pub fn new(ranks: usize) -> Self {
        let state = State { words: vec![None; ranks], ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// How many meet.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.state().words.len()
    }

    /// The words of all ranks, in their order, when all have come.
    ///
    /// # Errors
    /// Where a rank is gone, and will not come: which, and why.
    pub fn attend(&self, rank: usize, word: Word) -> Result<Vec<Word>, RankError> {
        let mut state = self.state();
        state.refuse_without_all()?;
        state.words[rank] = Some(word);
        if state.words.iter().all(Option::is_some) {
            let all: Vec<Word> = state.words.iter_mut().filter_map(Option::take).collect();
            state.turn += 1;
            state.last = (all.clone(), all.len() - 1);
            self.changed.notify_all();
            return Ok(all);
        }
        let turn = state.turn;
        while state.turn == turn {
            // After the turn nothing is refused: a rank may come to a meeting and be gone before the others have left it.
            state.refuse_without_all()?;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // The next meeting needs this rank: the words cannot have been replaced.
        state.last.1 -= 1;
        // The last one takes them, so that no tensor outlives its use.
        Ok(if state.last.1 == 0 { std::mem::take(&mut state.last.0) } else { state.last.0.clone() })
    }

    /// Says that `rank` will not come any more. The first to go counts.
    pub fn leave(&self, rank: usize, why: &str) {
        self.state().gone.get_or_insert_with(|| (rank, why.to_owned()));
        self.changed.notify_all();
    }

    /// The first rank that went, if one did.
    #[must_use]
    pub fn first_gone(&self) -> Option<usize> {
        self.state().gone.as_ref().map(|(rank, _)| *rank)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    fn refuse_without_all(&self) -> Result<(), RankError> {
        match &self.gone {
            Some((rank, why)) => Err(RankError::Ended { rank: *rank, why: why.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::thread;

    use super::*;

    fn numbers(words: &[Word]) -> Vec<u64> {
        words.iter().map(|word| *word.downcast_ref::<u64>().unwrap()).collect()
    }

    #[test]
    fn every_rank_hears_all_words_of_every_meeting_in_order() {
        let meeting = Meeting::new(3);
        thread::scope(|scope| {
            for rank in 0..3u64 {
                let meeting = &meeting;
                scope.spawn(move || {
                    for turn in 0..500 {
                        let words = meeting.attend(rank as usize, Arc::new(turn * 10 + rank)).unwrap();
                        assert_eq!(numbers(&words), [turn * 10, turn * 10 + 1, turn * 10 + 2]);
                    }
                    // One that goes after the last meeting takes nothing from those that are still in it.
                    meeting.leave(rank as usize, "done");
                });
            }
        });
        assert!(meeting.state().last.0.is_empty(), "words that all have heard are kept alive");
    }

    #[test]
    fn a_rank_that_goes_releases_those_that_wait_and_those_that_come_later() {
        let meeting = Meeting::new(3);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.attend(0, Arc::new(0u64)).map(drop));
            meeting.leave(2, "its disk is full");
            meeting.leave(1, "because of rank 2");
            for result in [waiting.join().unwrap(), meeting.attend(1, Arc::new(1u64)).map(drop)] {
                assert_eq!(result.unwrap_err().to_string(), "rank 2 ended: its disk is full");
            }
        });
        assert_eq!(meeting.first_gone(), Some(2));
    }
}
