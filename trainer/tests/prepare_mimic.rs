//! `data prepare mimic`: an invented tree in the layout of MIMIC-CXR-JPG, the published selections, and what is missing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use raygen_manifest::{Labels, Manifest, Split, View};
use raygen_trainer::config::TextCleaning;
use raygen_trainer::prepare::mimic::{self, MimicOptions, Splits, Uncertain, ViewChoice};
use raygen_trainer::prepare::{Dropped, PrepareError, Reason, Report, Target, TextOptions};

const METADATA: &str = "\
dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows
a1,10000001,50000001,CHEST,AP,10
a2,10000001,50000001,CHEST,AP,10
a3,10000001,50000002,CHEST,LATERAL,10
a4,10000001,50000002,CHEST,AP,10
b1,10000002,50000003,CHEST,PA,10
b2,10000002,50000003,CHEST,LL,10
c1,19000003,50000004,CHEST,AP,10
d1,19000004,50000005,CHEST,AP,10
e1,19000005,50000006,CHEST,AP,10
f1,19000006,50000007,CHEST,,10
";
const SPLIT: &str = "\
dicom_id,study_id,subject_id,split
a1,50000001,10000001,train
a2,50000001,10000001,train
a3,50000002,10000001,train
b1,50000003,10000002,validate
c1,50000004,19000003,test
d1,50000005,19000004,train
e1,50000006,19000005,train
";
const CHEXPERT: &str = "\
subject_id,study_id,Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,Lung Lesion,Lung Opacity,\
No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,Support Devices
10000001,50000001,1.0,,,,,,,,,,,,0.0,
10000001,50000002,,,,,,,,,,-1.0,,,,
10000002,50000003,,,,,,,,,1.0,,,,,
19000003,50000004,,,,1.0,1.0,,,,,1.0,,,,
";
/// Report of each study; the last has none.
const REPORTS: [(&str, &str); 6] = [
    (
        "p10/p10000001/s50000001",
        " FINAL REPORT\n FINDINGS:\n Low volumes.\n IMPRESSION:\n 1. Left basilar\n atelectasis.\n",
    ),
    ("p10/p10000001/s50000002", " IMPRESSION:  Possible effusion.\n NOTIFICATION:  Told Dr. ___.\n"),
    ("p10/p10000002/s50000003", " FINDINGS:  The lungs are clear.\n"),
    ("p19/p19000003/s50000004", " IMPRESSION: Edema and effusions.\n"),
    ("p19/p19000004/s50000005", " IMPRESSION: Not labelled.\n"),
    ("p19/p19000005/s50000006", " INDICATION: Cough.\n"),
];

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn table(root: &Path, name: &str, text: &str, gz: bool) {
    if gz {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        put(&root.join(format!("{name}.gz")), &encoder.finish().unwrap());
    } else {
        put(&root.join(name), text.as_bytes());
    }
}

/// The tree, its picture of d1 missing.
fn tree(root: &Path, gz: bool) {
    table(root, "mimic-cxr-2.0.0-metadata.csv", METADATA, gz);
    table(root, "mimic-cxr-2.0.0-split.csv", SPLIT, gz);
    table(root, "mimic-cxr-2.0.0-chexpert.csv", CHEXPERT, gz);
    for (study, report) in REPORTS {
        put(&root.join(format!("files/{study}.txt")), report.as_bytes());
    }
    for line in METADATA.lines().skip(1).filter(|line| !line.starts_with("d1")) {
        let fields: Vec<&str> = line.split(',').collect();
        let name = format!("files/p{}/p{}/s{}/{}.jpg", &fields[1][..2], fields[1], fields[2], fields[0]);
        put(&root.join(name), b"pixels are not looked at");
    }
}

struct Prepared {
    report: Report,
    manifest: Manifest,
    _folder: tempfile::TempDir,
}

impl Prepared {
    /// Names of the films without their folders.
    fn names(&self) -> Vec<&str> {
        self.manifest.films.iter().map(|film| film.id.rsplit('/').next().unwrap()).collect()
    }

    fn dropped(&self, reason: Reason) -> Option<&Dropped> {
        self.report.dropped.iter().find(|dropped| dropped.reason == reason)
    }

    fn labels(&self, name: &str) -> &Labels {
        &self.manifest.films.iter().find(|film| film.id.ends_with(name)).unwrap().labels
    }

    fn impression(&self, name: &str) -> Option<&str> {
        self.manifest.films.iter().find(|film| film.id.ends_with(name)).unwrap().impression.as_deref()
    }
}

fn prepared(gz: bool, change: impl Fn(&mut MimicOptions), options: fn(&Path) -> MimicOptions) -> Prepared {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mimic");
    tree(&root, gz);
    let mut options = options(&root);
    change(&mut options);
    let out = folder.path().join("made/manifest.csv");
    let report = mimic::prepare(&options, &Target::new(&out)).unwrap_or_else(|error| panic!("{error}"));
    let manifest = Manifest::read(&out).unwrap();
    manifest.check_files().unwrap();
    Prepared { report, manifest, _folder: folder }
}

fn plain(root: &Path) -> MimicOptions {
    MimicOptions::new(root)
}

fn positive(names: &[&str]) -> Labels {
    Labels::Positive(names.iter().map(|name| (*name).to_owned()).collect())
}

/// An error of preparing a tree whose table is this.
fn refused(table_name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), false);
    table(folder.path(), table_name, text, false);
    let out = folder.path().join("manifest.csv");
    let error = mimic::prepare(&plain(folder.path()), &Target::new(&out)).unwrap_err();
    assert!(!out.exists(), "a manifest was left behind");
    error.to_string()
}

#[test]
fn frontal_films_with_an_impression_are_kept_plain_or_gzip() {
    for gz in [false, true] {
        let made = prepared(gz, |_| {}, plain);
        assert_eq!(made.names(), ["a1.jpg", "a2.jpg", "a4.jpg", "c1.jpg"]);
        let first = &made.manifest.films[0];
        assert_eq!(first.id, "../mimic/files/p10/p10000001/s50000001/a1.jpg");
        assert_eq!(first.impression.as_deref(), Some("1. Left basilar atelectasis."));
        assert_eq!(first.findings.as_deref(), Some("Low volumes."));
        assert_eq!((first.view, first.split), (Some(View::AP), Some(Split::Train)));
        assert_eq!(first.patient.as_deref(), Some("mimic10000001"));
        assert_eq!(made.impression("a4.jpg"), Some("Possible effusion."));
        // Not in the split table itself, but its subject is.
        assert_eq!(made.manifest.films[2].split, Some(Split::Train));
        assert_eq!(made.manifest.films[3].split, Some(Split::Test));
        assert_eq!(made.labels("a1.jpg"), &positive(&["Atelectasis"]));
        assert_eq!(made.labels("a4.jpg"), &Labels::Unlabelled);
        assert_eq!(made.labels("c1.jpg"), &positive(&["Edema", "Pleural Effusion"]));
    }
}

#[test]
fn what_is_missing_is_counted_and_named() {
    let made = prepared(false, |_| {}, plain);
    let dropped = |reason| made.dropped(reason).map(|dropped| (dropped.count, dropped.examples[0].as_str()));
    assert_eq!(dropped(Reason::MissingImage), Some((1, "p19/p19000004/s50000005/d1.jpg")));
    assert_eq!(dropped(Reason::NoImpression).map(|(count, _)| count), Some(2));
    assert_eq!(dropped(Reason::OtherView).map(|(count, _)| count), Some(3));
    assert_eq!(made.report.dropped_count, 6);
    assert_eq!((made.report.films.train, made.report.films.test), (3, 1));
    assert_eq!((made.report.patients.train, made.report.patients.all()), (1, 2));
    assert_eq!(made.report.classes["Atelectasis"].train, 2);
    assert_eq!(made.report.classes["unlabelled"].train, 1);
    assert_eq!(made.report.views["AP"].all(), 4);
    let told = made.report.to_string();
    assert!(told.contains("picture missing: p19/p19000004/s50000005/d1.jpg"), "{told}");

    let root = tempfile::tempdir().unwrap();
    tree(root.path(), false);
    let elsewhere = MimicOptions { reports: Some(root.path().join("no")), ..plain(root.path()) };
    let error = mimic::prepare(&elsewhere, &Target::new(root.path().join("m.csv"))).unwrap_err();
    assert!(matches!(error, PrepareError::NothingKept(_)));
    assert!(error.to_string().contains("report missing: p10/p10000001/s50000001.txt"), "{error}");
}

#[test]
fn the_generators_selection_is_the_papers() {
    let made = prepared(true, |_| {}, |root| MimicOptions::paper_train(root));
    // AP is the most common view; a2 is its study's second, a4 the first AP film of its own.
    assert_eq!(made.names(), ["a1.jpg", "a4.jpg", "c1.jpg"]);
    // Folder p10 validates, whatever the official table says.
    let splits: Vec<_> = made.manifest.films.iter().map(|film| film.split).collect();
    assert_eq!(splits, [Some(Split::Val), Some(Split::Val), Some(Split::Train)]);
    // Letters only; words around a line break are joined; what follows the impression is part of it.
    assert_eq!(made.impression("a1.jpg"), Some("left basilar atelectasis"));
    assert_eq!(made.impression("a4.jpg"), Some("possible effusion notification  told dr"));
    assert_eq!(made.dropped(Reason::NotFirstOfStudy).map(|dropped| dropped.count), Some(1));
    assert!(made.report.notes.iter().any(|note| note.contains("AP")), "{:?}", made.report.notes);
}

#[test]
fn the_classifiers_selection_is_the_papers() {
    // c1 is in p19, a4 has an uncertain label, b1 is without finding.
    let made = prepared(false, |_| {}, |root| MimicOptions::paper_classifier(root));
    assert_eq!(made.names(), ["a1.jpg"]);
    let count = |reason| made.dropped(reason).map(|dropped| dropped.count);
    assert_eq!(count(Reason::UncertainLabel), Some(1));
    assert_eq!(count(Reason::ExcludedLabel), Some(1));
    assert_eq!(count(Reason::OtherFolder), Some(4));
    // In p19 c1 has a wide mediastinum, and the others have no labels at all.
    let other = |options: &mut MimicOptions| {
        options.folders = vec!["p10".to_owned(), "p19".to_owned()];
        options.labels.drop_other_positives = false;
    };
    let made = prepared(false, other, |root| MimicOptions::paper_classifier(root));
    assert_eq!(made.names(), ["a1.jpg", "b1.jpg", "c1.jpg"]);
    assert_eq!(made.labels("b1.jpg"), &Labels::Negative);
    assert_eq!(made.dropped(Reason::Unlabelled).map(|dropped| dropped.count), Some(2));
}

#[test]
fn an_uncertain_label_is_what_was_asked_for() {
    let labels = |uncertain| {
        let made = prepared(false, |options| options.labels.uncertain = uncertain, plain);
        made.manifest.films.iter().find(|film| film.id.ends_with("a4.jpg")).map(|film| film.labels.clone())
    };
    assert_eq!(labels(Uncertain::Drop), None);
    assert_eq!(labels(Uncertain::Negative), Some(Labels::Negative));
    assert_eq!(labels(Uncertain::Positive), Some(positive(&["Pleural Effusion"])));
    assert_eq!(labels(Uncertain::Blank), Some(Labels::Unlabelled));
    let kept = prepared(false, |options| options.labels.uncertain = Uncertain::Keep, plain);
    for film in &kept.manifest.films {
        let expected: &[&str] = if film.id.ends_with("a4.jpg") { &["Pleural Effusion"] } else { &[] };
        assert_eq!(film.uncertain, expected, "{}", film.id);
    }
}

#[test]
fn views_folders_fallback_and_cleaning_are_followed() {
    let lateral = prepared(false, |options| options.views = "LATERAL".parse::<ViewChoice>().unwrap(), plain);
    assert_eq!(lateral.names(), ["a3.jpg"]);
    let p19 = prepared(false, |options| options.folders = vec!["p19".to_owned()], plain);
    assert_eq!(p19.names(), ["c1.jpg"]);
    let text = TextOptions { findings_as_fallback: true, cleaning: TextCleaning::Letters, ..TextOptions::default() };
    let fallback = prepared(false, |options| options.text = text, plain);
    assert_eq!(fallback.impression("b1.jpg"), Some("the lungs are clear"));
    assert_eq!(fallback.manifest.films[3].text_origin.as_deref(), Some("radiologist report findings"));
    let textless = TextOptions { keep_textless: true, ..TextOptions::default() };
    let textless = prepared(false, |options| options.text = textless, plain);
    assert_eq!(textless.impression("e1.jpg"), None);
    assert_eq!(textless.report.without_impression, 2);
}

#[test]
fn dealt_splits_keep_patients_apart_and_follow_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let mut metadata = "dicom_id,subject_id,study_id,ViewPosition\n".to_owned();
    for film in 0..300 {
        let (subject, study) = (10_000_000 + film / 3, 50_000_000 + film);
        metadata += &format!("d{film},{subject},{study},PA\n");
        let base = folder.path().join(format!("files/p10/p{subject}/s{study}"));
        put(&base.join(format!("d{film}.jpg")), b"");
        put(&base.with_extension("txt"), b"IMPRESSION: Clear.");
    }
    table(folder.path(), "mimic-cxr-2.0.0-metadata.csv", &metadata, false);
    let mut options = plain(folder.path());
    options.splits = Splits::Dealt;
    let splits = |seed: u64| {
        let mut target = Target::new(folder.path().join(format!("manifest-{seed}.csv")));
        (target.split.val, target.split.test, target.split.seed) = (0.3, 0.2, seed);
        mimic::prepare(&options, &target).unwrap();
        // Reading refuses a patient in two splits.
        let films = Manifest::read(&target.out).unwrap().films;
        films.into_iter().map(|film| (film.patient.unwrap(), film.split.unwrap())).collect::<HashMap<_, _>>()
    };
    let (first, other) = (splits(1), splits(2));
    assert_eq!(first.len(), 100);
    for split in [Split::Train, Split::Val, Split::Test] {
        assert!(first.values().filter(|found| **found == split).count() > 5, "{split}");
    }
    assert_ne!(first, other);
    // The same again, byte for byte.
    let again = Target { force: true, ..Target::new(folder.path().join("manifest-1.csv")) };
    let again = Target { split: raygen_trainer::prepare::SplitRule { val: 0.3, test: 0.2, seed: 1 }, ..again };
    let before = fs::read(&again.out).unwrap();
    mimic::prepare(&options, &again).unwrap();
    assert_eq!(fs::read(&again.out).unwrap(), before);
}

#[test]
fn a_wrong_field_is_told_with_file_line_and_column() {
    let problem = refused("mimic-cxr-2.0.0-chexpert.csv", &CHEXPERT.replace("-1.0", "maybe"));
    assert!(problem.contains("chexpert.csv, line 3, column \"Pleural Effusion\": \"maybe\""), "{problem}");
    let problem =
        refused("mimic-cxr-2.0.0-split.csv", &SPLIT.replace("a3,50000002,10000001,train", "a3,50000002,10000001,test"));
    assert!(problem.contains("split.csv, line 4, column \"split\""), "{problem}");
    let problem = refused("mimic-cxr-2.0.0-metadata.csv", &METADATA.replace("ViewPosition", "View"));
    assert!(problem.contains("no column \"ViewPosition\"; the header has \"dicom_id\""), "{problem}");
    let problem = refused("mimic-cxr-2.0.0-metadata.csv", &METADATA.replace("c1,19000003", "c1,../19"));
    assert!(problem.contains("line 8, column \"subject_id\""), "{problem}");
    let problem = refused("mimic-cxr-2.0.0-metadata.csv", &format!("{METADATA}g1,19000007\n"));
    assert!(problem.contains("metadata.csv, line 12: the row has 2 fields"), "{problem}");
}

#[test]
fn a_manifest_that_is_there_is_not_replaced_unless_asked_and_never_left_half() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("mimic");
    tree(&root, false);
    let out = folder.path().join("manifest.csv");
    fs::write(&out, "mine").unwrap();
    let mut target = Target::new(&out);
    assert!(matches!(mimic::prepare(&plain(&root), &target), Err(PrepareError::Taken(_))));
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    (target.force, target.limit) = (true, Some(2));
    let report = mimic::prepare(&plain(&root), &target).unwrap();
    assert_eq!((report.films.all(), report.limited), (2, true));
    assert_eq!(Manifest::read(&out).unwrap().films.len(), 2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "a temporary file was left behind");
    let mistyped = MimicOptions { folders: vec!["10".to_owned()], ..plain(&root) };
    let problem = mimic::prepare(&mistyped, &target).unwrap_err().to_string();
    assert!(problem.starts_with("--folders: \"10\""), "{problem}");
    let nowhere = mimic::prepare(&plain(folder.path()), &target).unwrap_err().to_string();
    assert!(nowhere.contains("mimic-cxr-2.0.0-metadata.csv"), "{nowhere}");
}

#[test]
fn a_report_that_cannot_be_read_is_told_apart_from_one_that_is_missing() {
    let unreadable = |root: &Path| {
        let report = root.join("files/p10/p10000001/s50000001.txt");
        fs::remove_file(&report).unwrap();
        // A folder in its place stands for a disk that refuses.
        fs::create_dir(report).unwrap();
    };
    for keep_textless in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("mimic");
        tree(&root, false);
        unreadable(&root);
        let text = TextOptions { keep_textless, ..TextOptions::default() };
        let target = Target::new(folder.path().join("manifest.csv"));
        let report = mimic::prepare(&MimicOptions { text, ..plain(&root) }, &target).unwrap();
        let dropped = |reason| report.dropped.iter().find(|dropped| dropped.reason == reason);
        let unreadable = dropped(Reason::UnreadableReport).unwrap();
        assert_eq!((unreadable.count, dropped(Reason::MissingReport)), (2, None));
        assert!(unreadable.examples[0].starts_with("p10/p10000001/s50000001.txt ("), "{report}");
    }
}
