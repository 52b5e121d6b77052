//! Any CSV table with a row for each film: its columns become the contract's by a map.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use raygen_manifest::{Labels, Split, View};

use super::output::Collector;
use super::table::{Column, Row, Table};
use super::view::view_of;
use super::{Entry, PrepareError, Reason, Report, Target, Views, labels};
use crate::config::TextCleaning;

/// Columns of a manifest that a table can fill.
pub const COLUMNS: [&str; 11] = [
    "path",
    "split",
    "patient",
    "view",
    "impression",
    "findings",
    "labels",
    "uncertain_labels",
    "text_origin",
    "source",
    "licence",
];

/// A column of a manifest, and what fills it: `impression=Report Text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// One of [`COLUMNS`].
    pub column: &'static str,
    /// A column of the table, or a value.
    pub from: String,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, from) = text.split_once('=').ok_or_else(|| format!("\"{text}\" has no =; write path=Image"))?;
        let known = COLUMNS.iter().find(|known| **known == column.trim());
        match known {
            Some(column) if !from.trim().is_empty() => Ok(Self { column, from: from.trim().to_owned() }),
            Some(column) => Err(format!("nothing is said to fill \"{column}\"")),
            None => Err(format!("a manifest has no column \"{}\"; it has {}", column.trim(), COLUMNS.join(", "))),
        }
    }
}

/// How a table becomes a manifest.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    /// The table.
    pub csv: PathBuf,
    /// The folder that its paths start from; the table's own where there is none.
    pub images: Option<PathBuf>,
    /// Columns by name. One of the table that is called as a manifest calls it needs no mapping.
    pub map: Vec<Mapping>,
    /// Columns that hold the same in every row.
    pub set: Vec<Mapping>,
    /// What separates labels.
    pub label_separator: char,
    /// Views that are kept; all where there are none.
    pub views: Option<Views>,
    /// What is done to impressions.
    pub cleaning: TextCleaning,
}

impl CsvOptions {
    /// A table whose columns are called as a manifest calls them.
    #[must_use]
    pub fn new(csv: impl Into<PathBuf>) -> Self {
        Self {
            csv: csv.into(),
            images: None,
            map: Vec::new(),
            set: Vec::new(),
            label_separator: ';',
            views: None,
            cleaning: TextCleaning::None,
        }
    }
}

/// Makes a manifest of a table.
///
/// # Errors
/// A mapped column is not there, a field is wrong (with line and column), a patient is in two splits, nothing is kept, or
/// the manifest cannot be written. Missing pictures are counted instead.
pub fn prepare(options: &CsvOptions, target: &Target) -> Result<Report, PrepareError> {
    let mut out = Collector::open(target)?;
    let folder = match options.images.as_deref().or_else(|| options.csv.parent()) {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let folder = folder.canonicalize().map_err(PrepareError::read(folder))?;
    let mut table = Table::open(&options.csv)?;
    let fields = Fields::of(&table, options)?;
    if matches!(fields.patient, Source::Nowhere) {
        out.note(
            "there is no column for the patient: each film is its own, so films of one person may be in two splits",
        );
    }
    let unused = fields.unused(&table);
    if !unused.is_empty() {
        out.note(format!("columns that are left out: {}", unused.join(", ")));
    }
    while let Some(row) = table.next()? {
        if out.is_full() {
            break;
        }
        let name = row.required(fields.path)?;
        let view = fields.view(&row)?;
        if options.views.as_ref().is_some_and(|views| !view.is_some_and(|view| views.takes(view))) {
            out.drop(Reason::OtherView, name);
            continue;
        }
        let (split, labels) = (fields.split(&row)?, fields.labels(&row, options.label_separator)?);
        let uncertain = fields.uncertain(&row, options.label_separator)?;
        let image = folder.join(name);
        if !image.is_file() {
            out.drop(Reason::MissingImage, name);
            continue;
        }
        out.keep(Entry {
            image,
            patient: fields.patient.text(&row).to_owned(),
            split,
            view,
            impression: options.cleaning.apply(fields.impression.text(&row)),
            findings: fields.findings.text(&row).to_owned(),
            labels,
            uncertain,
            text_origin: fields.text_origin.text(&row).to_owned(),
            source: fields.source.text(&row).to_owned(),
            licence: fields.licence.text(&row).to_owned(),
        })?;
    }
    out.finish()
}

/// What fills a column of the manifest.
#[derive(Debug, Clone)]
enum Source {
    Column(Column),
    Value(String),
    Nowhere,
}

impl Source {
    fn text<'a>(&'a self, row: &Row<'a>) -> &'a str {
        match self {
            Self::Column(column) => row.text(*column),
            Self::Value(value) => value,
            Self::Nowhere => "",
        }
    }

    /// The error of what a column or an option holds.
    fn wrong(&self, row: &Row<'_>, option: &'static str, problem: String) -> PrepareError {
        match self {
            Self::Column(column) => row.wrong(*column, problem),
            Self::Value(_) | Self::Nowhere => PrepareError::option(option, problem),
        }
    }
}

/// What fills each column.
struct Fields {
    path: Column,
    split: Source,
    patient: Source,
    view: Source,
    impression: Source,
    findings: Source,
    labels: Source,
    uncertain: Source,
    text_origin: Source,
    source: Source,
    licence: Source,
}

impl Fields {
    fn of(table: &Table, options: &CsvOptions) -> Result<Self, PrepareError> {
        let of = |name: &str| -> Result<Source, PrepareError> {
            let wanted = |mappings: &'_ [Mapping]| {
                mappings.iter().find(|mapping| mapping.column == name).map(|mapping| mapping.from.clone())
            };
            Ok(match (wanted(&options.map), wanted(&options.set)) {
                (Some(_), Some(_)) => {
                    return Err(PrepareError::option("--set", format!("{name} is filled by --map already")));
                }
                (Some(column), None) => Source::Column(table.column(&column)?),
                (None, Some(value)) => Source::Value(value),
                (None, None) => table.optional(name).map_or(Source::Nowhere, Source::Column),
            })
        };
        let path = match of("path")? {
            Source::Column(column) => column,
            Source::Value(_) => {
                return Err(PrepareError::option("--set", "the path is another one in every row; use --map"));
            }
            Source::Nowhere => table.column("path")?,
        };
        Ok(Self {
            path,
            split: of("split")?,
            patient: of("patient")?,
            view: of("view")?,
            impression: of("impression")?,
            findings: of("findings")?,
            labels: of("labels")?,
            uncertain: of("uncertain_labels")?,
            text_origin: of("text_origin")?,
            source: of("source")?,
            licence: of("licence")?,
        })
    }

    fn unused(&self, table: &Table) -> Vec<String> {
        let others = [
            &self.split,
            &self.patient,
            &self.view,
            &self.impression,
            &self.findings,
            &self.labels,
            &self.uncertain,
            &self.text_origin,
            &self.source,
            &self.licence,
        ];
        let used: Vec<Column> = others
            .into_iter()
            .filter_map(|source| if let Source::Column(column) = source { Some(*column) } else { None })
            .chain([self.path])
            .collect();
        table.unused(&used)
    }

    fn view(&self, row: &Row<'_>) -> Result<Option<View>, PrepareError> {
        let text = self.view.text(row);
        match view_of(text) {
            None if !text.is_empty() => Err(self.view.wrong(
                row,
                "--set view",
                format!("\"{text}\" is no view; there are AP, PA, frontal and lateral"),
            )),
            view => Ok(view),
        }
    }

    fn split(&self, row: &Row<'_>) -> Result<Option<Split>, PrepareError> {
        let text = self.split.text(row);
        match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "train" | "training" => Ok(Some(Split::Train)),
            "val" | "valid" | "validate" | "validation" | "dev" => Ok(Some(Split::Val)),
            "test" => Ok(Some(Split::Test)),
            _ => Err(self.split.wrong(
                row,
                "--set split",
                format!("\"{text}\" is no split; there are train, val and test"),
            )),
        }
    }

    /// Classes of which nobody can tell, in the words of the labels.
    fn uncertain(&self, row: &Row<'_>, separator: char) -> Result<Vec<String>, PrepareError> {
        let wrong = |problem| self.uncertain.wrong(row, "--set uncertain_labels", problem);
        match labels::parse(self.uncertain.text(row), separator).map_err(wrong)? {
            Labels::Unlabelled => Ok(Vec::new()),
            Labels::Positive(names) => Ok(names),
            Labels::Negative => Err(wrong("\"No Finding\" is no finding that could be uncertain".to_owned())),
        }
    }

    fn labels(&self, row: &Row<'_>, separator: char) -> Result<Labels, PrepareError> {
        labels::parse(self.labels.text(row), separator)
            .map_err(|problem| self.labels.wrong(row, "--set labels", problem))
    }
}
