//! The pure core of the engine: who waits, who runs, who is next. No clock, no device, no channel of its own.

use std::collections::VecDeque;
use std::time::Instant;

/// A request, as the worker names it.
pub(super) type RequestId = u64;

/// One sample of one request in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Row {
    /// The request.
    pub(super) request: RequestId,
    /// The sample, from 0.
    pub(super) sample: u32,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    request: RequestId,
    next_sample: u32,
    sample_count: u32,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    request: RequestId,
    unfinished: u32,
    deadline: Option<Instant>,
}

/// A row that was given a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Started {
    /// The row.
    pub(super) row: Row,
    /// Whether the request waits no more: this was its last sample.
    pub(super) last: bool,
}

/// First come, first served: samples take slots in the order of their requests and leave when they are done.
#[derive(Debug)]
pub(super) struct Scheduler {
    max_slots: usize,
    slots: Vec<Row>,
    waiting: VecDeque<Waiting>,
    live: Vec<Live>,
}

impl Scheduler {
    /// An empty scheduler with `max_slots` slots.
    pub(super) fn new(max_slots: usize) -> Self {
        Self { max_slots: max_slots.max(1), slots: Vec::new(), waiting: VecDeque::new(), live: Vec::new() }
    }

    /// Puts a request of `sample_count` samples (at least 1) at the end of the queue.
    pub(super) fn submit(&mut self, request: RequestId, sample_count: u32, deadline: Option<Instant>) {
        let sample_count = sample_count.max(1);
        self.waiting.push_back(Waiting { request, next_sample: 0, sample_count });
        self.live.push(Live { request, unfinished: sample_count, deadline });
    }

    /// Gives free slots to those who wait, in order.
    pub(super) fn fill(&mut self) -> Vec<Started> {
        let mut started = Vec::new();
        while self.slots.len() < self.max_slots {
            let Some(front) = self.waiting.front_mut() else {
                break;
            };
            let row = Row { request: front.request, sample: front.next_sample };
            front.next_sample += 1;
            let last = front.next_sample == front.sample_count;
            if last {
                self.waiting.pop_front();
            }
            self.slots.push(row);
            started.push(Started { row, last });
        }
        started
    }

    /// The rows of the next step.
    pub(super) fn rows(&self) -> &[Row] {
        &self.slots
    }

    /// Frees the slot of a finished row; true when it was the last one of its request.
    pub(super) fn finish(&mut self, row: Row) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| *slot != row);
        if self.slots.len() == before {
            return false;
        }
        let Some(place) = self.live.iter().position(|l| l.request == row.request) else {
            return false;
        };
        self.live[place].unfinished -= 1;
        let done = self.live[place].unfinished == 0;
        if done {
            self.live.remove(place);
        }
        done
    }

    /// Forgets a request wherever it is; its slots are free at once.
    pub(super) fn remove(&mut self, request: RequestId) {
        self.slots.retain(|slot| slot.request != request);
        self.waiting.retain(|w| w.request != request);
        self.live.retain(|l| l.request != request);
    }

    /// Requests whose deadline has passed.
    pub(super) fn expired(&self, now: Instant) -> Vec<RequestId> {
        self.live.iter().filter(|l| l.deadline.is_some_and(|deadline| deadline <= now)).map(|l| l.request).collect()
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn samples_start_in_order_and_a_free_slot_goes_to_the_next() {
        let mut scheduler = Scheduler::new(2);
        scheduler.submit(1, 3, None);
        scheduler.submit(2, 1, None);
        let rows: Vec<_> = scheduler.fill().into_iter().map(|s| s.row).collect();
        assert_eq!(rows, [Row { request: 1, sample: 0 }, Row { request: 1, sample: 1 }]);
        assert!(scheduler.fill().is_empty());
        assert!(!scheduler.finish(rows[0]));
        assert_eq!(scheduler.fill(), [Started { row: Row { request: 1, sample: 2 }, last: true }]);
    }

    #[test]
    fn a_removed_request_frees_its_slots_at_once() {
        let mut scheduler = Scheduler::new(2);
        scheduler.submit(1, 5, None);
        scheduler.submit(2, 2, None);
        scheduler.fill();
        scheduler.remove(1);
        let rows: Vec<_> = scheduler.fill().into_iter().map(|s| s.row.request).collect();
        assert_eq!(rows, [2, 2]);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Submit { samples: u32, lives: Option<u64> },
        Step,
        Cancel(usize),
        Wait(u64),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            3 => (1u32..6, proptest::option::of(0u64..20))
                .prop_map(|(samples, lives)| Act::Submit { samples, lives }),
            5 => Just(Act::Step),
            1 => (0usize..64).prop_map(Act::Cancel),
            1 => (1u64..8).prop_map(Act::Wait),
        ];
        proptest::collection::vec(act, 1..200)
    }

    proptest! {
        /// Whatever happens: slots are never overfull nor idle while someone waits, every sample runs once, requests
        /// start in order of arrival, none runs past its deadline, and all places are free in the end.
        #[test]
        fn promises_hold_for_any_course_of_events(acts in acts(), max_slots in 1usize..6) {
            let mut scheduler = Scheduler::new(max_slots);
            let origin = Instant::now();
            let mut now = origin;
            let mut ids = Vec::new();
            let mut gone = BTreeSet::new();
            let mut left: BTreeMap<u64, u32> = BTreeMap::new();
            let mut deadlines: BTreeMap<u64, Option<Instant>> = BTreeMap::new();
            let mut ran = BTreeSet::new();
            let mut newest_started = 0;
            let tail = std::iter::repeat_n(Act::Step, 1200);
            for act in acts.into_iter().chain(tail) {
                match act {
                    Act::Submit { samples, lives } => {
                        let id = ids.len() as u64;
                        let deadline = lives.map(|l| now + Duration::from_secs(l));
                        scheduler.submit(id, samples, deadline);
                        ids.push(id);
                        left.insert(id, samples);
                        deadlines.insert(id, deadline);
                    }
                    Act::Wait(seconds) => now += Duration::from_secs(seconds),
                    Act::Cancel(which) => {
                        if let Some(id) = ids.get(which) {
                            scheduler.remove(*id);
                            gone.insert(*id);
                            left.remove(id);
                        }
                    }
                    Act::Step => {
                        for id in scheduler.expired(now) {
                            scheduler.remove(id);
                            gone.insert(id);
                            left.remove(&id);
                        }
                        for started in scheduler.fill() {
                            prop_assert!(ran.insert(started.row), "each sample starts once");
                            prop_assert!(started.row.request >= newest_started, "in order");
                            newest_started = started.row.request;
                        }
                        prop_assert!(scheduler.rows().len() <= max_slots);
                        for row in scheduler.rows() {
                            prop_assert!(!gone.contains(&row.request), "nothing runs after it left");
                            prop_assert!(deadlines[&row.request].is_none_or(|d| d > now));
                        }
                        if scheduler.rows().len() < max_slots {
                            prop_assert!(scheduler.waiting.is_empty(), "no slot idles while someone waits");
                        }
                        if let Some(row) = scheduler.rows().first().copied() {
                            let done = scheduler.finish(row);
                            let unfinished = left.get_mut(&row.request).expect("known");
                            *unfinished -= 1;
                            prop_assert_eq!(done, *unfinished == 0);
                            if done {
                                left.remove(&row.request);
                            }
                        }
                    }
                }
            }
            prop_assert!(scheduler.is_idle());
            prop_assert!(scheduler.live.is_empty());
            prop_assert!(left.is_empty(), "everyone who stayed was served");
        }
    }
}
