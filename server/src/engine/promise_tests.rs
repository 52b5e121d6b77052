//! The engine's promises as invariants, under random histories: submit, cancel, expire, step, fail, read late, run out of memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::tests::Bench;
use crate::engine::EngineError;
use crate::engine::fake::{FAIL, NAN};
use crate::engine::outbox::{Envelope, Event, Inbox};
use crate::engine::request::{Generation, Preview};

const SLOTS: usize = 3;
const WORDS: [&str; 5] = ["edema", "pneumonia", "no acute effusion", NAN, FAIL];

#[derive(Debug, Clone)]
enum Act {
    Submit {
        words: usize,
        samples: usize,
        steps: u32,
        guided: bool,
        picture: bool,
        lives: Option<u64>,
    },
    Turn,
    /// A reader takes what is there.
    Read(usize),
    Cancel(usize),
    Wait(u64),
    /// From now on so many rows fit; 0 is all.
    Memory(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let submit =
        (0..WORDS.len(), 1usize..4, 1u32..5, any::<bool>(), any::<bool>(), proptest::option::weighted(0.3, 0u64..12));
    let act = prop_oneof![
        4 => submit.prop_map(|(words, samples, steps, guided, picture, lives)| {
            Act::Submit { words, samples, steps, guided, picture, lives }
        }),
        6 => Just(Act::Turn),
        3 => (0usize..32).prop_map(Act::Read),
        1 => (0usize..32).prop_map(Act::Cancel),
        1 => (1u64..6).prop_map(Act::Wait),
        1 => (0u64..4).prop_map(Act::Memory),
    ];
    proptest::collection::vec(act, 1..60)
}

/// What a reader knows of its request.
struct Reader {
    asked: (usize, usize, u32, bool, bool),
    inbox: Option<Inbox>,
    events: Vec<Envelope>,
    error: Option<EngineError>,
    ended: bool,
    deadline: Option<u64>,
}

impl Reader {
    /// Takes all that is there; true while more may come.
    fn read(&mut self) {
        while let Some(inbox) = self.inbox.as_mut().filter(|_| !self.ended) {
            let mut next = pin!(inbox.next());
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => return,
                Poll::Ready(None) => self.ended = true,
                Poll::Ready(Some(Ok(envelope))) => {
                    assert!(self.error.is_none(), "something came after the error");
                    self.events.push(envelope);
                }
                Poll::Ready(Some(Err(error))) => {
                    assert!(self.error.replace(error).is_none(), "two errors came");
                }
            }
        }
    }

    fn grids(&self) -> BTreeMap<u32, Vec<u32>> {
        let mut grids = BTreeMap::new();
        for envelope in &self.events {
            if let Event::Sample(sample) = &envelope.event {
                assert!(grids.insert(envelope.sample_index, sample.ids.clone()).is_none(), "a sample came twice");
            }
        }
        grids
    }
}

fn generation(bench: &Bench, asked: (usize, usize, u32, bool, bool)) -> Generation {
    let (words, samples, steps, guided, picture) = asked;
    let mut generation = bench.generation(WORDS[words], steps);
    generation.starts = vec![generation.starts[0].clone(); samples];
    generation.params.guidance_scale = if guided { 1.5 } else { 1.0 };
    generation.preview = if picture { Preview::Decoded } else { Preview::Tokens };
    generation
}

/// The grids of a request that nobody disturbs.
fn undisturbed(asked: (usize, usize, u32, bool, bool)) -> BTreeMap<u32, Vec<u32>> {
    let mut bench = Bench::new(8);
    let generation = generation(&bench, asked);
    let inbox = bench.submit(generation);
    bench.finish();
    let mut reader = Reader { asked, inbox: Some(inbox), events: vec![], error: None, ended: false, deadline: None };
    reader.read();
    reader.grids()
}

fn check(reader: &Reader, clock: u64) {
    let (words, samples, steps, _, _) = reader.asked;
    let sequences: Vec<u64> = reader.events.iter().map(|envelope| envelope.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "in order: {sequences:?}");
    assert!(reader.ended, "every request ends");
    let summary = reader.events.iter().find_map(|envelope| match &envelope.event {
        Event::Summary(summary) => Some(summary),
        _ => None,
    });
    let bad = [NAN, FAIL].contains(&WORDS[words]);
    match (&reader.error, summary) {
        (None, Some(summary)) => {
            assert!(!bad, "what cannot be computed is no success");
            assert_eq!(reader.grids(), undisturbed(reader.asked), "a seed's tokens do not depend on the history");
            assert!(matches!(reader.events.last().map(|last| &last.event), Some(Event::Summary(_))));
            let previews = reader.events.len() - samples - 1;
            assert_eq!(previews as u32 + summary.dropped_previews, steps * samples as u32, "drops are counted");
        }
        (Some(EngineError::DeadlineExceeded), None) => {
            assert!(reader.deadline.is_some_and(|deadline| deadline <= clock), "no deadline had passed");
        }
        (Some(EngineError::Numeric { .. } | EngineError::Model { .. }), None) => {
            assert!(bad, "a good row failed: {:?}", reader.error);
        }
        (error, summary) => panic!("exactly one end: {error:?} and {summary:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_happens(acts in acts()) {
        let mut bench = Bench::new(SLOTS);
        let began = bench.now;
        let mut clock = 0;
        let mut readers: Vec<Reader> = Vec::new();
        for act in acts {
            match act {
                Act::Submit { words, samples, steps, guided, picture, lives } => {
                    let asked = (words, samples, steps, guided, picture);
                    let mut generation = generation(&bench, asked);
                    let deadline = lives.map(|lives| clock + lives);
                    generation.deadline = deadline.map(|deadline| began + Duration::from_secs(deadline));
                    let inbox = Some(bench.submit(generation));
                    readers.push(Reader { asked, inbox, events: vec![], error: None, ended: false, deadline });
                }
                Act::Turn => {
                    let before = bench.controls.batches().len();
                    bench.turn();
                    // A row and its guidance row for each slot; a batch that fails or does not fit is tried in parts.
                    let rows: usize = bench.controls.batches()[before..].iter().copied().max().unwrap_or(0);
                    prop_assert!(rows <= 2 * SLOTS, "{rows} rows in a step");
                    prop_assert!(bench.worker.stats.slots_in_use() <= SLOTS);
                }
                Act::Read(who) if !readers.is_empty() => {
                    let who = who % readers.len();
                    readers[who].read();
                }
                Act::Cancel(who) if !readers.is_empty() => {
                    let who = who % readers.len();
                    readers[who].inbox = None;
                }
                Act::Wait(seconds) => {
                    clock += seconds;
                    bench.now = began + Duration::from_secs(clock);
                }
                Act::Memory(rows) => bench.controls.memory_for(rows),
                Act::Read(_) | Act::Cancel(_) => {}
            }
        }
        bench.controls.memory_for(0);
        bench.finish();
        // A client that left after its last event is noticed in the turn after.
        bench.turn();
        for reader in &mut readers {
            reader.read();
            if reader.inbox.is_some() {
                check(reader, clock);
            }
        }
        // Nothing is left: no slot, no place in the queue, no request.
        prop_assert!(bench.worker.is_idle());
        prop_assert!(bench.worker.requests.is_empty());
        prop_assert_eq!(bench.worker.stats.slots_in_use(), 0);
        prop_assert_eq!(bench.admission.waiting(), 0);
    }
}
