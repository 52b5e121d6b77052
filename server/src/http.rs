//! The plain HTTP port: /livez, /readyz and /metrics in Prometheus' text format.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::api::Api;
use crate::engine::EngineState;
use crate::metrics;

/// Serves until the listener fails.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, api: Api) -> std::io::Result<()> {
    axum::serve(listener, router(api)).await
}

fn router(api: Api) -> Router {
    Router::new().route("/livez", get(live)).route("/readyz", get(ready)).route("/metrics", get(scrape)).with_state(api)
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

async fn scrape(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::TEXT_FORMAT)], metrics::render(&api))
}
