//! What the engine counts while it works.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts that anybody may read at any time.
#[derive(Debug, Default)]
pub struct EngineStats {
    max_slots: usize,
    slots_in_use: AtomicUsize,
    steps: AtomicU64,
    rows: AtomicU64,
    pictures: AtomicU64,
    dropped_previews: AtomicU64,
}

// === impl EngineStats ===

impl EngineStats {
    pub(super) fn new(max_slots: usize) -> Self {
        Self { max_slots, ..Self::default() }
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

    /// Previews dropped because a client read too slowly.
    pub fn dropped_previews(&self) -> u64 {
        self.dropped_previews.load(Ordering::Relaxed)
    }

    pub(super) fn set_slots_in_use(&self, count: usize) {
        self.slots_in_use.store(count, Ordering::Relaxed);
    }

    pub(super) fn step_of(&self, rows: usize) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(super) fn picture_done(&self) {
        self.pictures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn previews_dropped(&self, count: u32) {
        self.dropped_previews.fetch_add(u64::from(count), Ordering::Relaxed);
    }
}
