//! What became of an archive: films kept by split, class and view, films left out by reason.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;

use raygen_manifest::{CLASSES, Labels, NO_FINDING, Split};
use serde::Serialize;

use super::Entry;
use super::view::Written;

/// Names told of each reason.
const SHOWN: usize = 5;
/// What films without labels and without a view are counted under.
const UNLABELLED: &str = "unlabelled";
const NO_VIEW: &str = "view unknown";

/// Why a film was left out. None of them ends the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It is in a folder that was not asked for.
    OtherFolder,
    /// It was not taken from where it was asked for.
    OtherView,
    /// Its study has an earlier one.
    NotFirstOfStudy,
    /// The archive's lists or reports do not know it.
    Unlisted,
    /// Its file is not there.
    MissingImage,
    /// Its report is not there.
    MissingReport,
    /// Its report is there and cannot be read.
    UnreadableReport,
    /// Its report has no impression.
    NoImpression,
    /// It has an uncertain label.
    UncertainLabel,
    /// It is positive for a label that the selection leaves out.
    ExcludedLabel,
    /// It has no labels, and they were asked for.
    Unlabelled,
    /// Its file is there twice.
    Duplicate,
    /// Its name is not UTF-8.
    UnreadableName,
    /// Its file says that words are burned into the picture: they may tell who the patient is.
    BurnedIn,
    /// Its file has several frames.
    MultiFrame,
    /// Its file is no picture that can be decoded.
    Undecodable,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OtherFolder => "in a folder not asked for",
            Self::OtherView => "view not asked for",
            Self::NotFirstOfStudy => "not the first of its study",
            Self::Unlisted => "in no list or report",
            Self::MissingImage => "picture missing",
            Self::MissingReport => "report missing",
            Self::UnreadableReport => "report cannot be read",
            Self::NoImpression => "report without impression",
            Self::UncertainLabel => "uncertain label",
            Self::ExcludedLabel => "positive for an excluded label",
            Self::Unlabelled => "without labels",
            Self::Duplicate => "there twice",
            Self::UnreadableName => "name is not UTF-8",
            Self::BurnedIn => "words burned into the picture",
            Self::MultiFrame => "several frames",
            Self::Undecodable => "cannot be decoded",
        })
    }
}

/// Films left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// The reason.
    pub reason: Reason,
    /// How many.
    pub count: usize,
    /// The first few by name, with what is known of each.
    pub examples: Vec<String>,
}

/// A number for each split.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Of `train`.
    pub train: usize,
    /// Of `val`.
    pub val: usize,
    /// Of `test`.
    pub test: usize,
}

impl Counts {
    fn add(&mut self, split: Split) {
        match split {
            Split::Train => self.train += 1,
            Split::Val => self.val += 1,
            Split::Test => self.test += 1,
        }
    }

    /// Of all splits.
    #[must_use]
    pub fn all(&self) -> usize {
        self.train + self.val + self.test
    }
}

/// What became of an archive.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The manifest.
    pub manifest: PathBuf,
    /// Films in it.
    pub films: Counts,
    /// Patients in it.
    pub patients: Counts,
    /// Films in it that have no impression.
    pub without_impression: usize,
    /// Films that are positive for a class, by class; `No Finding` and `unlabelled` beside them.
    pub classes: BTreeMap<String, Counts>,
    /// Films by view.
    pub views: BTreeMap<String, Counts>,
    /// How many films were left out.
    pub dropped_count: usize,
    /// Why, most frequent first.
    pub dropped: Vec<Dropped>,
    /// Whether the reading stopped at the limit, so that nothing after it was looked at.
    pub limited: bool,
    /// What a person should hear once.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(
        manifest: PathBuf,
        entries: &[(Entry, Split)],
        drops: Drops,
        limited: bool,
        notes: Vec<String>,
    ) -> Self {
        let mut report = Self {
            manifest,
            films: Counts::default(),
            patients: Counts::default(),
            without_impression: 0,
            classes: BTreeMap::new(),
            views: BTreeMap::new(),
            dropped_count: drops.0.values().map(|dropped| dropped.count).sum(),
            dropped: drops.0.into_values().collect(),
            limited,
            notes,
        };
        report.dropped.sort_by_key(|dropped| (usize::MAX - dropped.count, dropped.reason));
        let mut patients = HashSet::new();
        for (entry, split) in entries {
            report.films.add(*split);
            if entry.patient.is_empty() || patients.insert(entry.patient.as_str()) {
                report.patients.add(*split);
            }
            report.without_impression += usize::from(entry.impression.is_empty());
            let view = entry.view.map_or_else(|| NO_VIEW.to_owned(), |view| Written(view).to_string());
            report.views.entry(view).or_default().add(*split);
            let names = match entry.labels {
                Labels::Unlabelled => vec![UNLABELLED.to_owned()],
                _ => entry.labels.names(),
            };
            for name in names {
                report.classes.entry(name).or_default().add(*split);
            }
        }
        report
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:28}{:>9}{:>9}{:>9}{:>9}", "", "train", "val", "test", "all")?;
        let mut row = |name: &str, counts: &Counts| {
            let Counts { train, val, test } = counts;
            writeln!(f, "{name:28}{train:>9}{val:>9}{test:>9}{:>9}", counts.all())
        };
        row("films", &self.films)?;
        row("patients", &self.patients)?;
        let first: Vec<&str> = CLASSES.iter().copied().chain([NO_FINDING, UNLABELLED]).collect();
        let other = self.classes.keys().map(String::as_str).filter(|name| !first.contains(name));
        for name in first.iter().copied().chain(other) {
            row(name, self.classes.get(name).unwrap_or(&Counts::default()))?;
        }
        for (view, counts) in &self.views {
            row(view, counts)?;
        }
        if self.without_impression > 0 {
            writeln!(f, "{} films have no impression", self.without_impression)?;
        }
        writeln!(f, "left out: {}", self.dropped_count)?;
        for Dropped { reason, count, examples } in &self.dropped {
            let more = if *count > examples.len() { ", ..." } else { "" };
            writeln!(f, "{count:>9}  {reason}: {}{more}", examples.join(", "))?;
        }
        if self.limited {
            writeln!(f, "note: stopped at --limit; what follows in the archive was not looked at")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

/// What has been left out so far.
#[derive(Debug, Default)]
pub(super) struct Drops(BTreeMap<Reason, Dropped>);

impl Drops {
    pub(super) fn add(&mut self, reason: Reason, name: impl fmt::Display) {
        let dropped = self.0.entry(reason).or_insert(Dropped { reason, count: 0, examples: Vec::new() });
        dropped.count += 1;
        if dropped.examples.len() < SHOWN {
            dropped.examples.push(name.to_string());
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(|dropped| dropped.count).sum()
    }
}
