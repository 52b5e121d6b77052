//! What a bench came to: counts, rates, percentiles; as words and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use raygen_client::Summary;
use serde_json::{Value, json};

/// The percentiles that are told.
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// What became of one request.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// From sending to the response's beginning.
    pub(super) admitted: Option<Duration>,
    /// From sending to the first preview with a picture.
    pub(super) first_preview: Option<Duration>,
    /// From sending to the end, whichever it was.
    pub(super) total: Duration,
    pub(super) pictures: u64,
    pub(super) previews: u64,
    pub(super) summary: Option<Summary>,
    /// Why it failed, if it did.
    pub(super) failure: Option<String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Report {
    done: u64,
    pictures: u64,
    previews: u64,
    dropped: u64,
    failures: BTreeMap<String, u64>,
    took: Duration,
    times: BTreeMap<&'static str, Vec<Duration>>,
}

// === impl Report ===

impl Report {
    pub(super) fn add(&mut self, outcome: Outcome) {
        self.previews += outcome.previews;
        if let Some(failure) = outcome.failure {
            *self.failures.entry(failure).or_default() += 1;
            self.times.entry("failure").or_default().push(outcome.total);
            return;
        }
        self.done += 1;
        self.pictures += outcome.pictures;
        let mut time = |name, duration: Option<Duration>| self.times.entry(name).or_default().extend(duration);
        time("admission", outcome.admitted);
        time("first preview", outcome.first_preview);
        time("result", Some(outcome.total));
        if let Some(summary) = outcome.summary {
            self.dropped += u64::from(summary.dropped_preview_count);
            time("in the queue", Some(summary.queue_duration));
            let work = summary.queue_duration + summary.step_duration + summary.decode_duration;
            time("beside the model", Some(outcome.total.saturating_sub(work)));
        }
    }

    /// Requests that have ended.
    pub(super) fn requests(&self) -> u64 {
        self.done + self.failures.values().sum::<u64>()
    }

    pub(super) fn finish(&mut self, took: Duration) {
        self.took = took;
        self.times.values_mut().for_each(|times| times.sort_unstable());
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    pub(super) fn words(&self) -> String {
        let mut text = format!(
            "{} requests in {:.1} s: {} done, {} failed; {:.2} pictures a second\n",
            self.requests(),
            self.took.as_secs_f64(),
            self.done,
            self.requests() - self.done,
            self.per_second(self.pictures)
        );
        for (failure, count) in &self.failures {
            let _ = writeln!(text, "  {count} x {failure}");
        }
        let _ = writeln!(text, "{} previews, {} dropped", self.previews, self.dropped);
        let _ = write!(text, "{:<18}{:>9}{:>9}{:>9}{:>9}{:>9}", "ms", "mean", "p50", "p90", "p95", "p99");
        for (name, times) in self.times.iter().filter(|(_, times)| !times.is_empty()) {
            let _ = write!(text, "\n{name:<18}{:>9.1}", millis(mean(times)));
            for (_, share) in PERCENTILES {
                let _ = write!(text, "{:>9.1}", millis(percentile(times, share)));
            }
        }
        text
    }

    pub(super) fn value(&self) -> Value {
        let times: serde_json::Map<String, Value> = self
            .times
            .iter()
            .filter(|(_, times)| !times.is_empty())
            .map(|(name, times)| {
                let mut value = json!({"count": times.len(), "mean": mean(times).as_secs_f64()});
                for (label, share) in PERCENTILES {
                    value[label] = percentile(times, share).as_secs_f64().into();
                }
                (name.replace(' ', "_"), value)
            })
            .collect();
        json!({
            "requests": self.requests(), "done": self.done, "failures": self.failures,
            "seconds": self.took.as_secs_f64(), "pictures": self.pictures,
            "pictures_per_second": self.per_second(self.pictures),
            "previews": self.previews, "dropped_previews": self.dropped, "durations_seconds": times,
        })
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / u32::try_from(times.len().max(1)).unwrap_or(u32::MAX)
}

/// The smallest time that at least this share is not above (nearest rank). Times ascend and are not empty.
fn percentile(times: &[Duration], share: f64) -> Duration {
    let rank = (share * times.len() as f64).ceil() as usize;
    times.get(rank.clamp(1, times.len()) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(percentile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(percentile(&times[..1], 0.99), Duration::from_millis(1));
    }

    #[test]
    fn failures_are_counted_by_kind_and_stay_out_of_the_results() {
        let mut report = Report::default();
        report.add(Outcome { total: Duration::from_secs(2), pictures: 1, ..Outcome::default() });
        for _ in 0..2 {
            let failure = Some("QUEUE_FULL".to_owned());
            report.add(Outcome { total: Duration::from_millis(1), failure, ..Outcome::default() });
        }
        report.finish(Duration::from_secs(4));
        let value = report.value();
        assert_eq!(value["failures"]["QUEUE_FULL"], 2);
        assert_eq!(value["pictures_per_second"], 0.25);
        assert_eq!(value["durations_seconds"]["result"]["p99"], 2.0);
        assert!(report.words().contains("3 requests in 4.0 s: 1 done, 2 failed; 0.25 pictures a second"));
    }
}
