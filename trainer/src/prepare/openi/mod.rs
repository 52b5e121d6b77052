//! Indiana University's chest films (Open-i), in both layouts that people have.
//!
//! As tables: `indiana_reports.csv` (a row for each report) and `indiana_projections.csv` (a row for each picture, with
//! Frontal or Lateral). As published: a folder or `.tgz` of one XML file for each report, which lists its pictures but not
//! their views. Pictures are found by their name below the given folder, whichever of the two names they have:
//! `CXR1_1_IM-0001-4001.png` and `1_IM-0001-4001.dcm.png` are one picture.

mod classes;
mod tables;
mod xml;

use std::collections::HashMap;
use std::path::PathBuf;

use raygen_manifest::View;

use super::files::{PictureIndex, stem};
use super::output::Collector;
use super::{Entry, PrepareError, Reason, Report, Target, TextOptions, Views};

const SOURCE: &str = "openi-indiana";
const LICENCE: &str = "CC-BY-NC-ND-4.0";

/// Where the reports are.
#[derive(Debug, Clone)]
pub enum OpeniReports {
    /// Two tables.
    Csv {
        /// `indiana_reports.csv`.
        reports: PathBuf,
        /// `indiana_projections.csv`.
        projections: PathBuf,
    },
    /// XML files.
    Xml {
        /// Their folder, or the `.tgz` of it.
        reports: PathBuf,
        /// `indiana_projections.csv`, which knows the views.
        projections: Option<PathBuf>,
    },
}

/// What is kept of Open-i.
#[derive(Debug, Clone)]
pub struct OpeniOptions {
    /// The reports.
    pub reports: OpeniReports,
    /// The folder of the pictures.
    pub images: PathBuf,
    /// Views. A picture whose view is not known is kept.
    pub views: Views,
    /// Texts.
    pub text: TextOptions,
}

/// A report, whatever it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ReportText {
    /// MeSH terms, each with its qualifiers behind slashes.
    terms: Vec<String>,
    impression: String,
    findings: String,
}

/// A picture that a table or a report names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Picture {
    uid: String,
    name: String,
    view: Option<View>,
}

/// Reports by uid, and the pictures in the order of the source.
#[derive(Debug, Default)]
struct Archive {
    reports: HashMap<String, ReportText>,
    pictures: Vec<Picture>,
}

/// Makes a manifest of Open-i. Each uid is a patient.
///
/// # Errors
/// A table or report is wrong, nothing is kept, or the manifest cannot be written. Missing pictures are counted instead.
pub fn prepare(options: &OpeniOptions, target: &Target) -> Result<Report, PrepareError> {
    let mut out = Collector::open(target)?;
    let images = options.images.canonicalize().map_err(PrepareError::read(&options.images))?;
    let archive = match &options.reports {
        OpeniReports::Csv { reports, projections } => tables::read(reports, projections)?,
        OpeniReports::Xml { reports, projections } => {
            let views = projections.as_deref().map(tables::views).transpose()?;
            if views.is_none() {
                out.note("the reports do not say which films are lateral: all are kept; --projections knows");
            }
            xml::read(reports, views.as_ref())?
        }
    };
    let files = PictureIndex::of(&images, key)?;
    for picture in archive.pictures {
        if out.is_full() {
            break;
        }
        if picture.view.is_some_and(|view| !options.views.takes(view)) {
            out.drop(Reason::OtherView, picture.name);
            continue;
        }
        let Some(report) = archive.reports.get(&picture.uid) else {
            out.drop(Reason::MissingReport, picture.name);
            continue;
        };
        let texts = options.text.of_sections(&report.impression, report.findings.clone());
        if texts.impression.is_empty() && !options.text.keep_textless {
            out.drop(Reason::NoImpression, picture.name);
            continue;
        }
        let Some(image) = files.find(&picture.name) else {
            out.drop(Reason::MissingImage, picture.name);
            continue;
        };
        out.keep(Entry {
            image: image.to_owned(),
            patient: format!("openi{}", picture.uid),
            split: None,
            view: picture.view,
            impression: texts.impression,
            findings: texts.findings,
            labels: classes::labels(&report.terms),
            uncertain: Vec::new(),
            text_origin: texts.text_origin,
            source: SOURCE.to_owned(),
            licence: LICENCE.to_owned(),
        })?;
    }
    out.finish()
}

/// What both names of a picture have in common: the uid, and the number of the film.
fn key(name: &str) -> String {
    let stem = stem(name);
    let bare = stem.strip_prefix("CXR").unwrap_or(&stem);
    match (bare.split_once('_'), bare.find("IM-")) {
        (Some((uid, _)), Some(film)) => format!("{uid}_{}", &bare[film..]),
        _ => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_names_of_a_picture_are_one() {
        assert_eq!(key("CXR1_1_IM-0001-4001.png"), "1_IM-0001-4001");
        assert_eq!(key("1_IM-0001-4001.dcm.png"), "1_IM-0001-4001");
        assert_eq!(key("CXR1000_IM-0003-1001"), key("1000_IM-0003-1001.jpg"));
        assert_eq!(key("other.png"), "other");
    }
}
