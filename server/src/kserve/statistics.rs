//! Counts and times of each model, as the protocol's statistics have them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use raygen_proto::inference::{InferStatistics, ModelStatistics, StatisticDuration};
use raygen_proto::v1::generate_response::Summary;

use super::describe;

/// Statistics by the model's whole name.
#[derive(Debug, Default)]
pub(super) struct Statistics(Mutex<BTreeMap<String, ModelStatistics>>);

// === impl Statistics ===

impl Statistics {
    /// A request ended; `summary` is there where it went well.
    pub(super) fn ended(&self, name: &str, took: Duration, summary: Option<&Summary>) {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let statistics = models.entry(name.to_owned()).or_insert_with(|| empty(name));
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        statistics.last_inference = u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX);
        let times = statistics.inference_stats.get_or_insert_default();
        let Some(summary) = summary else {
            return add(&mut times.fail, took);
        };
        statistics.inference_count += 1;
        statistics.execution_count += 1;
        add(&mut times.success, took);
        for (time, duration) in [
            (&mut times.queue, summary.queue_duration),
            (&mut times.compute_infer, summary.step_duration),
            (&mut times.compute_output, summary.decode_duration),
        ] {
            add(time, duration.and_then(|duration| duration.try_into().ok()).unwrap_or_default());
        }
        add(&mut times.compute_input, Duration::ZERO);
    }

    /// Those of one model so far.
    pub(super) fn of(&self, name: &str) -> ModelStatistics {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.get(name).cloned().unwrap_or_else(|| empty(name))
    }
}

fn empty(name: &str) -> ModelStatistics {
    let (model, version) = describe::parts(name);
    let none = || Some(StatisticDuration::default());
    ModelStatistics {
        name: model.to_owned(),
        version: version.to_owned(),
        inference_stats: Some(InferStatistics {
            success: none(),
            fail: none(),
            queue: none(),
            compute_input: none(),
            compute_infer: none(),
            compute_output: none(),
            cache_hit: none(),
            cache_miss: none(),
        }),
        ..ModelStatistics::default()
    }
}

fn add(time: &mut Option<StatisticDuration>, took: Duration) {
    let time = time.get_or_insert_default();
    time.count += 1;
    time.ns = time.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}
