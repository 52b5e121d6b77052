//! Reads a manifest: header, rows, then what holds between rows.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::Path,
    str::FromStr,
};

use csv::StringRecord;

use crate::labels::parse_uncertain;
use crate::{CLASSES, Film, Labels, Manifest, ManifestError, Split};

/// Columns that have a meaning: those that the contract names, and `uncertain_labels`. Others are kept in [`Film::other`].
const KNOWN_COLUMNS: [&str; 11] = [
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

impl Manifest {
    /// Reads and checks a manifest. Does not look at the films: see [`Manifest::check_files`].
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ManifestError> {
        let file = path.as_ref();
        let unreadable = |source| ManifestError::Unreadable { file: file.to_owned(), source };
        let mut reader = csv::ReaderBuilder::new().from_reader(File::open(file).map_err(unreadable)?);
        let header = reader.headers().map_err(|error| table_error(file, error))?.clone();
        let columns = Columns::read(file, &header)?;

        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        let mut films = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|error| table_error(file, error))?;
            films.push(columns.film(file, folder, &record)?);
        }
        if films.is_empty() {
            return Err(ManifestError::Empty { file: file.to_owned() });
        }
        let group_splits = group_splits(file, &films)?;
        let notices = notices(&columns, &films);
        Ok(Self { file: file.to_owned(), films, notices, group_splits })
    }
}

/// Where each column is.
struct Columns {
    known: HashMap<&'static str, usize>,
    other: BTreeMap<String, usize>,
}

impl Columns {
    fn read(file: &Path, header: &StringRecord) -> Result<Self, ManifestError> {
        let mut columns = Self { known: HashMap::new(), other: BTreeMap::new() };
        for (index, name) in header.iter().enumerate() {
            // Spreadsheets write a byte order mark in front of the first name.
            let name = name.trim_start_matches('\u{feff}').trim();
            let previous = match KNOWN_COLUMNS.iter().find(|known| **known == name) {
                Some(known) => columns.known.insert(known, index),
                None if name.is_empty() => None,
                None => columns.other.insert(name.to_owned(), index),
            };
            if previous.is_some() {
                return Err(ManifestError::DuplicateColumn { file: file.to_owned(), column: name.to_owned() });
            }
        }
        if !columns.known.contains_key("path") {
            let names: Vec<String> = header.iter().map(|name| format!("\"{}\"", name.trim())).collect();
            let found = if names.is_empty() { "no columns".to_owned() } else { names.join(", ") };
            return Err(ManifestError::MissingColumn { file: file.to_owned(), column: "path", found });
        }
        Ok(columns)
    }

    /// One row.
    fn film(&self, file: &Path, folder: &Path, record: &StringRecord) -> Result<Film, ManifestError> {
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |column, problem| ManifestError::Field { file: file.to_owned(), line, column, problem };
        let text = |column: &str| {
            let field = self.known.get(column).and_then(|index| record.get(*index)).unwrap_or_default().trim();
            (!field.is_empty()).then(|| field.to_owned())
        };
        let id = text("path").ok_or_else(|| wrong("path", "it is empty; name the film's file".to_owned()))?;
        if id.contains('\0') {
            return Err(wrong("path", "it holds a NUL character; name the film's file".to_owned()));
        }
        let labels = Labels::parse(&text("labels").unwrap_or_default()).map_err(|problem| wrong("labels", problem))?;
        let uncertain = parse_uncertain(&text("uncertain_labels").unwrap_or_default(), &labels)
            .map_err(|problem| wrong("uncertain_labels", problem))?;
        Ok(Film {
            path: folder.join(&id),
            line,
            split: parsed(text("split")).map_err(|problem| wrong("split", problem))?,
            patient: text("patient"),
            view: parsed(text("view")).map_err(|problem| wrong("view", problem))?,
            impression: text("impression"),
            findings: text("findings"),
            labels,
            uncertain,
            text_origin: text("text_origin"),
            source: text("source"),
            licence: text("licence"),
            other: self
                .other
                .iter()
                .filter_map(|(name, index)| Some((name.clone(), record.get(*index)?.trim().to_owned())))
                .filter(|(_, field)| !field.is_empty())
                .collect(),
            id,
        })
    }
}

fn parsed<T: FromStr<Err = String>>(field: Option<String>) -> Result<Option<T>, String> {
    field.map(|text| text.parse()).transpose()
}

/// The written split of each patient: none may be in two. A patient whose films have none written is left out.
fn group_splits(file: &Path, films: &[Film]) -> Result<HashMap<String, Split>, ManifestError> {
    let mut seen: HashMap<&str, (Split, u64)> = HashMap::new();
    for film in films {
        let Some(split) = film.split else { continue };
        let (other_split, other_line) = *seen.entry(film.group()).or_insert((split, film.line));
        if other_split != split {
            return Err(ManifestError::SharedPatient {
                file: file.to_owned(),
                patient: film.group().to_owned(),
                line: film.line,
                split,
                other_line,
                other_split,
            });
        }
    }
    Ok(seen.into_iter().map(|(group, (split, _))| (group.to_owned(), split)).collect())
}

fn notices(columns: &Columns, films: &[Film]) -> Vec<String> {
    let mut notices = Vec::new();
    if !columns.other.is_empty() {
        let names: Vec<&str> = columns.other.keys().map(String::as_str).collect();
        notices.push(format!("columns kept but not used: {}", names.join(", ")));
    }
    let unknown: BTreeSet<&str> = films.iter().flat_map(|film| film.labels.unknown()).collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.into_iter().collect();
        notices.push(format!(
            "labels that count for no class: {} (the classes are {})",
            names.join(", "),
            CLASSES.join(", ")
        ));
    }
    notices
}

fn table_error(file: &Path, error: csv::Error) -> ManifestError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.into_kind() {
        csv::ErrorKind::Io(source) => return ManifestError::Unreadable { file: file.to_owned(), source },
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8 text; save the table as CSV UTF-8".to_owned(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("the row has {len} fields but the header has {expected_len}; quote fields that hold a comma")
        }
        other => format!("it is not CSV: {other:?}"),
    };
    ManifestError::NotATable { file: file.to_owned(), line, problem }
}
