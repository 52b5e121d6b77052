//! What the server measures, in Prometheus' text format. No label holds anything that a client wrote.

use std::fmt::{Display, Write as _};

use crate::api::Api;
use crate::histogram::Snapshot;

/// What Prometheus calls its text format.
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics as they are now.
pub fn render(api: &Api) -> String {
    let stats = api.engine.stats();
    let admission = api.engine.admission();
    let mut page = Page::default();
    page.gauge("raygen_slots_in_use", "Samples that run now.", stats.slots_in_use());
    page.gauge("raygen_slots", "Samples that can run at once.", stats.max_slots());
    page.gauge("raygen_requests_waiting", "Requests that wait for a slot.", admission.waiting());
    page.gauge("raygen_requests_waiting_capacity", "Requests that can wait.", admission.capacity());
    let saturation = admission.waiting() as f64 / admission.capacity().max(1) as f64;
    page.gauge("raygen_queue_saturation_ratio", "Requests that wait, of those that can: scale on this.", saturation);
    page.gauge("raygen_calls_in_flight", "Calls under way.", api.calls().running());
    page.gauge("raygen_models_ready", "Models that serve.", api.repository.ready().count());
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "Resident memory of the process.", bytes);
    }
    page.counter("raygen_steps_total", "Steps, each over all running samples of a model.", stats.steps());
    page.counter("raygen_step_rows_total", "Rows of all steps.", stats.rows());
    page.counter("raygen_pictures_total", "Pictures generated.", stats.pictures());
    page.counter("raygen_tokens_total", "Tokens of the pictures generated.", stats.tokens());
    page.counter("raygen_previews_dropped_total", "Previews dropped for slow readers.", stats.dropped_previews());
    page.head("raygen_requests_total", "Calls ended, by method and outcome.", "counter");
    for ((method, code), count) in api.calls().ended() {
        page.line(&format!("raygen_requests_total{{method=\"{method}\",code=\"{code}\"}}"), count);
    }
    page.head("raygen_request_duration_seconds", "Calls from their beginning to their last message.", "histogram");
    for (method, snapshot) in api.calls().durations() {
        page.histogram("raygen_request_duration_seconds", &format!("method=\"{method}\""), &snapshot);
    }
    for (name, help, histogram) in [
        ("raygen_queue_duration_seconds", "From admission to the first slot.", &stats.queue_seconds),
        ("raygen_step_duration_seconds", "One step of one batch.", &stats.step_seconds),
        ("raygen_step_batch_rows", "Rows of a step, guidance rows included.", &stats.step_rows),
        ("raygen_decode_duration_seconds", "One batch of grids to pictures.", &stats.decode_seconds),
        ("raygen_first_preview_seconds", "From admission to the first preview picture.", &stats.first_preview_seconds),
    ] {
        page.head(name, help, "histogram");
        page.histogram(name, "", &histogram.snapshot());
    }
    page.0
}

/// Resident memory, where the system says: the second number of /proc/self/statm, in pages.
fn resident_bytes() -> Option<u64> {
    // Linux has pages of 4 KiB wherever this server is built for; where it has not, nothing is claimed.
    const PAGE: u64 = 4096;
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return None;
    }
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * PAGE)
}

#[derive(Default)]
struct Page(String);

// === impl Page ===

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "gauge");
        self.line(name, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, help, "counter");
        self.line(name, value);
    }

    fn histogram(&mut self, name: &str, labels: &str, snapshot: &Snapshot) {
        let before = if labels.is_empty() { String::new() } else { format!("{labels},") };
        for &(bound, count) in &snapshot.cumulative {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.line(&format!("{name}_bucket{{{before}le=\"{bound}\"}}"), count);
        }
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.line(&format!("{name}_sum{labels}"), snapshot.sum);
        self.line(&format!("{name}_count{labels}"), snapshot.count());
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, series: &str, value: impl Display) {
        let _ = writeln!(self.0, "{series} {value}");
    }
}
