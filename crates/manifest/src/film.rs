//! Films and the table that holds them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    str::FromStr,
};

use serde::Serialize;

use crate::{Labels, ManifestError, split::split_by_hash};

/// What a film is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learned from.
    Train,
    /// Looked at while choosing settings.
    Val,
    /// Looked at once, at the end.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

impl FromStr for Split {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "train" => Ok(Self::Train),
            "val" => Ok(Self::Val),
            "test" => Ok(Self::Test),
            other => Err(format!("\"{other}\" is no split; write train, val or test")),
        }
    }
}

/// How the film was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum View {
    /// From front to back.
    AP,
    /// From back to front.
    PA,
    /// AP or PA, not known which.
    Frontal,
    /// From the side.
    Lateral,
}

impl View {
    /// As a manifest writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AP => "AP",
            Self::PA => "PA",
            Self::Frontal => "frontal",
            Self::Lateral => "lateral",
        }
    }
}

impl FromStr for View {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "ap" => Ok(Self::AP),
            "pa" => Ok(Self::PA),
            "frontal" => Ok(Self::Frontal),
            "lateral" => Ok(Self::Lateral),
            _ => Err(format!("\"{text}\" is no view; write AP, PA, frontal or lateral, or leave it empty")),
        }
    }
}

/// One film of a manifest. A column that is absent, or a field that is blank, is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Film {
    /// The path as the manifest writes it; unique enough to name the film in results.
    pub id: String,
    /// Where the film lies: `id` seen from the manifest's folder.
    pub path: PathBuf,
    /// Line of the manifest where its row starts, from 1.
    pub line: u64,
    /// What the manifest says that it is used for; [`Manifest::split_of`] knows it for every film.
    pub split: Option<Split>,
    /// Whose film it is.
    pub patient: Option<String>,
    /// How it was taken.
    pub view: Option<View>,
    /// The text that a generation is conditioned on.
    pub impression: Option<String>,
    /// The longer description that radiologists write before the impression.
    pub findings: Option<String>,
    /// What it shows.
    pub labels: Labels,
    /// Classes of which nobody can say whether it shows them (column `uncertain_labels`): for these `labels` does not hold.
    pub uncertain: Vec<String>,
    /// Where the texts come from: a radiologist, a template.
    pub text_origin: Option<String>,
    /// The collection that it belongs to.
    pub source: Option<String>,
    /// Its licence.
    pub licence: Option<String>,
    /// Columns that the contract does not name, where not blank.
    pub other: BTreeMap<String, String>,
}

impl Film {
    /// Whether it shows a class, as far as anybody knows: `None` where it is uncertain, or nobody labelled it.
    #[must_use]
    pub fn shows(&self, class: &str) -> Option<bool> {
        shows(&self.labels, &self.uncertain, class)
    }

    /// What splits may not share: the patient, or where none is named, the film itself.
    #[must_use]
    pub fn group(&self) -> &str {
        self.patient.as_deref().unwrap_or(&self.id)
    }
}

/// Whether a film of these labels shows a class, as far as anybody knows: `None` where it is among the `uncertain`, or nobody
/// labelled it.
#[must_use]
pub fn shows(labels: &Labels, uncertain: &[String], class: &str) -> Option<bool> {
    if uncertain.iter().any(|name| name == class) { None } else { labels.is_positive(class) }
}

/// A manifest that was read and found consistent.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The CSV file.
    pub file: PathBuf,
    /// The films, in the order of the file; never empty.
    pub films: Vec<Film>,
    /// What a person should hear once: columns that are ignored, labels that count for no class.
    pub notices: Vec<String>,
    /// The split of each group with a film whose split is written.
    pub(crate) group_splits: HashMap<String, Split>,
}

impl Manifest {
    /// What a film of this manifest is used for: the split that is written for it or for another film of its patient,
    /// or else one by a hash of the patient: `val` for a tenth of the patients, `train` for the others, always the same.
    ///
    /// No patient is ever in two splits.
    #[must_use]
    pub fn split_of(&self, film: &Film) -> Split {
        let written = film.split.or_else(|| self.group_splits.get(film.group()).copied());
        written.unwrap_or_else(|| split_by_hash(film.group()))
    }

    /// The films of one split, in the order of the file.
    pub fn split(&self, split: Split) -> impl Iterator<Item = &Film> {
        self.films.iter().filter(move |film| self.split_of(film) == split)
    }

    /// Checks that every film is there.
    ///
    /// # Errors
    /// [`ManifestError::MissingFilm`] with the first that is not, and how many are missing in all.
    pub fn check_files(&self) -> Result<(), ManifestError> {
        let missing: Vec<&Film> = self.films.iter().filter(|film| !film.path.is_file()).collect();
        match missing.first() {
            None => Ok(()),
            Some(first) => Err(ManifestError::MissingFilm {
                file: self.file.clone(),
                line: first.line,
                film: first.path.clone(),
                missing_count: missing.len(),
            }),
        }
    }
}
