//! The plain HTTP port: /livez, /readyz and /metrics in Prometheus' text format.

use std::fmt::{Display, Write as _};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::engine::EngineState;

/// What Prometheus calls its text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the listener fails.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    axum::serve(listener, router(api)).await
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(api)
}

/// Alive as long as the engine is.
async fn live(State(api): State<Api>) -> (StatusCode, String) {
    match &*api.engine.state().borrow() {
        EngineState::Running => (StatusCode::OK, "ok\n".to_owned()),
        EngineState::Failed(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("the engine has stopped: {why}\n")),
    }
}

/// Ready as long as new work is taken.
async fn ready(state: State<Api>) -> (StatusCode, String) {
    if state.0.engine.admission().is_closed() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no new work is taken\n".to_owned());
    }
    live(state).await
}

async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], render(&api))
}

/// All metrics. No label holds anything that a client wrote.
fn render(api: &Api) -> String {
    let stats = api.engine.stats();
    let admission = api.engine.admission();
    let mut page = Page::default();
    page.gauge("raygen_slots_in_use", "Samples that run now.", stats.slots_in_use());
    page.gauge("raygen_slots", "Samples that can run at once.", stats.max_slots());
    page.gauge("raygen_requests_waiting", "Requests that wait for a slot.", admission.waiting());
    page.gauge("raygen_requests_waiting_capacity", "Requests that can wait.", admission.capacity());
    page.gauge("raygen_calls_in_flight", "Calls under way.", api.calls().running());
    page.gauge("raygen_models_ready", "Models that serve.", api.repository.ready().count());
    page.counter("raygen_steps_total", "Steps, each over all running samples of a model.", stats.steps());
    page.counter("raygen_step_rows_total", "Rows of all steps.", stats.rows());
    page.counter("raygen_pictures_total", "Pictures generated.", stats.pictures());
    page.counter("raygen_previews_dropped_total", "Previews dropped for slow readers.", stats.dropped_previews());
    page.head("raygen_requests_total", "Calls ended, by method and outcome.", "counter");
    for ((method, code), count) in api.calls().ended() {
        page.line(&format!("raygen_requests_total{{method=\"{method}\",code=\"{code}\"}}"), count);
    }
    page.0
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

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, series: &str, value: impl Display) {
        let _ = writeln!(self.0, "{series} {value}");
    }
}
