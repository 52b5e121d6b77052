//! Histograms that anybody may fill and read at any time, as Prometheus has them: counts by upper bound, a sum, a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds, from a step of a small model to a request that waited long.
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0];
/// Rows of a batch.
pub const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Nanounits of the sum: it is kept as a whole number, so that adding to it needs no lock.
const PER_UNIT: f64 = 1e9;

/// A histogram with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is above all.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Upper bounds and how many values were at most that; the last bound is infinite.
    pub cumulative: Vec<(f64, u64)>,
    /// Sum of all values.
    pub sum: f64,
}

// === impl Histogram ===

impl Histogram {
    /// An empty one. Bounds ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts a value of at least 0.
    pub fn observe(&self, value: f64) {
        let place = self.bounds.partition_point(|&bound| bound < value);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
            // Out of range saturates, and is then no sum of anything that happened.
            self.sum.fetch_add((value * PER_UNIT) as u64, Ordering::Relaxed);
        }
    }

    /// Counts a duration in seconds.
    pub fn took(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    /// What it holds now.
    pub fn snapshot(&self) -> Snapshot {
        let mut below = 0;
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let cumulative = bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                below += bucket.load(Ordering::Relaxed);
                (bound, below)
            })
            .collect();
        Snapshot { cumulative, sum: self.sum.load(Ordering::Relaxed) as f64 / PER_UNIT }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.cumulative.last().map_or(0, |&(_, count)| count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_that_holds_it_bounds_included() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 7.0] {
            histogram.observe(value);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.cumulative, [(1.0, 2), (2.0, 3), (f64::INFINITY, 4)]);
        assert!((snapshot.sum - 10.0).abs() < 1e-6);
        assert_eq!(snapshot.count(), 4);
    }
}
