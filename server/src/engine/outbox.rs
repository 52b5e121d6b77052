//! Two delivery lanes from the engine to one reader: results are never lost, previews give way when the reader is slow.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use raygen_model::image::Picture;
use tokio::sync::Notify;

use super::error::EngineError;

/// Previews kept for each sample before the oldest is dropped, where a preview is a grid only.
const GRIDS_KEPT: usize = 16;
/// The same for previews that hold a picture: one picture may be a megabyte.
const PICTURES_KEPT: usize = 3;

/// One event of a generation, with its place in the stream.
#[derive(Debug)]
pub struct Envelope {
    /// Place in the stream; 0 belongs to the admission, gaps are dropped previews.
    pub sequence: u64,
    /// The sample that the event belongs to.
    pub sample_index: u32,
    /// The event.
    pub event: Event,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A step finished; may be dropped.
    Progress(Progress),
    /// A sample is complete; never dropped.
    Sample(Finished),
    /// The request is complete; the last event.
    Summary(Summary),
}

/// A step finished.
#[derive(Debug)]
pub struct Progress {
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub step_count: u32,
    /// The whole grid after this step; undecided positions hold the mask id.
    pub ids: Vec<u32>,
    /// Confidence of each position in [0, 1], if asked for.
    pub confidence: Option<Vec<f32>>,
    /// A preview, if asked for.
    pub picture: Option<Picture>,
}

/// A sample is complete.
#[derive(Debug)]
pub struct Finished {
    /// The final grid.
    pub ids: Vec<u32>,
    /// The decoded picture.
    pub picture: Picture,
}

/// The request is complete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Time waiting for a slot.
    pub queue: Duration,
    /// Time in transformer steps.
    pub steps: Duration,
    /// Time in the decoder.
    pub decode: Duration,
    /// Previews that gave way.
    pub dropped_previews: u32,
}

#[derive(Debug, Default)]
struct State {
    next_sequence: u64,
    /// Samples and the summary: bounded by the number of samples plus one.
    reliable: VecDeque<Envelope>,
    /// Progress: bounded by the samples' rings.
    previews: VecDeque<Envelope>,
    dropped: u32,
    failure: Option<EngineError>,
    /// Nothing more will be sent.
    ended: bool,
    /// The reader is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    ready: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding the lock; a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's end. Sending never waits.
#[derive(Debug)]
pub(super) struct Outbox(Arc<Shared>);

/// The reader's end; dropping it cancels the request.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

/// A pair of ends. `first_sequence` is the sequence of the first event sent.
pub(super) fn channel(first_sequence: u64) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared::default());
    shared.lock().next_sequence = first_sequence;
    (Outbox(Arc::clone(&shared)), Inbox(shared))
}

// === impl Outbox ===

impl Outbox {
    /// Whether the reader is gone.
    pub(super) fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Whether a picture preview of this sample would be delivered rather than push another one out.
    pub(super) fn has_room_for_picture(&self, sample_index: u32) -> bool {
        let state = self.0.lock();
        pictures_of(&state, sample_index) < PICTURES_KEPT
    }

    /// Sends a preview; when the reader is behind, the oldest of the same sample gives way. Returns how many did.
    pub(super) fn progress(&self, sample_index: u32, progress: Progress) -> u32 {
        let mut state = self.0.lock();
        let kept = if progress.picture.is_some() { PICTURES_KEPT } else { GRIDS_KEPT };
        let mut dropped = 0;
        while waiting_of(&state, sample_index, progress.picture.is_some()) >= kept {
            let Some(oldest) = state.previews.iter().position(|e| e.sample_index == sample_index) else {
                break;
            };
            state.previews.remove(oldest);
            dropped += 1;
        }
        state.dropped += dropped;
        let envelope = next(&mut state, sample_index, Event::Progress(progress));
        state.previews.push_back(envelope);
        drop(state);
        self.0.ready.notify_one();
        dropped
    }

    /// Counts a preview that was asked for and not made because the reader is behind.
    pub(super) fn count_dropped(&self) {
        let mut state = self.0.lock();
        state.dropped += 1;
        // The gap in the sequence tells the reader.
        state.next_sequence += 1;
    }

    /// Sends a complete sample.
    pub(super) fn sample(&self, sample_index: u32, finished: Finished) {
        let mut state = self.0.lock();
        let envelope = next(&mut state, sample_index, Event::Sample(finished));
        state.reliable.push_back(envelope);
        drop(state);
        self.0.ready.notify_one();
    }

    /// Sends the closing summary; the count of dropped previews is filled in.
    pub(super) fn finish(&self, mut summary: Summary) {
        let mut state = self.0.lock();
        summary.dropped_previews = state.dropped;
        let envelope = next(&mut state, 0, Event::Summary(summary));
        state.reliable.push_back(envelope);
        state.ended = true;
        drop(state);
        self.0.ready.notify_one();
    }

    /// Ends the stream with an error. Complete samples sent before are still delivered.
    pub(super) fn fail(&self, error: EngineError) {
        let mut state = self.0.lock();
        if state.ended {
            return;
        }
        state.previews.clear();
        state.failure = Some(error);
        state.ended = true;
        drop(state);
        self.0.ready.notify_one();
    }
}

impl Drop for Outbox {
    /// A reader is never left waiting, whatever became of the engine.
    fn drop(&mut self) {
        self.fail(EngineError::Stopped { detail: "the engine dropped the request".to_owned() });
    }
}

// === impl Inbox ===

impl Inbox {
    /// The next event in order of sequence; `None` after the last one.
    pub async fn next(&mut self) -> Option<Result<Envelope, EngineError>> {
        loop {
            let notified = self.0.ready.notified();
            if let Some(outcome) = self.take() {
                return outcome;
            }
            notified.await;
        }
    }

    /// `None`: nothing yet. `Some(None)`: ended.
    fn take(&self) -> Option<Option<Result<Envelope, EngineError>>> {
        let mut state = self.0.lock();
        let preview_first = match (state.previews.front(), state.reliable.front()) {
            (Some(preview), Some(result)) => preview.sequence < result.sequence,
            (preview, _) => preview.is_some(),
        };
        let lane = if preview_first { &mut state.previews } else { &mut state.reliable };
        if let Some(envelope) = lane.pop_front() {
            return Some(Some(Ok(envelope)));
        }
        if let Some(error) = state.failure.take() {
            return Some(Some(Err(error)));
        }
        state.ended.then_some(None)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.previews.clear();
        state.reliable.clear();
    }
}

fn next(state: &mut State, sample_index: u32, event: Event) -> Envelope {
    let sequence = state.next_sequence;
    state.next_sequence += 1;
    Envelope { sequence, sample_index, event }
}

fn waiting_of(state: &State, sample_index: u32, pictures: bool) -> usize {
    if pictures {
        return pictures_of(state, sample_index);
    }
    state.previews.iter().filter(|e| e.sample_index == sample_index).count()
}

fn pictures_of(state: &State, sample_index: u32) -> usize {
    state
        .previews
        .iter()
        .filter(|e| e.sample_index == sample_index)
        .filter(|e| matches!(&e.event, Event::Progress(p) if p.picture.is_some()))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(step: u32) -> Progress {
        Progress { step, step_count: 100, ids: vec![step], confidence: None, picture: None }
    }

    fn finished() -> Finished {
        Finished { ids: vec![1], picture: Picture { width: 1, height: 1, pixels: vec![0.5] } }
    }

    async fn drain(inbox: &mut Inbox) -> (Vec<Envelope>, Option<EngineError>) {
        let mut events = Vec::new();
        while let Some(next) = inbox.next().await {
            match next {
                Ok(envelope) => events.push(envelope),
                Err(error) => return (events, Some(error)),
            }
        }
        (events, None)
    }

    #[tokio::test]
    async fn a_slow_reader_loses_the_oldest_previews_and_never_its_samples_or_summary() {
        let (outbox, mut inbox) = channel(1);
        for step in 1..=100 {
            outbox.progress(0, progress(step));
        }
        outbox.sample(0, finished());
        outbox.finish(Summary::default());

        let (events, error) = drain(&mut inbox).await;
        assert!(error.is_none());
        let steps: Vec<u32> = events
            .iter()
            .filter_map(|e| match &e.event {
                Event::Progress(p) => Some(p.step),
                _ => None,
            })
            .collect();
        assert_eq!(steps, (85..=100).collect::<Vec<_>>());
        assert!(matches!(events[16].event, Event::Sample(_)));
        let Event::Summary(summary) = events[17].event else {
            panic!("the summary is last");
        };
        assert_eq!(summary.dropped_previews, 84);
        assert_eq!(events[0].sequence, 85, "the gap shows what was dropped");
        assert_eq!(events[17].sequence, 102);
    }

    #[tokio::test]
    async fn one_samples_previews_do_not_push_out_anothers() {
        let (outbox, mut inbox) = channel(0);
        outbox.progress(1, progress(1));
        for step in 1..=50 {
            outbox.progress(0, progress(step));
        }
        outbox.finish(Summary::default());
        let (events, _) = drain(&mut inbox).await;
        assert_eq!(events[0].sample_index, 1);
    }

    #[tokio::test]
    async fn a_failure_comes_after_the_samples_that_were_complete() {
        let (outbox, mut inbox) = channel(0);
        outbox.sample(0, finished());
        outbox.fail(EngineError::Numeric { step: Some(3) });
        let (events, error) = drain(&mut inbox).await;
        assert_eq!(events.len(), 1);
        assert_eq!(error, Some(EngineError::Numeric { step: Some(3) }));
    }

    #[tokio::test]
    async fn an_engine_that_vanishes_tells_its_reader() {
        let (outbox, mut inbox) = channel(0);
        drop(outbox);
        let (_, error) = drain(&mut inbox).await;
        assert!(matches!(error, Some(EngineError::Stopped { .. })));
    }

    #[test]
    fn a_reader_that_leaves_is_seen() {
        let (outbox, inbox) = channel(0);
        assert!(!outbox.is_closed());
        drop(inbox);
        assert!(outbox.is_closed());
    }
}
