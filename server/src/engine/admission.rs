//! Who may come in: a bounded queue, deadlines that can be met, and an open door only while the server is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::EngineError;

/// Weight of the newest measurement in the running mean of a row's step time.
const NEWEST: f64 = 0.2;
/// Bounds of what a refused caller is told to wait.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Decides at once, on the caller's thread, whether a request may wait for the engine.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    capacity: usize,
    /// Row-steps of the requests that wait.
    backlog: Arc<AtomicU64>,
    /// Running mean of the time of one row in one step, as the bits of an f64 of seconds; 0 before the first.
    row_step: AtomicU64,
    closed: AtomicBool,
}

/// A place in the queue, given back on drop. A request keeps it until its last sample has a slot.
#[derive(Debug)]
pub struct Ticket {
    _place: OwnedSemaphorePermit,
    backlog: Arc<AtomicU64>,
    row_steps: u64,
    /// Requests that were waiting when this one came.
    pub ahead: u32,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.row_steps, Ordering::Relaxed);
    }
}

// === impl Admission ===

impl Admission {
    /// An open door with `capacity` places to wait.
    pub fn new(capacity: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            backlog: Arc::default(),
            row_step: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a place for `row_steps` of work, or says why not. Never waits.
    pub fn try_enter(&self, row_steps: u64, deadline: Option<Instant>, now: Instant) -> Result<Ticket, EngineError> {
        self.check_open()?;
        let ahead = self.waiting();
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| EngineError::QueueFull { capacity: self.capacity, retry_after: self.retry_after() })?;
        if let Some(deadline) = deadline {
            let remaining = deadline.saturating_duration_since(now);
            let needed = self.estimate(row_steps);
            if remaining.is_zero() {
                return Err(EngineError::DeadlineExceeded);
            }
            if needed > remaining {
                return Err(EngineError::DeadlineUnreachable { remaining, needed });
            }
        }
        Ok(self.ticket(place, row_steps, ahead))
    }

    /// Takes a place, waiting for one: for streams that were admitted and go on.
    pub async fn enter(&self, row_steps: u64) -> Result<Ticket, EngineError> {
        self.check_open_to_admitted()?;
        let ahead = self.waiting();
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| EngineError::ShuttingDown)?;
        Ok(self.ticket(place, row_steps, ahead))
    }

    /// Lets nobody new in; what was admitted goes on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Lets nobody in and wakes those who wait: the engine is gone.
    pub fn shut(&self) {
        self.close();
        self.places.close();
    }

    /// Whether nobody new is let in.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.capacity.saturating_sub(self.places.available_permits())
    }

    /// Places to wait.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Tells how long a step of `rows` rows took.
    pub fn measured(&self, rows: usize, took: Duration) {
        if rows == 0 {
            return;
        }
        let newest = took.as_secs_f64() / rows as f64;
        let mean = f64::from_bits(self.row_step.load(Ordering::Relaxed));
        let next = if mean == 0.0 { newest } else { mean + NEWEST * (newest - mean) };
        self.row_step.store(next.to_bits(), Ordering::Relaxed);
    }

    /// The least time that `row_steps` need behind those who wait; too low rather than too high, so that nobody is
    /// refused who would have been served.
    fn estimate(&self, row_steps: u64) -> Duration {
        let ahead = self.backlog.load(Ordering::Relaxed);
        let seconds = f64::from_bits(self.row_step.load(Ordering::Relaxed));
        let needed = seconds * (ahead.saturating_add(row_steps)) as f64;
        Duration::try_from_secs_f64(needed).unwrap_or(Duration::MAX)
    }

    fn retry_after(&self) -> Duration {
        // When about one of those who wait will have found a slot.
        let all = self.estimate(0);
        let one = all / u32::try_from(self.capacity.max(1)).unwrap_or(u32::MAX);
        one.clamp(RETRY_AFTER.0, RETRY_AFTER.1)
    }

    fn check_open(&self) -> Result<(), EngineError> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(EngineError::ShuttingDown);
        }
        Ok(())
    }

    fn check_open_to_admitted(&self) -> Result<(), EngineError> {
        if self.places.is_closed() {
            return Err(EngineError::ShuttingDown);
        }
        Ok(())
    }

    fn ticket(&self, place: OwnedSemaphorePermit, row_steps: u64, ahead: usize) -> Ticket {
        self.backlog.fetch_add(row_steps, Ordering::Relaxed);
        Ticket {
            _place: place,
            backlog: Arc::clone(&self.backlog),
            row_steps,
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_and_says_when_to_come_back() {
        let admission = Admission::new(2);
        let now = Instant::now();
        let first = admission.try_enter(8, None, now).expect("one");
        let _second = admission.try_enter(8, None, now).expect("two");
        let refused = admission.try_enter(8, None, now).expect_err("three");
        let EngineError::QueueFull { capacity, retry_after } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(capacity, 2);
        assert!(retry_after >= RETRY_AFTER.0);
        drop(first);
        admission.try_enter(8, None, now).expect("a place is free");
    }

    #[test]
    fn a_deadline_that_cannot_be_met_is_refused_and_takes_no_place() {
        let admission = Admission::new(2);
        admission.measured(2, Duration::from_millis(200));
        let now = Instant::now();
        let deadline = Some(now + Duration::from_millis(750));
        assert!(matches!(admission.try_enter(8, deadline, now), Err(EngineError::DeadlineUnreachable { .. })));
        assert_eq!(admission.waiting(), 0);
        let ticket = admission.try_enter(7, deadline, now).expect("in time");
        assert_eq!(ticket.ahead, 0);
        assert!(admission.try_enter(7, deadline, now).is_err(), "not behind the first");
    }

    #[test]
    fn nothing_is_known_before_the_first_step_so_nobody_is_refused_for_time() {
        let admission = Admission::new(1);
        let now = Instant::now();
        admission.try_enter(1_000_000, Some(now + Duration::from_millis(1)), now).expect("admitted");
    }

    #[test]
    fn a_closed_door_lets_nobody_in() {
        let admission = Admission::new(1);
        admission.close();
        assert_eq!(admission.try_enter(1, None, Instant::now()).expect_err("closed"), EngineError::ShuttingDown);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_when_the_engine_goes() {
        let admission = Arc::new(Admission::new(1));
        let _held = admission.try_enter(1, None, Instant::now()).expect("held");
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.enter(1).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        admission.shut();
        assert_eq!(waiting.await.expect("joined"), Err(EngineError::ShuttingDown));
    }
}
