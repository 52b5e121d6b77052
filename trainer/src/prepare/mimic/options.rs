//! Which films of MIMIC-CXR are kept, and the published selections.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;

use super::labels::{LabelRule, Uncertain};
use super::tables::Image;
use crate::config::TextCleaning;
use crate::prepare::view::view_of;
use crate::prepare::{Extraction, TextOptions, Views};

/// Where a film's split comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Splits {
    /// The official split table where there is one, else the patients are dealt.
    #[default]
    Official,
    /// The paper's lists: folder p10 is `val`, the others are `train`.
    Paper,
    /// Patients are dealt, whatever the table says.
    Dealt,
}

/// The views that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewChoice {
    /// The most common View Position of the metadata table (AP), and no other.
    MostCommon,
    /// These.
    Only(Views),
}

impl FromStr for ViewChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("most-common") {
            return Ok(Self::MostCommon);
        }
        let kinds = text.split(',').map(str::parse).collect::<Result<_, _>>();
        kinds.map(|kinds| Self::Only(Views(kinds))).map_err(|problem| format!("{problem}, or most-common"))
    }
}

impl ViewChoice {
    pub(super) fn resolve(&self, images: &[Image]) -> Resolved {
        match self {
            Self::Only(views) => Resolved::Kinds(views.clone()),
            Self::MostCommon => {
                let mut counts: HashMap<&str, usize> = HashMap::new();
                for image in images.iter().filter(|image| !image.view.is_empty()) {
                    *counts.entry(image.view.as_str()).or_default() += 1;
                }
                // Of two that are as common the first by name, so that the choice is the same each time.
                let most = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(a.0)));
                Resolved::Position(most.map(|(position, _)| position.to_owned()).unwrap_or_default())
            }
        }
    }
}

/// The choice once the table is known.
pub(super) enum Resolved {
    Kinds(Views),
    Position(String),
}

impl Resolved {
    pub(super) fn takes(&self, position: &str) -> bool {
        match self {
            Self::Kinds(views) => view_of(position).is_some_and(|view| views.takes(view)),
            Self::Position(wanted) => wanted == position,
        }
    }

    pub(super) fn describe(&self) -> &str {
        match self {
            Self::Kinds(_) => "as asked for",
            Self::Position(position) => position,
        }
    }
}

/// What is kept of MIMIC-CXR.
#[derive(Debug, Clone)]
pub struct MimicOptions {
    /// The tree: tables, and images under `files/`.
    pub root: PathBuf,
    /// The tree of the reports; `root` where there is none.
    pub reports: Option<PathBuf>,
    /// Views.
    pub views: ViewChoice,
    /// Whether only the first image of a study is kept.
    pub first_of_study: bool,
    /// Folders of patients, such as `p10`; all where empty.
    pub folders: Vec<String>,
    /// Splits.
    pub splits: Splits,
    /// Texts.
    pub text: TextOptions,
    /// Labels.
    pub labels: LabelRule,
}

impl MimicOptions {
    /// All frontal films with an impression.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            reports: None,
            views: ViewChoice::Only(Views::frontal()),
            first_of_study: false,
            folders: Vec::new(),
            splits: Splits::default(),
            text: TextOptions::default(),
            labels: LabelRule::default(),
        }
    }

    /// What the paper's generator learned from: the most common view, the first image of each study, all that follows the
    /// last "IMPRESSION:", letters only; studies without it are left out. Folder p10 validates, the others
    /// train.
    #[must_use]
    pub fn paper_train(root: impl Into<PathBuf>) -> Self {
        Self {
            views: ViewChoice::MostCommon,
            first_of_study: true,
            splits: Splits::Paper,
            text: TextOptions {
                extraction: Extraction::Published,
                cleaning: TextCleaning::Letters,
                ..TextOptions::default()
            },
            ..Self::new(root)
        }
    }

    /// What the paper's classifier learned from: folder p10, rows with an uncertain label left out, and those that are
    /// positive for a label outside the ten classes; a blank label is negative. Deal the patients 80/10/10.
    #[must_use]
    pub fn paper_classifier(root: impl Into<PathBuf>) -> Self {
        Self {
            first_of_study: true,
            folders: vec!["p10".to_owned()],
            splits: Splits::Dealt,
            text: TextOptions { keep_textless: true, ..TextOptions::default() },
            labels: LabelRule {
                uncertain: Uncertain::Drop,
                drop_other_positives: true,
                blank_is_negative: true,
                required: true,
            },
            ..Self::new(root)
        }
    }
}
