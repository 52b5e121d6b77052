//! Reads manifests from disk: good ones, and each kind of bad one.

use std::fs;

use raygen_manifest::{Labels, Manifest, ManifestError, Split, View};
use tempfile::TempDir;

type TestResult = Result<(), Box<dyn std::error::Error>>;

fn folder_with(manifest: impl AsRef<[u8]>) -> std::io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("films.csv"), manifest)?;
    Ok(folder)
}

fn refused(manifest: impl AsRef<[u8]>) -> Result<String, Box<dyn std::error::Error>> {
    let folder = folder_with(manifest)?;
    match Manifest::read(folder.path().join("films.csv")) {
        Ok(_) => Err("the manifest was accepted".into()),
        Err(error) => Ok(error.to_string()),
    }
}

#[test]
fn a_full_row_is_read_and_its_path_is_relative_to_the_manifest() -> TestResult {
    let folder = folder_with(
        "path,split,patient,view,impression,findings,labels,text_origin,source,licence\n\
         images/1.jpg,val,p1,PA,\"Edema, mild.\",\"Two\nlines\",Edema;Pneumonia,template,nih,free\n",
    )?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let film = &manifest.films[0];
    assert_eq!(film.id, "images/1.jpg");
    assert_eq!(film.path, folder.path().join("images/1.jpg"));
    assert_eq!(film.split, Some(Split::Val));
    assert_eq!(film.patient.as_deref(), Some("p1"));
    assert_eq!(film.view, Some(View::PA));
    assert_eq!(film.impression.as_deref(), Some("Edema, mild."));
    assert_eq!(film.findings.as_deref(), Some("Two\nlines"));
    assert_eq!(film.labels, Labels::Positive(vec!["Edema".into(), "Pneumonia".into()]));
    assert_eq!(film.licence.as_deref(), Some("free"));
    assert!(manifest.notices.is_empty(), "{:?}", manifest.notices);
    Ok(())
}

#[test]
fn only_the_path_is_required_and_blanks_are_absent() -> TestResult {
    let folder = folder_with("\u{feff}path,impression\r\na.png,\r\n")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let film = &manifest.films[0];
    assert_eq!((film.split, &film.impression, &film.labels), (None, &None, &Labels::Unlabelled));
    assert_eq!(film.group(), "a.png");
    Ok(())
}

#[test]
fn uncertain_labels_are_read_without_a_notice_and_checked_against_the_labels() -> TestResult {
    let folder = folder_with("path,labels,uncertain_labels\na.png,Edema,pneumonia;Fracture\nb.png,No Finding,\n")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    assert_eq!(manifest.films[0].uncertain, ["Pneumonia", "Fracture"]);
    assert!(manifest.films[1].uncertain.is_empty() && manifest.notices.is_empty(), "{:?}", manifest.notices);
    let message = refused("path,labels,uncertain_labels\na.png,Edema,Edema\n")?;
    assert!(message.contains("uncertain_labels") && message.contains("Edema"), "{message}");
    Ok(())
}

#[test]
fn columns_of_ones_own_are_kept_with_one_notice() -> TestResult {
    let folder = folder_with("path,age,room,labels\na.png,61,4,Support Devices\nb.png,,5,Edema\n")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    assert_eq!(manifest.films[0].other.get("age").map(String::as_str), Some("61"));
    assert_eq!(manifest.films[1].other.get("age"), None);
    assert_eq!(manifest.notices.len(), 2, "{:?}", manifest.notices);
    assert_eq!(manifest.notices[0], "columns kept but not used: age, room");
    assert!(manifest.notices[1].contains("Support Devices"), "{:?}", manifest.notices);
    Ok(())
}

#[test]
fn a_missing_path_column_is_named_with_what_is_there() -> TestResult {
    let message = refused("file,split\na.png,train\n")?;
    assert!(message.contains("films.csv, line 1") && message.contains("no column \"path\""), "{message}");
    assert!(message.contains("\"file\", \"split\""), "{message}");
    Ok(())
}

#[test]
fn a_bad_field_is_named_with_its_line_and_column() -> TestResult {
    let message = refused("path,split\na.png,train\nb.png,validation\n")?;
    assert!(message.contains("line 3, column \"split\": \"validation\" is no split"), "{message}");
    let message = refused("path,split\n\"  \",train\n")?;
    assert!(message.contains("line 2, column \"path\""), "{message}");
    let message = refused("path,view\na.png,upside down\n")?;
    assert!(message.contains("line 2, column \"view\": \"upside down\""), "{message}");
    let message = refused("path,labels\na.png,No Finding;Edema\n")?;
    assert!(message.contains("line 2, column \"labels\""), "{message}");
    let message = refused("path,path\na,b\n")?;
    assert!(message.contains("column \"path\" is there twice"), "{message}");
    Ok(())
}

#[test]
fn a_ragged_row_or_bytes_that_are_not_text_name_their_line() -> TestResult {
    let message = refused("path,impression\na.png,Edema, mild\n")?;
    assert!(message.contains("line 2: the row has 3 fields but the header has 2"), "{message}");
    let message = refused(b"path,impression\na.png,ok\nb.png,\xff\xfe\n".as_slice())?;
    assert!(message.contains("line 3: it is not UTF-8"), "{message}");
    Ok(())
}

#[test]
fn splits_that_share_a_patient_are_refused_with_both_lines() -> TestResult {
    let message = refused("path,split,patient\na.png,train,p1\nb.png,train,p2\nc.png,val,p1\n")?;
    assert!(message.contains("patient \"p1\" is in val here and in train at line 2"), "{message}");
    assert!(message.contains("line 4"), "{message}");
    // Without patients each film is its own: only the same film in two splits is refused.
    let message = refused("path,split\na.png,train\na.png,test\n")?;
    assert!(message.contains("\"a.png\""), "{message}");
    Ok(())
}

#[test]
fn a_missing_or_empty_manifest_is_named() -> TestResult {
    let message = refused("path,split\n")?;
    assert!(message.contains("films.csv: there are no films"), "{message}");
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("nowhere.csv");
    assert!(matches!(Manifest::read(&path), Err(ManifestError::Unreadable { file, .. }) if file == path));
    assert!(refused("")?.contains("no column \"path\""));
    Ok(())
}

#[test]
fn missing_films_are_counted_and_the_first_is_named() -> TestResult {
    let folder = folder_with("path\na.png\nb.png\nc.png\n")?;
    fs::write(folder.path().join("b.png"), b"film")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let message = manifest.check_files().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        message.contains("line 2, column \"path\"") && message.contains("a.png (and 1 more are missing)"),
        "{message}"
    );
    fs::write(folder.path().join("a.png"), b"film")?;
    fs::write(folder.path().join("c.png"), b"film")?;
    assert!(manifest.check_files().is_ok());
    Ok(())
}

#[test]
fn a_split_gives_its_films_in_file_order() -> TestResult {
    let folder = folder_with("path,split\nb.png,val\na.png,train\nc.png,val\nd.png,\n")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let ids: Vec<&str> = manifest.split(Split::Val).map(|film| film.id.as_str()).collect();
    assert_eq!(ids, ["b.png", "c.png"]);
    Ok(())
}

#[test]
fn a_film_without_a_split_takes_that_of_its_patient_wherever_it_stands() -> TestResult {
    let folder = folder_with("path,split,patient\na.png,,p1\nb.png,test,p1\nc.png,,p1\nd.png,val,p2\ne.png,,p2\n")?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let splits: Vec<Split> = manifest.films.iter().map(|film| manifest.split_of(film)).collect();
    assert_eq!(splits, [Split::Test, Split::Test, Split::Test, Split::Val, Split::Val]);
    assert_eq!(manifest.split(Split::Val).count(), 2);
    Ok(())
}

#[test]
fn a_manifest_without_splits_keeps_whole_patients_for_validation() -> TestResult {
    let mut table = "path,patient\n".to_owned();
    for film in 0..600 {
        table.push_str(&format!("{film}.png,p{}\n", film % 200));
    }
    let folder = folder_with(&table)?;
    let manifest = Manifest::read(folder.path().join("films.csv"))?;
    let mut patients: std::collections::BTreeMap<&str, Vec<Split>> = std::collections::BTreeMap::new();
    for film in &manifest.films {
        patients.entry(film.group()).or_default().push(manifest.split_of(film));
    }
    assert!(patients.values().all(|splits| splits.len() == 3 && splits.iter().all(|split| *split == splits[0])));
    let val = patients.values().filter(|splits| splits[0] == Split::Val).count();
    assert!((10..=30).contains(&val), "{val} of 200 patients");
    assert_eq!(manifest.split(Split::Test).count(), 0);
    assert_eq!(manifest.split(Split::Train).count() + manifest.split(Split::Val).count(), 600);
    Ok(())
}
