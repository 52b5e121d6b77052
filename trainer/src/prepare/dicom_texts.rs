//! The table that says what radiologists wrote of DICOM files.

use std::collections::HashMap;
use std::path::Path;

use raygen_manifest::Labels;

use super::table::Table;
use super::{PrepareError, Reason, TextOptions, labels};

/// Texts by SOP Instance UID and by path.
pub(super) struct TextTable {
    by_uid: HashMap<String, usize>,
    by_path: HashMap<String, usize>,
    rows: Vec<Written>,
}

struct Written {
    impression: String,
    findings: String,
    labels: Labels,
}

/// What a manifest says of a film.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) impression: String,
    pub(super) findings: String,
    pub(super) text_origin: String,
    pub(super) labels: Labels,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            impression: String::new(),
            findings: String::new(),
            text_origin: String::new(),
            labels: Labels::Unlabelled,
        }
    }
}

impl TextTable {
    pub(super) fn read(file: &Path) -> Result<Self, PrepareError> {
        let mut table = Table::open(file)?;
        let (uid, path) = (table.optional("SOPInstanceUID"), table.optional("path"));
        if uid.is_none() && path.is_none() {
            table.column("SOPInstanceUID")?;
        }
        let impression = table.column("impression")?;
        let (findings, classes) = (table.optional("findings"), table.optional("labels"));
        let mut found = Self { by_uid: HashMap::new(), by_path: HashMap::new(), rows: Vec::new() };
        while let Some(row) = table.next()? {
            let index = found.rows.len();
            for (column, map) in [(uid, &mut found.by_uid), (path, &mut found.by_path)] {
                let Some(column) = column else { continue };
                let key = row.text(column);
                if !key.is_empty() && map.insert(key.to_owned(), index).is_some() {
                    return Err(row.wrong(column, format!("\"{key}\" is there twice")));
                }
            }
            let labels = labels::parse(row.text_or_empty(classes), ';');
            found.rows.push(Written {
                impression: row.text(impression).to_owned(),
                findings: row.text_or_empty(findings).to_owned(),
                labels: match (labels, classes) {
                    (Err(problem), Some(column)) => return Err(row.wrong(column, problem)),
                    (labels, _) => labels.unwrap_or(Labels::Unlabelled),
                },
            });
        }
        Ok(found)
    }

    /// What is written of a film, by its UID or else its path; or why it is left out.
    pub(super) fn find(&self, uid: Option<&str>, path: &str, options: &TextOptions) -> Result<Found, Reason> {
        let by_uid = uid.and_then(|uid| self.by_uid.get(uid));
        let row = by_uid.or_else(|| self.by_path.get(path)).and_then(|index| self.rows.get(*index));
        let Some(row) = row else {
            return if options.keep_textless { Ok(Found::default()) } else { Err(Reason::MissingReport) };
        };
        let texts = options.of_sections(&row.impression, row.findings.clone());
        if texts.impression.is_empty() && !options.keep_textless {
            return Err(Reason::NoImpression);
        }
        Ok(Found {
            impression: texts.impression,
            findings: texts.findings,
            text_origin: texts.text_origin,
            labels: row.labels.clone(),
        })
    }
}
