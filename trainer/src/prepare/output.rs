//! The manifest being made: films collected, patients kept apart, and all of it written in one step at the end.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use raygen_manifest::{Manifest, Split};

use super::files::relative;
use super::report::Drops;
use super::view::Written;
use super::{Entry, PrepareError, Reason, Report, SplitRule};

const HEADER: [&str; 10] =
    ["path", "split", "patient", "view", "impression", "findings", "labels", "text_origin", "source", "licence"];
/// The column behind them, where a film has such labels.
const UNCERTAIN: &str = "uncertain_labels";
/// How often the progress is drawn.
const REDRAW: Duration = Duration::from_millis(200);

/// Where a manifest goes and how many films it may have.
#[derive(Debug, Clone)]
pub struct Target {
    /// The manifest.
    pub out: PathBuf,
    /// Whether one that is there is replaced.
    pub force: bool,
    /// Most films; all of them where there is none.
    pub limit: Option<usize>,
    /// For patients whose split the source does not say.
    pub split: SplitRule,
}

impl Target {
    /// A target with the usual splits that replaces nothing.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self { out: out.into(), force: false, limit: None, split: SplitRule::default() }
    }
}

/// Films on their way into a manifest.
pub(super) struct Collector<'a> {
    target: &'a Target,
    /// The manifest's folder, free of links and dots.
    folder: PathBuf,
    entries: Vec<Entry>,
    paths: HashSet<String>,
    /// The manifest's paths, in the order of the entries.
    written: Vec<String>,
    /// Splits that the source wrote, by patient.
    splits: HashMap<String, Split>,
    drops: Drops,
    notes: Vec<String>,
    bar: ProgressBar,
    limited: bool,
}

impl<'a> Collector<'a> {
    /// Checks what can be checked before anything is read, and makes the manifest's folder.
    pub(super) fn open(target: &'a Target) -> Result<Self, PrepareError> {
        target.split.check()?;
        target.refuse_taken()?;
        let parent = match target.out.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(PrepareError::write(parent))?;
        let folder = parent.canonicalize().map_err(PrepareError::read(parent))?;
        let bar = if io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(
            ProgressStyle::with_template("{spinner} {elapsed} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(REDRAW);
        Ok(Self {
            target,
            folder,
            entries: Vec::new(),
            paths: HashSet::new(),
            written: Vec::new(),
            splits: HashMap::new(),
            drops: Drops::default(),
            notes: Vec::new(),
            bar,
            limited: false,
        })
    }

    /// Whether no more films are wanted.
    pub(super) fn is_full(&mut self) -> bool {
        self.limited = self.target.limit.is_some_and(|limit| self.entries.len() >= limit);
        self.limited
    }

    /// Leaves a film out.
    pub(super) fn drop(&mut self, reason: Reason, name: impl std::fmt::Display) {
        self.drops.add(reason, name);
        self.redraw();
    }

    /// Something that a person should hear once.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Whether a film with this picture was kept.
    pub(super) fn has(&self, image: &Path) -> bool {
        let path = relative(image, &self.folder);
        path.to_str().is_some_and(|path| self.paths.contains(&path.replace('\\', "/")))
    }

    /// Takes a film. Its picture's path must be free of links and dots in its folders.
    pub(super) fn keep(&mut self, entry: Entry) -> Result<(), PrepareError> {
        let Some(path) = relative(&entry.image, &self.folder).to_str().map(|path| path.replace('\\', "/")) else {
            let path = relative(&entry.image, &self.folder);
            self.drop(Reason::UnreadableName, path.display());
            return Ok(());
        };
        if self.paths.contains(&path) {
            self.drop(Reason::Duplicate, path);
            return Ok(());
        }
        // Without a patient each film is its own.
        let group = if entry.patient.is_empty() { &path } else { &entry.patient };
        if let Some(split) = entry.split {
            let other = *self.splits.entry(group.clone()).or_insert(split);
            if other != split {
                return Err(PrepareError::SharedPatient { patient: entry.patient, film: path, split, other });
            }
        }
        self.paths.insert(path.clone());
        self.written.push(path);
        self.entries.push(entry);
        self.redraw();
        Ok(())
    }

    /// Writes the manifest under a temporary name, reads it back, and gives it its own name.
    pub(super) fn finish(self) -> Result<Report, PrepareError> {
        self.bar.finish_and_clear();
        let Self { target, folder, entries, written, splits, drops, notes, limited, .. } = self;
        // Only now all written splits are known: a row without one follows its patient, wherever that row stands.
        let entries: Vec<(Entry, Split)> = entries
            .into_iter()
            .zip(&written)
            .map(|(entry, path)| {
                let group = if entry.patient.is_empty() { path } else { &entry.patient };
                let split = splits.get(group).copied().unwrap_or_else(|| target.split.split_of(group));
                (entry, split)
            })
            .collect();
        let report = Report::new(target.out.clone(), &entries, drops, limited, notes);
        if entries.is_empty() {
            return Err(PrepareError::NothingKept(report.to_string()));
        }
        let name = target.out.file_name().ok_or_else(|| PrepareError::option("--out", "it names no file"))?;
        let temporary = folder.join(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
        let result = write(&temporary, &entries, &written)
            .map_err(PrepareError::write(&temporary))
            .and_then(|()| Manifest::read(&temporary).map(|_| ()).map_err(PrepareError::ReadBack))
            .and_then(|()| target.refuse_taken())
            .and_then(|()| {
                fs::rename(&temporary, folder.join(name))
                    .and_then(|()| File::open(&folder)?.sync_all())
                    .map_err(PrepareError::write(&target.out))
            });
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result.map(|()| report)
    }

    fn redraw(&self) {
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} films kept, {} left out", self.entries.len(), self.drops.count()));
        }
    }
}

impl Target {
    fn refuse_taken(&self) -> Result<(), PrepareError> {
        if self.out.is_dir() {
            return Err(PrepareError::option("--out", format!("{} is a folder; name a file", self.out.display())));
        }
        if !self.force && self.out.symlink_metadata().is_ok() {
            return Err(PrepareError::Taken(self.out.clone()));
        }
        Ok(())
    }
}

fn write(temporary: &Path, entries: &[(Entry, Split)], paths: &[String]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(io::BufWriter::new(File::create(temporary)?));
    let uncertain = entries.iter().any(|(entry, _)| !entry.uncertain.is_empty());
    writer.write_record(HEADER.into_iter().chain(uncertain.then_some(UNCERTAIN)))?;
    for ((entry, split), path) in entries.iter().zip(paths) {
        let fields = [
            path,
            &split.to_string(),
            &entry.patient,
            &entry.view.map(|view| Written(view).to_string()).unwrap_or_default(),
            &entry.impression,
            &entry.findings,
            &entry.labels.names().join(";"),
            &entry.text_origin,
            &entry.source,
            &entry.licence,
        ];
        let last = uncertain.then(|| entry.uncertain.join(";"));
        writer.write_record(fields.into_iter().chain(last.as_ref()))?;
    }
    let mut buffer = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
    buffer.flush()?;
    buffer.get_ref().sync_all()
}
