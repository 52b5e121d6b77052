//! Which films a step sees: every film once an epoch, in an order keyed by (seed, epoch), whatever ran before.

use raygen_model::random::{Purpose, Randomness, shuffle};

/// The order of `count` films.
pub struct FilmOrder {
    randomness: Randomness,
    count: usize,
    epoch: Option<(u64, Vec<usize>)>,
}

impl FilmOrder {
    /// An order of films `0..count`; `seed` is the run's.
    #[must_use]
    pub fn new(seed: u64, count: usize) -> Self {
        Self { randomness: Randomness::new(seed, Purpose::Shuffle), count, epoch: None }
    }

    /// The `batch` films of step `step` (from 0), each with the epoch in which it is seen.
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<(usize, u64)> {
        if self.count == 0 {
            return Vec::new();
        }
        let first = step * batch as u64;
        (first..first + batch as u64)
            .map(|draw| {
                let (epoch, place) = (draw / self.count as u64, draw % self.count as u64);
                (self.shuffled(epoch)[place as usize], epoch)
            })
            .collect()
    }

    fn shuffled(&mut self, epoch: u64) -> &[usize] {
        if self.epoch.as_ref().is_none_or(|(e, _)| *e != epoch) {
            let mut order: Vec<usize> = (0..self.count).collect();
            shuffle(&mut self.randomness.stream(epoch, 0), &mut order);
            self.epoch = Some((epoch, order));
        }
        self.epoch.as_ref().map_or(&[], |(_, order)| order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_film_is_seen_once_an_epoch_and_epochs_differ() {
        let mut order = FilmOrder::new(7, 10);
        let epoch = |order: &mut FilmOrder, e: u64| -> Vec<usize> {
            (0..5).flat_map(|s| order.batch(e * 5 + s, 2)).map(|(film, _)| film).collect()
        };
        let (first, second) = (epoch(&mut order, 0), epoch(&mut order, 1));
        for seen in [&first, &second] {
            let mut sorted = seen.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        assert_ne!(first, second);
    }

    #[test]
    fn a_step_sees_the_same_films_whether_or_not_earlier_steps_ran() {
        let mut walked = FilmOrder::new(7, 13);
        for step in 0..20 {
            walked.batch(step, 4);
        }
        assert_eq!(walked.batch(20, 4), FilmOrder::new(7, 13).batch(20, 4));
    }
}
