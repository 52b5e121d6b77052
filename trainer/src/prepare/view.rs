//! Which views are kept.

use std::fmt;
use std::str::FromStr;

use raygen_manifest::View;

/// A view that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViewKind {
    /// From front to back.
    Ap,
    /// From back to front.
    Pa,
    /// AP, PA, or one of them, not known which.
    Frontal,
    /// From the side.
    Lateral,
}

impl FromStr for ViewKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "ap" => Ok(Self::Ap),
            "pa" => Ok(Self::Pa),
            "frontal" => Ok(Self::Frontal),
            "lateral" => Ok(Self::Lateral),
            other => Err(format!("\"{other}\" is no view; give AP, PA, FRONTAL or LATERAL")),
        }
    }
}

impl ViewKind {
    fn takes(self, view: View) -> bool {
        match self {
            Self::Ap => view == View::AP,
            Self::Pa => view == View::PA,
            Self::Frontal => view != View::Lateral,
            Self::Lateral => view == View::Lateral,
        }
    }
}

/// The views that a source keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Views(pub Vec<ViewKind>);

impl Views {
    /// AP and PA films, the ones that the models are for.
    #[must_use]
    pub fn frontal() -> Self {
        Self(vec![ViewKind::Frontal])
    }

    /// Whether a film of this view is kept.
    #[must_use]
    pub fn takes(&self, view: View) -> bool {
        self.0.iter().any(|kind| kind.takes(view))
    }
}

/// A view as the archives write it: DICOM's View Position, and words; `None` for one that a manifest cannot name.
pub(super) fn view_of(text: &str) -> Option<View> {
    match text.trim().to_ascii_uppercase().as_str() {
        "AP" => Some(View::AP),
        "PA" => Some(View::PA),
        "FRONTAL" => Some(View::Frontal),
        // Left and right lateral.
        "LATERAL" | "LL" | "RL" => Some(View::Lateral),
        _ => None,
    }
}

/// A view as a manifest writes it.
pub(super) struct Written(pub(super) View);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            View::AP => "AP",
            View::PA => "PA",
            View::Frontal => "frontal",
            View::Lateral => "lateral",
        })
    }
}
