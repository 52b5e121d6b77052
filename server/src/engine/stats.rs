//! What the engine counts and times while it works.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::histogram::{self, Histogram};

/// Counts and times that anybody may read at any time.
#[derive(Debug)]
pub struct EngineStats {
    max_slots: usize,
    slots_in_use: AtomicUsize,
    steps: AtomicU64,
    rows: AtomicU64,
    pictures: AtomicU64,
    tokens: AtomicU64,
    dropped_previews: AtomicU64,
    /// From admission to the first slot, in seconds.
    pub queue_seconds: Histogram,
    /// One step of one batch, in seconds.
    pub step_seconds: Histogram,
    /// Rows of a step, guidance rows included.
    pub step_rows: Histogram,
    /// One batch of grids to pictures, in seconds.
    pub decode_seconds: Histogram,
    /// From admission to the first preview that holds a picture, in seconds.
    pub first_preview_seconds: Histogram,
}

// === impl EngineStats ===

impl EngineStats {
    pub(super) fn new(max_slots: usize) -> Self {
        let seconds = || Histogram::new(histogram::SECONDS);
        Self {
            max_slots,
            slots_in_use: AtomicUsize::new(0),
            steps: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            pictures: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            dropped_previews: AtomicU64::new(0),
            queue_seconds: seconds(),
            step_seconds: seconds(),
            step_rows: Histogram::new(histogram::ROWS),
            decode_seconds: seconds(),
            first_preview_seconds: seconds(),
        }
    }

    /// Samples that can run at once.
    pub fn max_slots(&self) -> usize {
        self.max_slots
    }

    /// Samples that run now.
    pub fn slots_in_use(&self) -> usize {
        self.slots_in_use.load(Ordering::Relaxed)
    }

    /// Steps taken, each over all running samples of a model.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Rows of all steps, guidance rows included.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Pictures delivered.
    pub fn pictures(&self) -> u64 {
        self.pictures.load(Ordering::Relaxed)
    }

    /// Tokens of the pictures delivered.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Previews dropped because a client read too slowly.
    pub fn dropped_previews(&self) -> u64 {
        self.dropped_previews.load(Ordering::Relaxed)
    }

    pub(super) fn set_slots_in_use(&self, count: usize) {
        self.slots_in_use.store(count, Ordering::Relaxed);
    }

    pub(super) fn step_of(&self, rows: usize, took: std::time::Duration) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.step_rows.observe(rows as f64);
        self.step_seconds.took(took);
    }

    pub(super) fn picture_done(&self, tokens: usize) {
        self.pictures.fetch_add(1, Ordering::Relaxed);
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    pub(super) fn previews_dropped(&self, count: u32) {
        self.dropped_previews.fetch_add(u64::from(count), Ordering::Relaxed);
    }
}
