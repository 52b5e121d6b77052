//! How much of the steps' time goes by waiting for films.

use std::time::{Duration, Instant};

/// Time of steps, each from when it asks for its films to when it has ended; validations and saving are in none.
#[derive(Debug, Default)]
pub struct Waits {
    /// When the step that goes on began, and how long it waited.
    current: Option<(Instant, Duration)>,
    waited: Duration,
    steps: Duration,
}

impl Waits {
    /// A step begins by getting its films.
    pub fn data<T>(&mut self, films: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let films = films();
        self.current = Some((begun, begun.elapsed()));
        films
    }

    /// The step ends: the share of its time that it waited; `None` where it was not seen to begin.
    pub fn step_ended(&mut self) -> Option<f64> {
        self.ended_at(Instant::now())
    }

    fn ended_at(&mut self, now: Instant) -> Option<f64> {
        let (begun, waited) = self.current.take()?;
        let step = now.saturating_duration_since(begun);
        self.waited += waited;
        self.steps += step;
        Some(share(waited, step))
    }

    /// Takes in the steps that others have seen.
    pub fn add(&mut self, others: &Self) {
        self.waited += others.waited;
        self.steps += others.steps;
    }

    /// The share of all steps' time that was waited; `None` before the first.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (!self.steps.is_zero()).then(|| share(self.waited, self.steps))
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_between_steps_is_in_no_share() {
        let (begun, second) = (Instant::now(), Duration::from_secs(1));
        let mut waits = Waits::default();
        assert_eq!((waits.share(), waits.step_ended()), (None, None));
        waits.current = Some((begun, second));
        assert_eq!(waits.ended_at(begun + 2 * second), Some(0.5));
        // A validation of 98 s, then a step that waits for nothing.
        waits.current = Some((begun + 100 * second, Duration::ZERO));
        assert_eq!(waits.ended_at(begun + 108 * second), Some(0.0));
        assert_eq!(waits.share(), Some(0.1));
        let mut all = Waits { steps: 10 * second, ..Waits::default() };
        all.add(&waits);
        assert_eq!(all.share(), Some(0.05));
    }

    #[test]
    fn getting_the_films_is_what_is_waited() {
        let mut waits = Waits::default();
        let films = waits.data(|| {
            std::thread::sleep(Duration::from_millis(20));
            7
        });
        let waited = waits.current.map_or(Duration::ZERO, |(_, waited)| waited);
        assert!(films == 7 && waited >= Duration::from_millis(20), "{waited:?}");
    }
}
