//! What the coming steps need, made on a thread of its own while a step computes. What a step gets is a function of the step
//! alone, so that it is the same however far ahead the thread is, and after a restart.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use super::FilmError;

/// Steps that are ready and wait; one more is being made.
const READY: usize = 2;

/// Makes what a step needs.
type Make<T> = Box<dyn FnMut(u64) -> Result<T, FilmError> + Send>;

/// Makes what steps need, ahead of them.
pub struct Ahead<T> {
    worker: Option<Worker<T>>,
    /// Steps from here on do not come.
    end: u64,
}

struct Worker<T> {
    ready: Receiver<Result<T, FilmError>>,
    /// The step that is received next.
    next: u64,
    /// Gives back what makes the steps when nobody receives any more.
    thread: JoinHandle<Make<T>>,
}

// === impl Ahead ===

impl<T: Send + 'static> Ahead<T> {
    /// Begins at once to make what the steps from `step` up to `end` need.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn new(
        step: u64,
        end: u64,
        make: impl FnMut(u64) -> Result<T, FilmError> + Send + 'static,
    ) -> Result<Self, FilmError> {
        Ok(Self { worker: Some(Worker::begin(step, end, Box::new(make))?), end })
    }

    /// What step `step` needs. It is there already where the thread was fast enough and this is the step after the last one;
    /// after a jump the thread begins anew at `step`.
    ///
    /// # Errors
    /// What went wrong in making it, or that the thread ended.
    pub fn take(&mut self, step: u64) -> Result<T, FilmError> {
        if self.worker.as_ref().is_none_or(|worker| worker.next != step) {
            let Worker { ready, thread, .. } = self.worker.take().ok_or(FilmError::LoaderEnded)?;
            drop(ready);
            let make = thread.join().map_err(|_| FilmError::LoaderEnded)?;
            self.worker = Some(Worker::begin(step, self.end.max(step + 1), make)?);
        }
        let worker = self.worker.as_mut().ok_or(FilmError::LoaderEnded)?;
        worker.next += 1;
        worker.ready.recv().map_err(|_| FilmError::LoaderEnded)?
    }
}

// === impl Worker ===

impl<T: Send + 'static> Worker<T> {
    fn begin(step: u64, end: u64, mut make: Make<T>) -> Result<Self, FilmError> {
        let (sender, ready) = sync_channel(READY);
        let work = move || {
            for step in step..end {
                let made = make(step);
                let failed = made.is_err();
                // Nobody receives any more where the stage has ended or begins elsewhere.
                if sender.send(made).is_err() || failed {
                    break;
                }
            }
            make
        };
        let thread = thread::Builder::new().name("films".to_owned()).spawn(work).map_err(FilmError::Thread)?;
        Ok(Self { ready, next: step, thread })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    fn until(what: impl Fn() -> bool) {
        let begun = Instant::now();
        while !what() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not happen");
            thread::yield_now();
        }
    }

    #[test]
    fn steps_are_made_ahead_in_order_and_never_more_than_a_few() {
        let made = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&made);
        let mut ahead = Ahead::new(5, 100, move |step| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(step * 10)
        })
        .unwrap();
        until(|| made.load(Ordering::SeqCst) == READY as u64 + 1);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), READY as u64 + 1, "memory stays bounded");
        assert_eq!((ahead.take(5).unwrap(), ahead.take(6).unwrap()), (50, 60));
        until(|| made.load(Ordering::SeqCst) == READY as u64 + 3);
    }

    #[test]
    fn after_a_jump_the_step_that_is_asked_for_comes() {
        let mut ahead = Ahead::new(0, 10, Ok).unwrap();
        let steps = [0, 1, 2, 1, 2, 9, 4, 10];
        assert_eq!(steps.map(|step| ahead.take(step).unwrap()), steps);
    }

    #[test]
    fn what_goes_wrong_reaches_the_step_that_needs_it() {
        let mut ahead = Ahead::new(0, 10, |step| match step {
            1 => Err(FilmError::Thread(std::io::Error::other("no disk"))),
            _ => Ok(step),
        })
        .unwrap();
        assert_eq!(ahead.take(0).unwrap(), 0);
        assert!(ahead.take(1).unwrap_err().to_string().contains("no disk"));
        assert!(matches!(ahead.take(2), Err(FilmError::LoaderEnded)));
    }

    #[test]
    fn a_panic_in_the_thread_is_an_error_of_the_step() {
        let mut ahead = Ahead::new(0, 10, |_| -> Result<(), FilmError> { panic!("a fault of a test") }).unwrap();
        assert!(matches!(ahead.take(0), Err(FilmError::LoaderEnded)));
    }
}
