//! `raygen models`: what the server serves.

use raygen_client::wire::{Model, ModelState, View};
use serde_json::json;

use super::{Session, failure::Failure, output::printable};

/// Runs the command.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let models = session.connect().await?.models().await?;
    if models.is_empty() {
        session.output.note("the server has no models");
    }
    for model in &models {
        session.output.result(
            || words(model),
            || {
                json!({
                    "event": "model", "name": model.name, "state": state(model), "state_reason": model.state_reason,
                    "image_size": model.image_size, "grid_height": model.grid_height, "grid_width": model.grid_width,
                    "codebook_size": model.codebook_size, "max_text_tokens": model.max_text_tokens,
                    "supports_guidance": model.supports_guidance, "digest": model.digest,
                    "supported_terms": model.supported_terms, "licence": model.licence,
                    "parameter_count": model.parameter_count,
                    "views": views(model), "default_view": view(model.default_view()),
                })
            },
        );
    }
    Ok(())
}

fn words(model: &Model) -> String {
    let mut lines = vec![format!("{}  {}", printable(&model.name), state(model))];
    if !model.state_reason.is_empty() {
        lines.push(format!("  {}", printable(&model.state_reason)));
    }
    lines.push(format!(
        "  {side} x {side} pixels from {} x {} tokens of {}, {:.1} million parameters, {}",
        model.grid_height,
        model.grid_width,
        model.codebook_size,
        model.parameter_count as f64 / 1e6,
        if model.supports_guidance { "with guidance" } else { "without guidance" },
        side = model.image_size,
    ));
    if !model.supported_terms.is_empty() {
        lines.push(format!("  trained on: {}", printable(&model.supported_terms.join(", "))));
    }
    if !model.views.is_empty() {
        lines.push(format!("  views: {}; {} unless asked", views(model).join(", "), view(model.default_view())));
    }
    if !model.licence.is_empty() {
        lines.push(format!("  licence: {}", printable(&model.licence)));
    }
    if !model.digest.is_empty() {
        lines.push(format!("  digest: {}", printable(&model.digest)));
    }
    lines.join("\n")
}

fn views(model: &Model) -> Vec<&'static str> {
    model.views().map(view).collect()
}

/// As `--view` spells it; empty where there is none.
fn view(view: View) -> &'static str {
    match view {
        View::Unspecified => "",
        View::Ap => "AP",
        View::Pa => "PA",
        View::Lateral => "lateral",
        View::Frontal => "frontal",
    }
}

/// `ready` for STATE_READY.
fn state(model: &Model) -> &'static str {
    match model.state() {
        ModelState::Ready => "ready",
        ModelState::Loading => "loading",
        ModelState::Unloading => "unloading",
        ModelState::Failed => "failed",
        ModelState::Unspecified => "unknown",
    }
}
