//! The tables of MIMIC-CXR-JPG.

use std::collections::HashMap;
use std::path::Path;

use raygen_manifest::{CLASSES, Split, View};

use super::labels::{Mention, OTHERS, StudyLabels};
use super::options::{MimicOptions, Splits};
use crate::prepare::PrepareError;
use crate::prepare::output::Collector;
use crate::prepare::table::{Column, Row, Table};
use crate::prepare::view::view_of;

const METADATA: &str = "mimic-cxr-2.0.0-metadata.csv";
const SPLIT: &str = "mimic-cxr-2.0.0-split.csv";
const CHEXPERT: &str = "mimic-cxr-2.0.0-chexpert.csv";

/// An image of the metadata table.
pub(super) struct Image {
    pub(super) dicom: String,
    pub(super) subject: String,
    pub(super) study: String,
    /// View Position as written.
    pub(super) view: String,
}

impl Image {
    /// The folder of its patient: `p` and the subject's first two digits.
    pub(super) fn folder(&self) -> String {
        self.subject.chars().take(2).fold("p".to_owned(), |mut folder, digit| {
            folder.push(digit);
            folder
        })
    }

    pub(super) fn known_view(&self) -> Option<View> {
        view_of(&self.view)
    }
}

/// All that the tables say.
pub(super) struct Tables {
    /// In the order of the metadata table.
    pub(super) images: Vec<Image>,
    /// The official split of each subject; empty where the patients are dealt.
    pub(super) splits: HashMap<String, Split>,
    /// Labels of each study.
    pub(super) labels: HashMap<String, StudyLabels>,
}

impl Tables {
    pub(super) fn read(root: &Path, options: &MimicOptions, out: &mut Collector<'_>) -> Result<Self, PrepareError> {
        let metadata = Table::find(root, METADATA)?.ok_or_else(|| {
            missing(root, METADATA, "--root is the folder of MIMIC-CXR-JPG that holds its tables and files/")
        })?;
        let splits = match (options.splits, Table::find(root, SPLIT)?) {
            (Splits::Dealt | Splits::Paper, _) => HashMap::new(),
            (Splits::Official, Some(table)) => splits(table)?,
            (Splits::Official, None) => {
                out.note(format!("there is no {SPLIT}: patients are dealt to splits"));
                HashMap::new()
            }
        };
        let labels = match Table::find(root, CHEXPERT)? {
            Some(table) => labels(table)?,
            None if options.labels.required => return Err(missing(root, CHEXPERT, "this selection is made by labels")),
            None => {
                out.note(format!("there is no {CHEXPERT}: all films are unlabelled"));
                HashMap::new()
            }
        };
        Ok(Self { images: images(metadata)?, splits, labels })
    }
}

fn missing(folder: &Path, wanted: &str, advice: &'static str) -> PrepareError {
    PrepareError::MissingTable { folder: folder.to_owned(), wanted: wanted.to_owned(), advice }
}

fn images(mut table: Table) -> Result<Vec<Image>, PrepareError> {
    let (dicom, subject, study, view) = (
        table.column("dicom_id")?,
        table.column("subject_id")?,
        table.column("study_id")?,
        table.column("ViewPosition")?,
    );
    let mut images = Vec::new();
    while let Some(row) = table.next()? {
        images.push(Image {
            dicom: row.file_name(dicom)?.to_owned(),
            subject: number(&row, subject)?,
            study: number(&row, study)?,
            view: row.text(view).to_owned(),
        });
    }
    Ok(images)
}

/// A subject or study, which names folders: digits.
fn number(row: &Row<'_>, column: Column) -> Result<String, PrepareError> {
    let text = row.required(column)?;
    // Data frames write whole numbers as "10000032.0".
    let digits = text.strip_suffix(".0").unwrap_or(text);
    if digits.len() < 2 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(row.wrong(column, format!("\"{text}\" is no number of MIMIC-CXR")));
    }
    Ok(digits.to_owned())
}

/// The split of each subject.
fn splits(mut table: Table) -> Result<HashMap<String, Split>, PrepareError> {
    let (subject, split) = (table.column("subject_id")?, table.column("split")?);
    let mut splits = HashMap::new();
    while let Some(row) = table.next()? {
        let known = match row.text(split) {
            "train" => Split::Train,
            "validate" => Split::Val,
            "test" => Split::Test,
            other => return Err(row.wrong(split, format!("\"{other}\" is none of train, validate and test"))),
        };
        let number = number(&row, subject)?;
        let other = *splits.entry(number.clone()).or_insert(known);
        if other != known {
            let problem = format!("subject {number} is in {other} in an earlier row; splits may not share a patient");
            return Err(row.wrong(split, problem));
        }
    }
    Ok(splits)
}

fn labels(mut table: Table) -> Result<HashMap<String, StudyLabels>, PrepareError> {
    let study = table.column("study_id")?;
    let columns_of = |names: &[&str]| names.iter().map(|name| table.column(name)).collect::<Result<Vec<_>, _>>();
    let (classes, others) = (columns_of(&CLASSES)?, columns_of(&OTHERS)?);
    let mut labels = HashMap::new();
    while let Some(row) = table.next()? {
        let mut found = StudyLabels::default();
        let places = found.classes.iter_mut().chain(&mut found.others);
        for (place, column) in places.zip(classes.iter().chain(&others)) {
            *place = Mention::parse(row.text(*column)).map_err(|problem| row.wrong(*column, problem))?;
        }
        labels.insert(number(&row, study)?, found);
    }
    Ok(labels)
}
