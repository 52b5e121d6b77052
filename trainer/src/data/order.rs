//! Which films a step sees: every film once an epoch, or as often as its weight says, in an order keyed by (seed, epoch),
//! whatever ran before.

use raygen_model::random::{Purpose, Randomness, shuffle, uniform};

/// Added to the epoch of a film each further time that it is drawn within it, so that its masks and shifts are others.
const AGAIN: u64 = 1 << 40;

/// The same for a draw that rounding left over: more than any film is drawn in an epoch.
const BEYOND: u64 = 1 << 62;

/// The order of `count` films.
pub struct FilmOrder {
    randomness: Randomness,
    count: usize,
    /// How often each film is drawn in an epoch, on average; none: once.
    weights: Option<Vec<f64>>,
    epoch: Option<(u64, Vec<(usize, u64)>)>,
}

impl FilmOrder {
    /// An order of films `0..count`; `seed` is the run's.
    #[must_use]
    pub fn new(seed: u64, count: usize) -> Self {
        Self { randomness: Randomness::new(seed, Purpose::Shuffle), count, weights: None, epoch: None }
    }

    /// An order of as many films as there are weights, with as many draws an epoch: each film is drawn as often as its share of
    /// the weights says, rounded down or up (systematic sampling, from one random number an epoch).
    #[must_use]
    pub fn weighted(seed: u64, weights: Vec<f64>) -> Self {
        Self { count: weights.len(), weights: Some(weights), ..Self::new(seed, 0) }
    }

    /// The `batch` films of step `step` (from 0), each with the epoch in which it is seen.
    pub fn batch(&mut self, step: u64, batch: usize) -> Vec<(usize, u64)> {
        self.draws(step * batch as u64, batch)
    }

    /// The same for one of several ranks, each of which takes `batch` films of a step: of (rank, ranks), the ranks' films one after
    /// another are those of one batch of all.
    pub fn batch_of(&mut self, step: u64, batch: usize, (rank, ranks): (usize, usize)) -> Vec<(usize, u64)> {
        self.batch(step * ranks as u64 + rank as u64, batch)
    }

    /// The films of `draws` draws from the `first` on, counted over all epochs, each with a number that no other draw of this film
    /// has: the epoch, where films are drawn once in each.
    pub fn draws(&mut self, first: u64, draws: usize) -> Vec<(usize, u64)> {
        if self.count == 0 {
            return Vec::new();
        }
        (first..first + draws as u64)
            .map(|draw| {
                let (epoch, place) = (draw / self.count as u64, draw % self.count as u64);
                self.shuffled(epoch)[place as usize]
            })
            .collect()
    }

    fn shuffled(&mut self, epoch: u64) -> &[(usize, u64)] {
        if self.epoch.as_ref().is_none_or(|(e, _)| *e != epoch) {
            let mut order: Vec<usize> = (0..self.count).collect();
            shuffle(&mut self.randomness.stream(epoch, 0), &mut order);
            let drawn = match &self.weights {
                None => order.into_iter().map(|film| (film, epoch)).collect(),
                Some(weights) => self.drawn(epoch, &order, weights),
            };
            self.epoch = Some((epoch, drawn));
        }
        self.epoch.as_ref().map_or(&[], |(_, order)| order)
    }

    /// Films of an epoch by their weights: along the weights of the films in `order`, a draw at every `total / count`.
    fn drawn(&self, epoch: u64, order: &[usize], weights: &[f64]) -> Vec<(usize, u64)> {
        let total: f64 = order.iter().map(|film| weights[*film]).sum();
        let offset = f64::from(uniform(&mut self.randomness.stream(epoch, 1)));
        let mut drawn = Vec::with_capacity(self.count);
        let (mut reached, mut last) = (0.0, 0);
        for film in order {
            if weights[*film] > 0.0 {
                last = *film;
            }
            reached += weights[*film] / total * self.count as f64;
            let mut times = 0;
            while drawn.len() < self.count && drawn.len() as f64 + offset < reached {
                drawn.push((*film, epoch + times * AGAIN));
                times += 1;
            }
        }
        // Only where rounding left the sum of weights a hair short.
        drawn.resize(self.count, (last, epoch + BEYOND));
        shuffle(&mut self.randomness.stream(epoch, 2), &mut drawn);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let weights: Vec<f64> = (0..13).map(|film| 0.25 + f64::from(film % 4)).collect();
        let orders = [|_: &[f64]| FilmOrder::new(7, 13), |weights: &[f64]| FilmOrder::weighted(7, weights.to_vec())];
        for order in orders {
            let mut walked = order(&weights);
            for step in 0..20 {
                walked.batch(step, 4);
            }
            assert_eq!(walked.batch(20, 4), order(&weights).batch(20, 4));
        }
    }

    #[test]
    fn films_are_drawn_as_often_as_they_weigh_and_never_twice_under_one_number() {
        let weights = [0.5, 0.5, 0.5, 0.5, 2.0, 3.5, 0.5, 0.0];
        let mut order = FilmOrder::weighted(3, weights.to_vec());
        let mut counts = [0u32; 8];
        let mut numbers = BTreeSet::new();
        for epoch in 0..1000u64 {
            let drawn = order.draws(epoch * 8, 8);
            for (film, weight) in weights.iter().enumerate() {
                let times = drawn.iter().filter(|(of, _)| *of == film).count() as f64;
                assert!((times - weight).abs() < 1.0, "epoch {epoch}: film {film} {times} times");
            }
            for (film, number) in drawn {
                counts[film] += 1;
                assert!(numbers.insert((film, number)), "{film} {number} twice");
                assert_eq!(number % AGAIN, epoch);
            }
        }
        for (count, weight) in counts.iter().zip(weights) {
            // Five standard deviations of a thousand rounded draws.
            assert!((f64::from(*count) - 1000.0 * weight).abs() < 80.0, "{counts:?}");
        }
    }

    #[test]
    fn equal_weights_draw_every_film_once() {
        let mut films: Vec<_> = FilmOrder::weighted(1, vec![1.0; 50]).draws(100, 50);
        films.sort_unstable();
        assert_eq!(films, (0..50).map(|film| (film, 2)).collect::<Vec<_>>());
    }
}
