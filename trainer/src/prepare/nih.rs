//! NIH ChestX-ray14: `Data_Entry_2017.csv`, folders of pictures, and the official lists of `train_val` and `test`.
//!
//! There are no reports, so impressions are templates filled with the labels, in the order of the table:
//! "Atelectasis, infiltrates and pneumonia." The labels were mined from reports by NIH's program.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use raygen_manifest::{CLASSES, Labels, NO_FINDING, Split};

use super::files::{PictureIndex, stem};
use super::output::Collector;
use super::table::{Row, Table};
use super::view::view_of;
use super::{Entry, PrepareError, Reason, Report, Target, Views};

const SOURCE: &str = "nih-chestxray14";
const LICENCE: &str = "NIH-unrestricted-attribution";
const TEXT_ORIGIN: &str = "template from NIH text-mined labels (NOT a report)";
const NORMAL: &str = "No acute cardiopulmonary abnormality.";

/// A label of NIH's: its name, what a template calls it, and the classes that it is.
const LABELS: [(&str, &str, &[&str]); 14] = [
    ("Atelectasis", "atelectasis", &["Atelectasis"]),
    ("Cardiomegaly", "cardiomegaly", &["Cardiomegaly"]),
    ("Consolidation", "consolidation", &["Consolidation", "Lung Opacity"]),
    ("Edema", "pulmonary edema", &["Edema"]),
    ("Effusion", "pleural effusion", &["Pleural Effusion"]),
    ("Emphysema", "emphysema", &[]),
    ("Fibrosis", "fibrosis", &[]),
    ("Hernia", "hernia", &[]),
    ("Infiltration", "infiltrates", &["Lung Opacity"]),
    ("Mass", "mass", &["Lung Lesion"]),
    ("Nodule", "nodule", &["Lung Lesion"]),
    ("Pleural_Thickening", "pleural thickening", &[]),
    ("Pneumonia", "pneumonia", &["Pneumonia"]),
    ("Pneumothorax", "pneumothorax", &["Pneumothorax"]),
];

/// What is kept of ChestX-ray14.
#[derive(Debug, Clone)]
pub struct NihOptions {
    /// `Data_Entry_2017.csv`, or the 2020 one.
    pub labels: PathBuf,
    /// The folder of the pictures, or of their folders.
    pub images: PathBuf,
    /// `train_val_list.txt`: its patients are dealt to `train` and `val`.
    pub train_list: Option<PathBuf>,
    /// `test_list.txt`: the official `test`.
    pub test_list: Option<PathBuf>,
    /// Views.
    pub views: Views,
}

/// Makes a manifest of ChestX-ray14, in the order of its table.
///
/// # Errors
/// The table or a list is wrong, a patient is in two splits, nothing is kept, or the manifest cannot be written. Missing
/// pictures are counted instead.
pub fn prepare(options: &NihOptions, target: &Target) -> Result<Report, PrepareError> {
    let mut out = Collector::open(target)?;
    let lists = Lists::read(options)?;
    if lists.any() && target.split.test > 0.0 {
        return Err(PrepareError::option(
            "--test",
            "the lists say what is in test; leave it out, or leave out the lists",
        ));
    }
    let images = options.images.canonicalize().map_err(PrepareError::read(&options.images))?;
    let files = PictureIndex::of(&images, stem)?;
    let mut table = Table::open(&options.labels)?;
    let (name, finding, patient, view) = (
        table.column("Image Index")?,
        table.column("Finding Labels")?,
        table.column("Patient ID")?,
        table.column("View Position")?,
    );
    while let Some(row) = table.next()? {
        if out.is_full() {
            break;
        }
        let name = row.file_name(name)?;
        let found = findings(row.text(finding)).map_err(|problem| row.wrong(finding, problem))?;
        let patient = patient_of(&row, patient)?;
        let view = view_of(row.text(view));
        if !view.is_some_and(|view| options.views.takes(view)) {
            out.drop(Reason::OtherView, name);
            continue;
        }
        let split = match lists.place(name) {
            Place::Test => Some(Split::Test),
            Place::TrainVal => Some(target.split.train_or_val(&patient)),
            Place::Anywhere => None,
            Place::Nowhere => {
                out.drop(Reason::Unlisted, name);
                continue;
            }
        };
        let Some(image) = files.find(name) else {
            out.drop(Reason::MissingImage, name);
            continue;
        };
        out.keep(Entry {
            image: image.to_owned(),
            patient,
            split,
            view,
            impression: template(&found),
            findings: String::new(),
            labels: labels(&found),
            uncertain: Vec::new(),
            text_origin: TEXT_ORIGIN.to_owned(),
            source: SOURCE.to_owned(),
            licence: LICENCE.to_owned(),
        })?;
    }
    out.finish()
}

/// `nih` and the eight digits that the pictures' names have.
fn patient_of(row: &Row<'_>, column: super::table::Column) -> Result<String, PrepareError> {
    let text = row.required(column)?;
    match text.parse::<u32>() {
        Ok(number) => Ok(format!("nih{number:08}")),
        Err(_) => Err(row.wrong(column, format!("\"{text}\" is no number of a patient"))),
    }
}

/// Indices into [`LABELS`], in the table's order; none where there is no finding.
fn findings(text: &str) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    let names: Vec<&str> = text.split('|').map(str::trim).collect();
    if names == [NO_FINDING] {
        return Ok(found);
    }
    for name in names {
        match LABELS.iter().position(|(known, ..)| *known == name) {
            Some(index) if found.contains(&index) => {}
            Some(index) => found.push(index),
            None if name == NO_FINDING => return Err(format!("\"{text}\" contradicts itself")),
            None => return Err(format!("\"{name}\" is no label of ChestX-ray14")),
        }
    }
    Ok(found)
}

/// One sentence with the labels in it.
fn template(found: &[usize]) -> String {
    let phrases: Vec<&str> = found.iter().map(|index| LABELS[*index].1).collect();
    let Some((last, others)) = phrases.split_last() else { return NORMAL.to_owned() };
    let sentence = if others.is_empty() { format!("{last}.") } else { format!("{} and {last}.", others.join(", ")) };
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// The classes of the labels; the publisher's names where none is a class, which is negative for all ten.
fn labels(found: &[usize]) -> Labels {
    if found.is_empty() {
        return Labels::Negative;
    }
    let classes: Vec<&str> = found.iter().flat_map(|index| LABELS[*index].2.iter().copied()).collect();
    let ordered: Vec<String> =
        CLASSES.iter().filter(|class| classes.contains(class)).map(|class| (*class).to_owned()).collect();
    let published = || found.iter().map(|index| LABELS[*index].0.replace('_', " ")).collect();
    Labels::Positive(if ordered.is_empty() { published() } else { ordered })
}

/// What the official lists say of a picture.
enum Place {
    TrainVal,
    Test,
    /// There are no lists.
    Anywhere,
    /// It is in none of them.
    Nowhere,
}

/// The official lists.
struct Lists {
    train: Option<HashSet<String>>,
    test: Option<HashSet<String>>,
}

impl Lists {
    fn read(options: &NihOptions) -> Result<Self, PrepareError> {
        let list = |path: &Option<PathBuf>| path.as_deref().map(names).transpose();
        Ok(Self { train: list(&options.train_list)?, test: list(&options.test_list)? })
    }

    fn any(&self) -> bool {
        self.train.is_some() || self.test.is_some()
    }

    fn place(&self, name: &str) -> Place {
        let listed = |list: &Option<HashSet<String>>| list.as_ref().map(|list| list.contains(name));
        match (listed(&self.train), listed(&self.test)) {
            (None, None) => Place::Anywhere,
            (_, Some(true)) => Place::Test,
            (Some(true), _) | (None, Some(false)) => Place::TrainVal,
            (Some(false), _) => Place::Nowhere,
        }
    }
}

fn names(path: &Path) -> Result<HashSet<String>, PrepareError> {
    let text = fs::read_to_string(path).map_err(PrepareError::read(path))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_one_sentence_in_the_order_of_the_table() {
        let of = |text: &str| findings(text).map(|found| template(&found));
        assert_eq!(of("No Finding").as_deref(), Ok("No acute cardiopulmonary abnormality."));
        assert_eq!(of("Pneumonia").as_deref(), Ok("Pneumonia."));
        assert_eq!(
            of("Edema|Infiltration|Edema|Pneumonia").as_deref(),
            Ok("Pulmonary edema, infiltrates and pneumonia.")
        );
        assert!(of("No Finding|Mass").is_err());
        assert!(of("").is_err());
    }

    #[test]
    fn a_label_that_is_no_class_is_kept_by_its_name() {
        let of = |text: &str| findings(text).map(|found| labels(&found).names()).unwrap_or_default();
        assert_eq!(of("Pleural_Thickening"), ["Pleural Thickening"]);
        assert_eq!(of("Pleural_Thickening|Mass"), ["Lung Lesion"]);
        assert_eq!(of("Consolidation"), ["Consolidation", "Lung Opacity"]);
        assert_eq!(of("No Finding"), ["No Finding"]);
    }
}
