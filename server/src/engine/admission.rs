//! Who may come in: a bounded queue, deadlines that can be met, and an open door only while the server is up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::EngineError;
use super::stats::EngineStats;

/// Steps that the estimate of a step's time rests on.
const REMEMBERED: usize = 16;
/// Bounds of what a refused caller is told to wait.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// How much a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Slots that it fills.
    pub samples: u64,
    /// Steps of each.
    pub steps: u64,
}

/// Decides at once, on the caller's thread, whether a request may wait for the engine.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    capacity: usize,
    stats: Arc<EngineStats>,
    /// Samples times steps of the requests that wait.
    backlog: Arc<AtomicU64>,
    /// What the latest steps took, each over all its rows.
    steps: Mutex<VecDeque<Duration>>,
    closed: AtomicBool,
}

/// A place in the queue, given back on drop. A request keeps it until its last sample has a slot.
#[derive(Debug)]
pub struct Ticket {
    _place: OwnedSemaphorePermit,
    backlog: Arc<AtomicU64>,
    slot_steps: u64,
    /// Requests that were waiting when this one came.
    pub ahead: u32,
}

// === impl Work ===

impl Work {
    /// A look at the door.
    pub const NONE: Self = Self { samples: 0, steps: 0 };
    /// One turn of the engine: a picture to encode, a film to score.
    pub const ONE: Self = Self { samples: 1, steps: 1 };

    fn slot_steps(self) -> u64 {
        self.samples.saturating_mul(self.steps)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.slot_steps, Ordering::Relaxed);
    }
}

// === impl Admission ===

impl Admission {
    /// An open door with `capacity` places to wait, before the slots of `stats`.
    pub(super) fn new(capacity: usize, stats: Arc<EngineStats>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            capacity,
            stats,
            backlog: Arc::default(),
            steps: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a place, or says why not. Never waits.
    ///
    /// A deadline is refused only where others are in the way: an idle engine tries whatever is asked, so that a single
    /// slow step cannot lock everybody out for good.
    ///
    /// # Errors
    /// The queue is full, the deadline cannot be met, or the server is going.
    pub fn try_enter(&self, work: Work, deadline: Option<Instant>, now: Instant) -> Result<Ticket, EngineError> {
        self.check_open()?;
        let ahead = self.waiting();
        let idle = ahead == 0 && self.stats.slots_in_use() == 0;
        let place = Arc::clone(&self.places)
            .try_acquire_owned()
            .map_err(|_| EngineError::QueueFull { capacity: self.capacity, retry_after: self.retry_after() })?;
        if let Some(deadline) = deadline {
            let remaining = deadline.saturating_duration_since(now);
            if remaining.is_zero() {
                return Err(EngineError::DeadlineExceeded);
            }
            let needed = self.estimate(work);
            if !idle && needed > remaining {
                return Err(EngineError::DeadlineUnreachable { remaining, needed });
            }
        }
        Ok(self.ticket(place, work, ahead))
    }

    /// Takes a place, waiting for one: for streams that were admitted and go on.
    ///
    /// # Errors
    /// The engine is gone.
    pub async fn enter(&self, work: Work) -> Result<Ticket, EngineError> {
        self.check_open_to_admitted()?;
        let ahead = self.waiting();
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| EngineError::ShuttingDown)?;
        Ok(self.ticket(place, work, ahead))
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

    /// Tells how long a step took, over all its rows.
    pub(super) fn measured(&self, took: Duration) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() == REMEMBERED {
            steps.pop_front();
        }
        steps.push_back(took);
    }

    /// The least time that `work` needs behind those who wait: every slot filled in every step, and each step as quick as
    /// the quickest of the latest. Too low rather than too high, so that nobody is refused who would have been served.
    fn estimate(&self, work: Work) -> Duration {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let quickest = steps.iter().min().copied().unwrap_or_default();
        drop(steps);
        let ahead = self.backlog.load(Ordering::Relaxed);
        let slots = u64::try_from(self.stats.max_slots().max(1)).unwrap_or(u64::MAX);
        let calls = ahead.saturating_add(work.slot_steps()).div_ceil(slots).max(work.steps);
        quickest.saturating_mul(u32::try_from(calls).unwrap_or(u32::MAX))
    }

    fn retry_after(&self) -> Duration {
        // When about one of those who wait will have found a slot.
        let all = self.estimate(Work::NONE);
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

    fn ticket(&self, place: OwnedSemaphorePermit, work: Work, ahead: usize) -> Ticket {
        let slot_steps = work.slot_steps();
        self.backlog.fetch_add(slot_steps, Ordering::Relaxed);
        Ticket {
            _place: place,
            backlog: Arc::clone(&self.backlog),
            slot_steps,
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: usize = 2;

    /// A door before two slots, of which so many are in use.
    fn admission(capacity: usize, in_use: usize) -> Admission {
        let stats = Arc::new(EngineStats::new(SLOTS));
        stats.set_slots_in_use(in_use);
        Admission::new(capacity, stats)
    }

    fn steps(steps: u64) -> Work {
        Work { samples: 1, steps }
    }

    #[test]
    fn a_full_queue_refuses_and_says_when_to_come_back() {
        let admission = admission(2, 2);
        let now = Instant::now();
        let first = admission.try_enter(steps(8), None, now).expect("one");
        let _second = admission.try_enter(steps(8), None, now).expect("two");
        let refused = admission.try_enter(steps(8), None, now).expect_err("three");
        let EngineError::QueueFull { capacity, retry_after } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(capacity, 2);
        assert!(retry_after >= RETRY_AFTER.0);
        drop(first);
        admission.try_enter(steps(8), None, now).expect("a place is free");
    }

    #[test]
    fn a_deadline_that_cannot_be_met_is_refused_and_takes_no_place() {
        let admission = admission(8, 1);
        admission.measured(Duration::from_millis(200));
        let now = Instant::now();
        let deadline = Some(now + Duration::from_millis(750));
        assert!(matches!(admission.try_enter(steps(4), deadline, now), Err(EngineError::DeadlineUnreachable { .. })));
        assert_eq!(admission.waiting(), 0);
        let ticket = admission.try_enter(steps(3), deadline, now).expect("in time");
        assert_eq!(ticket.ahead, 0);
        // Two slots take two samples in the time of one, and no more.
        let _beside = admission.try_enter(steps(3), deadline, now).expect("in the other slot");
        assert!(admission.try_enter(steps(3), deadline, now).is_err(), "not behind both");
    }

    #[test]
    fn many_samples_in_few_slots_take_their_turns() {
        let admission = admission(8, 1);
        admission.measured(Duration::from_millis(100));
        let now = Instant::now();
        let enter =
            |samples| admission.try_enter(Work { samples, steps: 4 }, Some(now + Duration::from_millis(1000)), now);
        assert!(enter(6).is_err(), "12 steps in two slots");
        assert!(enter(5).is_ok(), "10 steps");
    }

    #[test]
    fn a_single_slow_step_locks_nobody_out() {
        let now = Instant::now();
        let deadline = Some(now + Duration::from_secs(10));
        let idle = admission(8, 0);
        idle.measured(Duration::from_secs(60));
        idle.try_enter(steps(16), deadline, now).expect("an idle engine tries");

        // Nor among others, once a step was as quick as usual again, whatever came before and after.
        let busy = admission(8, 1);
        for seconds in [60.0, 0.1, 60.0] {
            busy.measured(Duration::from_secs_f64(seconds));
        }
        busy.try_enter(steps(16), deadline, now).expect("in time by the quickest");
    }

    #[test]
    fn old_steps_are_forgotten() {
        let admission = admission(8, 1);
        let now = Instant::now();
        admission.measured(Duration::from_millis(1));
        for _ in 0..REMEMBERED {
            admission.measured(Duration::from_secs(1));
        }
        let deadline = Some(now + Duration::from_secs(3));
        assert!(admission.try_enter(steps(4), deadline, now).is_err());
    }

    #[test]
    fn nothing_is_known_before_the_first_step_so_nobody_is_refused_for_time() {
        let admission = admission(1, 1);
        let now = Instant::now();
        admission.try_enter(steps(1_000_000), Some(now + Duration::from_millis(1)), now).expect("admitted");
    }

    #[test]
    fn a_closed_door_lets_nobody_in() {
        let admission = admission(1, 0);
        admission.close();
        let refused = admission.try_enter(Work::ONE, None, Instant::now()).expect_err("closed");
        assert_eq!(refused, EngineError::ShuttingDown);
    }

    #[tokio::test]
    async fn those_who_wait_are_woken_when_the_engine_goes() {
        let admission = Arc::new(admission(1, 0));
        let _held = admission.try_enter(Work::ONE, None, Instant::now()).expect("held");
        let waiting = tokio::spawn({
            let admission = Arc::clone(&admission);
            async move { admission.enter(Work::ONE).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        admission.shut();
        assert_eq!(waiting.await.expect("joined"), Err(EngineError::ShuttingDown));
    }
}
