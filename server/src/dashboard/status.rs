//! How busy the server is, for the page: counts that are there anyway, so asking costs the engine nothing.

use std::sync::LazyLock;
use std::time::Instant;

use serde_json::json;

use crate::api::Api;

/// Where it is.
pub(super) const PATH: &str = "/status.json";

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Starts the clock of `uptime_seconds`.
pub(super) fn start_clock() {
    LazyLock::force(&STARTED);
}

/// As JSON. Nothing in it comes from a client.
pub(super) fn render(api: &Api) -> String {
    let (stats, admission) = (api.engine.stats(), api.engine.admission());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": STARTED.elapsed().as_secs(),
        "taking_work": !admission.is_closed(),
        "slots_in_use": stats.slots_in_use(),
        "slots": stats.max_slots(),
        "requests_waiting": admission.waiting(),
        "requests_waiting_capacity": admission.capacity(),
        "steps": stats.steps(),
        "step_rows": stats.rows(),
        "pictures": stats.pictures(),
    })
    .to_string()
}
