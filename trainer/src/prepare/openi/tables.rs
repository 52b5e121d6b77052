//! Open-i as two tables.

use std::collections::HashMap;
use std::path::Path;

use raygen_manifest::View;

use super::{Archive, Picture, ReportText, key};
use crate::prepare::PrepareError;
use crate::prepare::table::Table;
use crate::prepare::view::view_of;

/// Reads both tables.
pub(super) fn read(reports: &Path, projections: &Path) -> Result<Archive, PrepareError> {
    Ok(Archive { reports: read_reports(reports)?, pictures: pictures(projections)? })
}

/// The view of each picture, by its key.
pub(super) fn views(projections: &Path) -> Result<HashMap<String, View>, PrepareError> {
    let pictures = pictures(projections)?;
    Ok(pictures.into_iter().filter_map(|picture| Some((key(&picture.name), picture.view?))).collect())
}

fn read_reports(file: &Path) -> Result<HashMap<String, ReportText>, PrepareError> {
    let mut table = Table::open(file)?;
    let (uid, impression, findings) = (table.column("uid")?, table.column("impression")?, table.column("findings")?);
    let (mesh, problems) = (table.optional("MeSH"), table.optional("Problems"));
    let mut reports = HashMap::new();
    while let Some(row) = table.next()? {
        // Problems are the same terms without their qualifiers.
        let terms = match row.text_or_empty(mesh) {
            "" => row.text_or_empty(problems),
            terms => terms,
        };
        let report = ReportText {
            terms: terms.split(';').map(|term| term.trim().to_owned()).filter(|term| !term.is_empty()).collect(),
            impression: row.text(impression).to_owned(),
            findings: row.text(findings).to_owned(),
        };
        let number = row.required(uid)?;
        if reports.insert(number.to_owned(), report).is_some() {
            return Err(row.wrong(uid, format!("report {number} is there twice")));
        }
    }
    Ok(reports)
}

fn pictures(file: &Path) -> Result<Vec<Picture>, PrepareError> {
    let mut table = Table::open(file)?;
    let (uid, name, view) = (table.column("uid")?, table.column("filename")?, table.column("projection")?);
    let mut pictures = Vec::new();
    while let Some(row) = table.next()? {
        let written = row.text(view);
        let known = view_of(written);
        if known.is_none() && !written.is_empty() {
            return Err(row.wrong(view, format!("\"{written}\" is neither Frontal nor Lateral")));
        }
        let picture =
            Picture { uid: row.required(uid)?.to_owned(), name: row.file_name(name)?.to_owned(), view: known };
        pictures.push(picture);
    }
    Ok(pictures)
}
