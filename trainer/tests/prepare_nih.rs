//! `data prepare nih`: the repository's own films through NIH's table, and an invented one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use raygen_manifest::{Manifest, Split};
use raygen_trainer::prepare::nih::{self, NihOptions};
use raygen_trainer::prepare::{Reason, Target, Views};

const HEADER: &str = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,\
    OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n";
/// What the templates call NIH's labels.
const PHRASES: [(&str, &str); 14] = [
    ("atelectasis", "Atelectasis"),
    ("cardiomegaly", "Cardiomegaly"),
    ("consolidation", "Consolidation"),
    ("pulmonary edema", "Edema"),
    ("pleural effusion", "Effusion"),
    ("emphysema", "Emphysema"),
    ("fibrosis", "Fibrosis"),
    ("hernia", "Hernia"),
    ("infiltrates", "Infiltration"),
    ("mass", "Mass"),
    ("nodule", "Nodule"),
    ("pleural thickening", "Pleural_Thickening"),
    ("pneumonia", "Pneumonia"),
    ("pneumothorax", "Pneumothorax"),
];

fn row(name: &str, labels: &str, patient: &str, view: &str) -> String {
    format!("{name},{labels},0,{patient},58,M,{view},2682,2749,0.143,0.143,\n")
}

fn options(folder: &Path, images: PathBuf) -> NihOptions {
    NihOptions {
        labels: folder.join("Data_Entry_2017.csv"),
        images,
        train_list: None,
        test_list: None,
        views: Views::frontal(),
    }
}

/// The table that the repository's films would have come from.
fn table_of(manifest: &Manifest) -> String {
    let rows = manifest.films.iter().map(|film| {
        let impression =
            film.impression.as_deref().unwrap().trim_end_matches('.').to_lowercase().replace(" and ", ", ");
        let labels: Vec<&str> = impression
            .split(", ")
            .filter_map(|phrase| PHRASES.iter().find(|(known, _)| *known == phrase).map(|(_, label)| *label))
            .collect();
        let labels = if labels.is_empty() { "No Finding".to_owned() } else { labels.join("|") };
        let stem = film.path.file_stem().unwrap().to_str().unwrap();
        let patient = film.patient.as_deref().unwrap().trim_start_matches("nih").trim_start_matches('0');
        row(&format!("{stem}.png"), &labels, patient, &format!("{:?}", film.view.unwrap()))
    });
    HEADER.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_repositorys_films_get_the_texts_and_labels_of_their_manifest() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/nih-256");
    let committed = Manifest::read(data.join("manifest.csv")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Data_Entry_2017.csv"), table_of(&committed)).unwrap();
    let target = Target::new(folder.path().join("manifest.csv"));
    nih::prepare(&options(folder.path(), data.join("images")), &target).unwrap();
    let made = Manifest::read(&target.out).unwrap();
    made.check_files().unwrap();
    assert_eq!(made.films.len(), committed.films.len());
    for (made, committed) in made.films.iter().zip(&committed.films) {
        assert_eq!(made.path.file_name(), committed.path.file_name());
        let said = |film: &raygen_manifest::Film| {
            let film = film.clone();
            (film.patient, film.view, film.impression, film.labels, film.text_origin, film.source, film.licence)
        };
        assert_eq!(said(made), said(committed));
    }
}

#[test]
fn the_official_lists_decide_and_val_is_dealt_within_train_val() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let mut table = HEADER.to_owned();
    let (mut train, mut test) = (String::new(), String::new());
    for patient in 1..=100 {
        for film in 0..2 {
            let name = format!("{patient:08}_{film:03}.png");
            table += &row(&name, "Mass|Effusion", &patient.to_string(), "PA");
            *(if patient % 4 == 0 { &mut test } else { &mut train }) += &format!("{name}\n");
            let part = images.join(format!("images_{:03}/images", patient % 3));
            fs::create_dir_all(&part).unwrap();
            fs::write(part.join(name), b"").unwrap();
        }
    }
    // In no list, and without a picture.
    table += &row("00000101_000.png", "Hernia", "101", "AP");
    train += "00000102_000.png\n";
    table += &row("00000102_000.png", "Hernia", "102", "AP");
    fs::write(folder.path().join("Data_Entry_2017.csv"), table).unwrap();
    fs::write(folder.path().join("train_val_list.txt"), train).unwrap();
    fs::write(folder.path().join("test_list.txt"), test).unwrap();
    let options = NihOptions {
        train_list: Some(folder.path().join("train_val_list.txt")),
        test_list: Some(folder.path().join("test_list.txt")),
        ..options(folder.path(), images)
    };
    let mut target = Target::new(folder.path().join("manifest.csv"));
    target.split.val = 0.2;
    let report = nih::prepare(&options, &target).unwrap();
    let made = Manifest::read(&target.out).unwrap();
    for film in &made.films {
        let number: u32 = film.patient.as_deref().unwrap().trim_start_matches("nih").parse().unwrap();
        assert_eq!(film.split == Some(Split::Test), number.is_multiple_of(4), "{}", film.id);
    }
    assert_eq!((report.films.test, report.patients.test), (50, 25));
    assert!((6..30).contains(&report.patients.val), "{}", report.patients.val);
    assert_eq!(made.films[0].impression.as_deref(), Some("Mass and pleural effusion."));
    let dropped = |reason| report.dropped.iter().find(|dropped| dropped.reason == reason).unwrap();
    assert_eq!(dropped(Reason::Unlisted).examples, ["00000101_000.png"]);
    assert_eq!(dropped(Reason::MissingImage).examples, ["00000102_000.png"]);
    // Who is in test is not ours to deal.
    target.split.test = 0.1;
    target.force = true;
    let problem = nih::prepare(&options, &target).unwrap_err().to_string();
    assert!(problem.starts_with("--test: "), "{problem}");
}

#[test]
fn a_label_that_nih_does_not_have_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let table = HEADER.to_owned() + &row("a.png", "Mass", "1", "PA") + &row("b.png", "Mass|Gout", "2", "PA");
    fs::write(folder.path().join("Data_Entry_2017.csv"), table).unwrap();
    fs::write(folder.path().join("a.png"), b"").unwrap();
    let target = Target::new(folder.path().join("manifest.csv"));
    let problem = nih::prepare(&options(folder.path(), folder.path().to_owned()), &target).unwrap_err().to_string();
    assert!(problem.contains("Data_Entry_2017.csv, line 3, column \"Finding Labels\": \"Gout\""), "{problem}");
    assert!(!target.out.exists());
}
