//! MIMIC-CXR-JPG as PhysioNet lays it out.
//!
//! ```text
//! ROOT/mimic-cxr-2.0.0-metadata.csv[.gz]      images, studies, subjects and views
//! ROOT/mimic-cxr-2.0.0-split.csv[.gz]         the official split, which keeps each subject in one
//! ROOT/mimic-cxr-2.0.0-chexpert.csv[.gz]      labels of each study
//! ROOT/files/p10/p10000032/s50414267/DICOM.jpg
//! REPORTS/files/p10/p10000032/s50414267.txt   from MIMIC-CXR; ROOT where --reports is not given
//! ```

mod labels;
mod options;
mod tables;

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use raygen_manifest::Split;

use super::output::Collector;
use super::text::Texts;
use super::{Entry, PrepareError, Reason, Report, Target};

pub use labels::{LabelRule, Uncertain};
pub use options::{MimicOptions, Splits, ViewChoice};

use tables::{Image, Tables};

const SOURCE: &str = "mimic-cxr-jpg";
const LICENCE: &str = "PhysioNet-Credentialed-Health-Data-1.5.0";

/// Makes a manifest of a MIMIC-CXR-JPG tree. Films stand in the order of the metadata table.
///
/// # Errors
/// A table is missing or wrong, a patient is in two splits, nothing is kept, or the manifest cannot be written. Missing
/// pictures and reports are counted instead.
pub fn prepare(options: &MimicOptions, target: &Target) -> Result<Report, PrepareError> {
    if let Some(folder) = options.folders.iter().find(|folder| !is_folder(folder)) {
        return Err(PrepareError::option(
            "--folders",
            format!("\"{folder}\" is no folder of patients; there are p10 to p19"),
        ));
    }
    let mut out = Collector::open(target)?;
    let root = options.root.canonicalize().map_err(PrepareError::read(&options.root))?;
    let tables = Tables::read(&root, options, &mut out)?;
    let views = options.views.resolve(&tables.images);
    if let ViewChoice::MostCommon = options.views {
        out.note(format!("the most common view is {}", views.describe()));
    }
    let reports = Reports::new(options.reports.as_deref().unwrap_or(&options.root), options);
    let pictures = files_below(&root);
    let mut seen = HashSet::new();
    for image in &tables.images {
        if out.is_full() {
            break;
        }
        let name = format!("{}/{}.jpg", study_path(image), image.dicom);
        if !options.folders.is_empty() && !options.folders.iter().any(|folder| *folder == image.folder()) {
            out.drop(Reason::OtherFolder, name);
            continue;
        }
        if !views.takes(&image.view) {
            out.drop(Reason::OtherView, name);
            continue;
        }
        // After the view, as the published selection does it: the first film of that view.
        if options.first_of_study && !seen.insert((image.subject.as_str(), image.study.as_str())) {
            out.drop(Reason::NotFirstOfStudy, name);
            continue;
        }
        let study = tables.labels.get(&image.study);
        let labels = match options.labels.judge(study) {
            Ok(labels) => labels,
            Err(reason) => {
                out.drop(reason, name);
                continue;
            }
        };
        let texts = match reports.of(image) {
            Ok(texts) => texts,
            Err((reason, name)) => {
                out.drop(reason, name);
                continue;
            }
        };
        let picture = pictures.join(&name);
        if !picture.is_file() {
            out.drop(Reason::MissingImage, name);
            continue;
        }
        out.keep(Entry {
            image: picture,
            patient: format!("mimic{}", image.subject),
            split: match options.splits {
                Splits::Paper if image.folder() == "p10" => Some(Split::Val),
                Splits::Paper => Some(Split::Train),
                Splits::Official | Splits::Dealt => tables.splits.get(&image.subject).copied(),
            },
            view: image.known_view(),
            impression: texts.impression,
            findings: texts.findings,
            labels,
            uncertain: options.labels.uncertain(study),
            text_origin: texts.text_origin,
            source: SOURCE.to_owned(),
            licence: LICENCE.to_owned(),
        })?;
    }
    out.finish()
}

/// Whether it is called as the folders of patients are: `p` and two digits.
fn is_folder(name: &str) -> bool {
    name.strip_prefix('p').is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Path of an image's study below `files/`.
fn study_path(image: &Image) -> String {
    format!("{}/p{}/s{}", image.folder(), image.subject, image.study)
}

/// PhysioNet's `files/`, which some copies leave out.
fn files_below(root: &Path) -> PathBuf {
    let files = root.join("files");
    if files.is_dir() { files } else { root.to_owned() }
}

/// The reports of the studies.
struct Reports<'a> {
    folder: PathBuf,
    options: &'a MimicOptions,
}

impl<'a> Reports<'a> {
    fn new(root: &Path, options: &'a MimicOptions) -> Self {
        Self { folder: files_below(root), options }
    }

    /// The texts of an image's study, or why it is left out, and the report's name.
    fn of(&self, image: &Image) -> Result<Texts, (Reason, String)> {
        let options = &self.options.text;
        let name = format!("{}.txt", study_path(image));
        let bytes = match fs::read(self.folder.join(&name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && options.keep_textless => return Ok(Texts::default()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err((Reason::MissingReport, name)),
            // It has a text, which nobody knows: it is not one that has none.
            Err(error) => return Err((Reason::UnreadableReport, format!("{name} ({error})"))),
        };
        // De-identified reports are ASCII but for a few bytes; one of those is no reason to lose a study.
        let texts = options.of_report(&String::from_utf8_lossy(&bytes));
        if texts.impression.is_empty() && !options.keep_textless {
            return Err((Reason::NoImpression, name));
        }
        Ok(texts)
    }
}
