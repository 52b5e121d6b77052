//! The views of films as a model is told them.

use raygen_model::transformer::View;

/// A film of which nothing is known stands with those of which only that they are frontal is.
#[must_use]
pub fn told(view: Option<raygen_manifest::View>) -> View {
    match view {
        Some(raygen_manifest::View::AP) => View::AP,
        Some(raygen_manifest::View::PA) => View::PA,
        Some(raygen_manifest::View::Lateral) => View::Lateral,
        Some(raygen_manifest::View::Frontal) | None => View::Frontal,
    }
}
