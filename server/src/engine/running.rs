//! A generation inside the engine: its conditions, its samples on their way, its times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use raygen_model::sampler::{SampleState, guidance_at};
use tracing::Span;

use super::admission::Ticket;
use super::model::{Condition, ModelFault};
use super::outbox::{Finished, Outbox, Progress, Summary};
use super::request::{Generation, Preview};
use crate::telemetry::traces::TARGET;

/// A request that was admitted and is not complete.
pub(super) struct Running {
    pub(super) generation: Generation,
    pub(super) outbox: Outbox,
    /// The place in the queue, given back when the last sample has a slot.
    pub(super) ticket: Option<Ticket>,
    /// Samples in slots.
    pub(super) samples: BTreeMap<u32, SampleState>,
    conditions: Option<Conditions>,
    submitted: Instant,
    summary: Summary,
    /// Whether a preview with a picture was sent.
    previewed: bool,
    /// What the spans of this request hang below.
    span: Span,
    /// Open until the first sample has a slot.
    queue_span: Option<Span>,
}

#[derive(Clone)]
struct Conditions {
    text: Condition,
    /// For the rows of guidance; absent without guidance.
    away_from: Option<Condition>,
}

// === impl Running ===

impl Running {
    pub(super) fn new(generation: Generation, outbox: Outbox, ticket: Ticket, span: Span, now: Instant) -> Self {
        let queue_span = tracing::trace_span!(target: TARGET, parent: &span, "queue");
        Self {
            generation,
            outbox,
            ticket: Some(ticket),
            samples: BTreeMap::new(),
            conditions: None,
            submitted: now,
            summary: Summary::default(),
            previewed: false,
            span,
            queue_span: Some(queue_span),
        }
    }

    /// Computes the conditions on the first call, and puts a sample into its slot.
    pub(super) fn start(&mut self, sample: u32, now: Instant) -> Result<(), ModelFault> {
        if self.conditions.is_none() {
            drop(self.queue_span.take());
            let _encoding = tracing::trace_span!(target: TARGET, parent: &self.span, "encode_text").entered();
            self.summary.queue = now.saturating_duration_since(self.submitted);
            let model = &self.generation.model;
            let view = self.generation.view;
            let text = model.model.condition(&self.generation.text, view)?;
            let away_from = match (&self.generation.negative, self.generation.params.guidance_scale == 1.0) {
                (_, true) => None,
                (Some(negative), false) => Some(model.model.condition(negative, view)?),
                (None, false) => Some(model.model.null_condition(view)?),
            };
            self.conditions = Some(Conditions { text, away_from });
        }
        let info = self.generation.model.info();
        let start = self.generation.starts.get(sample as usize).cloned();
        let ids = start.unwrap_or_else(|| vec![info.codebook_size; info.positions()]);
        let state = SampleState::from_canvas(ids, info.codebook_size, sample).with_width(info.grid_width as usize);
        self.samples.insert(sample, state);
        Ok(())
    }

    /// The condition of the text; present once a sample has started.
    pub(super) fn condition(&self) -> Option<&Condition> {
        self.conditions.as_ref().map(|conditions| &conditions.text)
    }

    /// The scale and the condition of the guidance row of the next step, where there is one.
    pub(super) fn guidance(&self, state: &SampleState) -> Option<(f32, &Condition)> {
        let away_from = self.conditions.as_ref()?.away_from.as_ref()?;
        let scale = guidance_at(&self.generation.params, state.step);
        (scale != 1.0).then_some((scale, away_from))
    }

    /// How long it waited for its first slot.
    pub(super) fn waited(&self) -> Duration {
        self.summary.queue
    }

    /// A span below the request's: `step` of a sample, or a `decode`, over a batch of so many rows.
    pub(super) fn step_span(&self, step: u32, rows: usize) -> Span {
        tracing::trace_span!(target: TARGET, parent: &self.span, "step", step, rows)
    }

    /// See [`Self::step_span`].
    pub(super) fn decode_span(&self, rows: usize) -> Span {
        tracing::trace_span!(target: TARGET, parent: &self.span, "decode", rows)
    }

    /// The time since admission, when this is the first preview with a picture.
    pub(super) fn first_preview(&mut self) -> Option<Duration> {
        (!std::mem::replace(&mut self.previewed, true)).then(|| self.submitted.elapsed())
    }

    pub(super) fn stepped(&mut self, took: Duration) {
        self.summary.steps += took;
    }

    pub(super) fn decoded(&mut self, took: Duration) {
        self.summary.decode += took;
    }

    /// Whether the step just taken is one to preview.
    pub(super) fn wants_preview(&self, state: &SampleState) -> bool {
        self.generation.preview != Preview::None && state.step.is_multiple_of(self.generation.preview_interval.max(1))
    }

    /// The event of the step just taken, without a picture.
    pub(super) fn progress(&self, state: &SampleState) -> Progress {
        Progress {
            step: state.step,
            step_count: self.generation.params.step_count,
            ids: state.ids.clone(),
            confidence: self.generation.include_confidence.then(|| state.confidence.clone()),
            picture: None,
        }
    }

    pub(super) fn finished(&self, sample: u32, finished: Finished) {
        self.outbox.sample(sample, finished);
    }

    /// Tells the reader that everything was sent.
    pub(super) fn close(self) {
        self.outbox.finish(self.summary);
    }
}
