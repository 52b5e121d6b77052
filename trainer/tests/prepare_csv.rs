//! `data prepare csv`: columns by a map, through the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use raygen_manifest::{Labels, Manifest, Split, View};
use raygen_trainer::prepare::any_csv::{self, CsvOptions};
use raygen_trainer::prepare::{SplitRule, Target};
use serde_json::Value;

const TABLE: &str = "\
Image,Person,Set,Projection,Report Text,Classes,Age
films/1.png,p1,validation,pa,\"Clear lungs, no effusion.\",no finding,50
films/2.png,p2,train,,Fluid.,pleural effusion|Tube,60
films/3.png,p2,train,LATERAL,Fluid.,,60
films/4.png,p3,,AP,Gone.,,70
";

fn prepare(folder: &Path, extra: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raygen-trainer"));
    command.current_dir(folder).args(["data", "prepare", "csv", "--csv", "table.csv", "--out", "manifest.csv"]);
    command.args(["--map", "path=Image", "patient=Person", "split=Set", "view=Projection"]);
    command.args(["--map", "impression=Report Text", "--map", "labels=Classes", "--label-separator", "|"]);
    command.args(extra).output().unwrap()
}

fn folder(table: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("table.csv"), table).unwrap();
    fs::create_dir(folder.path().join("films")).unwrap();
    for film in 1..=3 {
        fs::write(folder.path().join(format!("films/{film}.png")), b"").unwrap();
    }
    folder
}

#[test]
fn uncertain_labels_have_a_column_of_their_own_where_there_are_any() {
    let folder = folder(TABLE);
    let header = || fs::read_to_string(folder.path().join("manifest.csv")).unwrap().lines().next().unwrap().to_owned();
    assert!(prepare(folder.path(), &[]).status.success());
    assert!(!header().contains("uncertain"), "{}", header());
    let set = ["--force", "--set", "uncertain_labels=edema|Pneumonia"];
    let output = prepare(folder.path(), &set);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(header().ends_with(",uncertain_labels"), "{}", header());
    let manifest = Manifest::read(folder.path().join("manifest.csv")).unwrap();
    assert!(manifest.films.iter().all(|film| film.uncertain == ["Edema", "Pneumonia"]), "{:?}", manifest.films);
    let output = prepare(folder.path(), &["--force", "--set", "uncertain_labels=No finding"]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("could be uncertain"), "{message}");
}

#[test]
fn mapped_columns_become_a_manifest_and_the_report_is_json() {
    let folder = folder(TABLE);
    let output = prepare(folder.path(), &["--set", "licence=CC0", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["films"], serde_json::json!({"train": 2, "val": 1, "test": 0}));
    assert_eq!(report["dropped"][0]["reason"], "missing_image");
    assert_eq!(report["dropped"][0]["examples"][0], "films/4.png");
    assert_eq!(report["classes"]["Pleural Effusion"]["train"], 1);
    assert!(report["notes"][0].as_str().unwrap().contains("Age"), "{report}");

    let manifest = Manifest::read(folder.path().join("manifest.csv")).unwrap();
    manifest.check_files().unwrap();
    let [first, second, third] = &manifest.films[..] else { panic!("{:?}", manifest.films) };
    assert_eq!((first.id.as_str(), first.split, first.view), ("films/1.png", Some(Split::Val), Some(View::PA)));
    assert_eq!(first.impression.as_deref(), Some("Clear lungs, no effusion."));
    assert_eq!((&first.labels, first.licence.as_deref()), (&Labels::Negative, Some("CC0")));
    assert_eq!(second.labels.names(), ["Pleural Effusion", "Tube"]);
    assert_eq!((second.view, third.view), (None, Some(View::Lateral)));

    let again = prepare(folder.path(), &[]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"), "{again:?}");
    let letters = prepare(folder.path(), &["--force", "--views", "FRONTAL", "--clean", "letters"]);
    assert!(
        String::from_utf8_lossy(&letters.stdout).contains("view not asked for: films/2.png, films/3.png"),
        "{letters:?}"
    );
    let manifest = Manifest::read(folder.path().join("manifest.csv")).unwrap();
    assert_eq!(manifest.films[0].impression.as_deref(), Some("clear lungs no effusion"));
}

#[test]
fn what_is_wrong_is_told_with_file_line_and_column() {
    for (from, to, told) in [
        ("validation", "holdout", "table.csv, line 2, column \"Set\": \"holdout\" is no split"),
        ("LATERAL", "oblique", "table.csv, line 4, column \"Projection\": \"oblique\" is no view"),
        ("no finding", "no finding|Edema", "line 2, column \"Classes\": \"No Finding\" and \"Edema\" contradict"),
        ("Report Text", "Text", "line 1: there is no column \"Report Text\"; the header has \"Image\""),
        ("films/2.png", "", "line 3, column \"Image\": it is empty"),
        ("p1,validation", "p2,validation", "patient p2: films/2.png is in train"),
        (",60\nfilms/3", "\nfilms/3", "line 3: the row has 6 fields"),
    ] {
        let folder = folder(&TABLE.replacen(from, to, 1));
        let output = prepare(folder.path(), &[]);
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && problem.contains(told), "{told}: {problem}");
        assert!(!folder.path().join("manifest.csv").exists());
    }
}

#[test]
fn a_mapping_that_cannot_be_is_refused() {
    let folder = folder(TABLE);
    let output = prepare(folder.path(), &["--map", "colour=Person"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("no column \"colour\""), "{output:?}");
    let output = prepare(folder.path(), &["--set", "split=train"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--set: split is filled by --map already"), "{output:?}");
}

/// The split of each patient after a table of these patients' films was prepared.
fn dealt(patients: &[u8], split: SplitRule) -> HashMap<String, Split> {
    let folder = tempfile::tempdir().unwrap();
    let mut table = "path,patient\n".to_owned();
    for (film, patient) in patients.iter().enumerate() {
        fs::write(folder.path().join(format!("{film}.png")), b"").unwrap();
        table += &format!("{film}.png,p{patient}\n");
    }
    fs::write(folder.path().join("table.csv"), table).unwrap();
    let target = Target { split, ..Target::new(folder.path().join("manifest.csv")) };
    any_csv::prepare(&CsvOptions::new(folder.path().join("table.csv")), &target).unwrap();
    let mut splits = HashMap::new();
    for film in Manifest::read(&target.out).unwrap().films {
        let (patient, split) = (film.patient.unwrap(), film.split.unwrap());
        assert_eq!(*splits.entry(patient).or_insert(split), split, "a patient is in two splits");
    }
    splits
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_patient_is_in_two_splits_and_more_films_move_nobody(
        patients in proptest::collection::vec(0u8..20, 1..40),
        more in proptest::collection::vec(0u8..20, 0..10),
        seed: u64,
    ) {
        let rule = SplitRule { val: 0.3, test: 0.2, seed };
        let before = dealt(&patients, rule);
        let after = dealt(&[more, patients].concat(), rule);
        for (patient, split) in before {
            prop_assert_eq!(after[&patient], split);
        }
    }
}

#[test]
fn a_row_without_a_split_takes_its_patients_written_one_in_any_order() {
    for rows in [["1.png,p1,", "2.png,p1,test"], ["2.png,p1,test", "1.png,p1,"]] {
        let rows = rows.map(|row| {
            let mut cells = row.split(',');
            let mut cell = || cells.next().unwrap_or_default();
            format!("films/{},{},{},,Clear.,", cell(), cell(), cell())
        });
        let table = format!("Image,Person,Set,Projection,Report Text,Classes\n{}\n", rows.join("\n"));
        let folder = folder(&table);
        let output = prepare(folder.path(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let manifest = Manifest::read(folder.path().join("manifest.csv")).unwrap();
        assert!(manifest.films.iter().all(|film| film.split == Some(Split::Test)), "{:?}", manifest.films);
    }
}
