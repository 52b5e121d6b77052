//! `data prepare dicom`: invented DICOM files, damaged ones among them; names that tell nothing.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use raygen_manifest::{Manifest, View};
use raygen_model::image::{DecodeLimits, decode};
use raygen_trainer::prepare::dicom::{self, Bits, DicomOptions, Ids};
use raygen_trainer::prepare::{PrepareError, Reason, Report, Target, TextOptions, Views};

/// An element in explicit little endian.
fn element(tag: (u16, u16), representation: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
    bytes.extend(representation.as_bytes());
    let padding = vec![if representation == "UI" { 0 } else { b' ' }; value.len() % 2];
    let length = value.len() + padding.len();
    if representation == "OW" {
        bytes.extend([0, 0]);
        bytes.extend((length as u32).to_le_bytes());
    } else {
        bytes.extend((length as u16).to_le_bytes());
    }
    [bytes, value.to_vec(), padding].concat()
}

/// A film of 24 x 16 pixels, black on its left half and white on its right.
fn film(patient: &str, uid: &str, view: &str, frames: &str) -> Vec<u8> {
    let number = |tag, value: u16| element(tag, "US", &value.to_le_bytes());
    let pixels: Vec<u8> =
        (0..24 * 16).flat_map(|index| if index % 24 < 12 { 0u16 } else { 4095 }.to_le_bytes()).collect();
    [
        vec![0; 128],
        b"DICM".to_vec(),
        element((2, 0x10), "UI", b"1.2.840.10008.1.2.1"),
        element((8, 0x18), "UI", uid.as_bytes()),
        element((0x10, 0x20), "LO", patient.as_bytes()),
        element((0x18, 0x5101), "CS", view.as_bytes()),
        element((0x20, 0x0d), "UI", b"1.2.3"),
        number((0x28, 2), 1),
        element((0x28, 4), "CS", b"MONOCHROME2"),
        element((0x28, 8), "IS", frames.as_bytes()),
        number((0x28, 0x10), 16),
        number((0x28, 0x11), 24),
        number((0x28, 0x100), 16),
        number((0x28, 0x101), 12),
        number((0x28, 0x103), 0),
        element((0x7fe0, 0x10), "OW", &pixels),
    ]
    .concat()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let whole = film("MRN-1", "1.2.3.1", "PA", "1");
        for (name, bytes) in [
            ("MRN-1/a.dcm", whole.clone()),
            ("MRN-1/b", film("MRN-1", "1.2.3.2", "LL", "1")),
            ("MRN-2/c.dcm", film("MRN-2", "1.2.3.3", "", "1")),
            ("MRN-2/series.dcm", film("MRN-2", "1.2.3.4", "AP", "12")),
            ("broken/cut.dcm", whole[..600].to_vec()),
            ("broken/text.dcm", b"hello".to_vec()),
            ("notes.txt", b"not a film".to_vec()),
            ("nobody/d.dcm", film("", "1.2.3.5", "AP", "1")),
        ] {
            let path = folder.path("dicom").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn options(&self) -> DicomOptions {
        DicomOptions {
            root: self.path("dicom"),
            images_out: self.path("png"),
            size: Some(8),
            bits: Bits::Eight,
            ids: Ids::Hashed("a secret".to_owned()),
            texts: None,
            views: None,
            keep_burned_in: false,
            text: TextOptions::default(),
            source: "our archive".to_owned(),
            licence: String::new(),
        }
    }

    fn prepare(&self, options: &DicomOptions) -> (Report, Manifest) {
        let target = Target { force: true, ..Target::new(self.path("manifest.csv")) };
        let report = dicom::prepare(options, &target).unwrap_or_else(|error| panic!("{error}"));
        let manifest = Manifest::read(&target.out).unwrap();
        manifest.check_files().unwrap();
        (report, manifest)
    }
}

fn examples(report: &Report, reason: Reason) -> &[String] {
    report.dropped.iter().find(|dropped| dropped.reason == reason).map_or(&[], |dropped| &dropped.examples)
}

fn decoded(path: &Path) -> raygen_model::image::Picture {
    decode(&fs::read(path).unwrap(), None, None, &DecodeLimits::default()).unwrap()
}

#[test]
fn films_become_small_pictures_and_what_is_no_film_is_named() {
    let folder = Folder::new();
    let (report, manifest) = folder.prepare(&folder.options());
    assert_eq!(manifest.films.len(), 4);
    let picture = decoded(&manifest.films[0].path);
    assert_eq!((picture.width, picture.height), (12, 8));
    assert!(picture.pixels[0] < 0.02 && picture.pixels[11] > 0.98);
    assert_eq!(
        manifest.films.iter().map(|film| film.view).collect::<Vec<_>>(),
        [Some(View::PA), Some(View::Lateral), None, Some(View::AP)]
    );
    let [series] = examples(&report, Reason::MultiFrame) else { panic!("{report}") };
    assert!(series.starts_with("MRN-2/series.dcm") && series.contains("12 frames"), "{series}");
    let broken = examples(&report, Reason::Undecodable);
    assert!(broken[0].starts_with("broken/cut.dcm") && broken[1].starts_with("broken/text.dcm"), "{broken:?}");
    assert_eq!(report.dropped_count, 3);
    assert!(report.notes[0].starts_with("1 films have no Patient ID"), "{:?}", report.notes);
    assert!(!String::from_utf8_lossy(&fs::read(&manifest.films[0].path).unwrap()).contains("synthetic"));
}

#[test]
fn no_identifier_is_in_the_manifest_or_in_a_name_unless_asked_for() {
    let folder = Folder::new();
    let (_, manifest) = folder.prepare(&folder.options());
    let written = fs::read_to_string(folder.path("manifest.csv")).unwrap();
    assert!(!written.contains("MRN") && !written.contains("1.2.3"), "{written}");
    let patients = |manifest: &Manifest| -> Vec<String> {
        manifest.films.iter().map(|film| film.patient.clone().unwrap()).collect()
    };
    let hashed = patients(&manifest);
    assert_eq!(hashed[0], hashed[1]);
    assert_ne!(hashed[0], hashed[2]);
    // The same again with the same salt, and others with another.
    assert_eq!(patients(&folder.prepare(&folder.options()).1), hashed);
    let other = DicomOptions { ids: Ids::Hashed("another".to_owned()), ..folder.options() };
    assert_ne!(patients(&folder.prepare(&other).1)[0], hashed[0]);
    let kept = DicomOptions { ids: Ids::Kept, bits: Bits::Sixteen, size: None, ..folder.options() };
    let (_, manifest) = folder.prepare(&kept);
    assert_eq!(patients(&manifest), ["MRN-1", "MRN-1", "MRN-2", "1.2.3"]);
    assert_eq!(decoded(&manifest.films[0].path).width, 24);
    let empty = DicomOptions { ids: Ids::Hashed(String::new()), ..folder.options() };
    let target = Target::new(folder.path("none.csv"));
    assert!(matches!(dicom::prepare(&empty, &target), Err(PrepareError::Option { option: "--salt", .. })));
}

#[test]
fn texts_are_found_by_uid_or_path_and_views_are_chosen() {
    let folder = Folder::new();
    let table = "SOPInstanceUID,path,impression,labels\n\
                 1.2.3.1,,Edema.,edema\n,MRN-1/b,Lateral.,\n,MRN-2/c.dcm,Clear.,No Finding\n";
    fs::write(folder.path("texts.csv"), table).unwrap();
    let options =
        DicomOptions { texts: Some(folder.path("texts.csv")), views: Some(Views::frontal()), ..folder.options() };
    let (report, manifest) = folder.prepare(&options);
    let impressions: Vec<_> = manifest.films.iter().map(|film| film.impression.as_deref().unwrap()).collect();
    assert_eq!(impressions, ["Edema.", "Clear."]);
    assert_eq!(manifest.films[0].labels.names(), ["Edema"]);
    assert_eq!(examples(&report, Reason::OtherView), ["MRN-1/b"]);
    assert!(examples(&report, Reason::MissingReport).contains(&"nobody/d.dcm".to_owned()), "{report}");
    fs::write(folder.path("texts.csv"), table.replace("edema\n", "edema;no finding\n")).unwrap();
    let target = Target::new(folder.path("none.csv"));
    let problem = dicom::prepare(&options, &target).unwrap_err().to_string();
    assert!(problem.contains("texts.csv, line 2, column \"labels\""), "{problem}");
}

#[test]
fn a_second_file_of_a_film_changes_neither_its_row_nor_its_picture() {
    let folder = Folder::new();
    let options = folder.options();
    let picture = {
        let (_, manifest) = folder.prepare(&options);
        manifest.films[0].path.clone()
    };
    let first = fs::read(&picture).unwrap();
    // The same SOP Instance UID, turned black, in a later file.
    let mut black = film("MRN-9", "1.2.3.1", "PA", "1");
    let pixels = black.len() - 24 * 16 * 2;
    black[pixels..].fill(0);
    fs::write(folder.path("dicom/z.dcm"), &black).unwrap();
    let (report, manifest) = folder.prepare(&options);
    assert_eq!(examples(&report, Reason::Duplicate).len(), 1, "{report}");
    assert_eq!(manifest.films.len(), 4);
    assert_eq!(fs::read(&picture).unwrap(), first);
    // A picture of an earlier run stays, unless it would be the same.
    let again = Target::new(folder.path("again.csv"));
    dicom::prepare(&options, &again).unwrap();
    let sixteen = DicomOptions { bits: Bits::Sixteen, ..options };
    let other = Target::new(folder.path("other.csv"));
    assert!(matches!(dicom::prepare(&sixteen, &other), Err(PrepareError::Taken(path)) if path == picture));
    assert_eq!(fs::read(&picture).unwrap(), first);
}

#[test]
fn a_patient_id_in_another_character_set_still_keeps_studies_together() {
    let folder = Folder::new();
    for (name, study, uid) in [("l1.dcm", b"1.2.7", "1.2.3.8"), ("l2.dcm", b"1.2.8", "1.2.3.9")] {
        let mut bytes = film("MRN-X", uid, "AP", "1");
        // M\u{fc}N-X in Latin-1.
        let id = bytes.windows(5).position(|part| part == b"MRN-X").unwrap();
        bytes[id + 1] = 0xfc;
        let uid = element((0x20, 0x0d), "UI", b"1.2.3");
        let at = bytes.windows(uid.len()).position(|part| part == uid).unwrap();
        bytes.splice(at..at + uid.len(), element((0x20, 0x0d), "UI", study));
        fs::write(folder.path("dicom").join(name), bytes).unwrap();
    }
    let (report, manifest) = folder.prepare(&folder.options());
    let hashed: std::collections::BTreeSet<_> = manifest.films.iter().map(|film| &film.patient).collect();
    // MRN-1, MRN-2, nobody, and one more for both files.
    assert_eq!((manifest.films.len(), hashed.len()), (6, 4), "{report}");
    let kept = DicomOptions { ids: Ids::Kept, ..folder.options() };
    let (_, manifest) = folder.prepare(&kept);
    let latin = manifest.films.iter().filter(|film| film.patient.as_deref() == Some("M\u{fc}N-X")).count();
    assert_eq!(latin, 2);
}

#[test]
fn a_film_with_words_burned_in_is_left_out_unless_asked_for() {
    let folder = Folder::new();
    let plain = film("MRN-3", "1.2.3.6", "AP", "1");
    let at = plain.windows(4).position(|tag| tag == [0x28, 0, 0x03, 0x01]).unwrap();
    let said = |value: &[u8]| [&plain[..at], &element((0x28, 0x301), "CS", value), &plain[at..]].concat();
    fs::write(folder.path("dicom/z.dcm"), said(b"YES")).unwrap();
    let (report, manifest) = folder.prepare(&folder.options());
    assert_eq!((manifest.films.len(), examples(&report, Reason::BurnedIn)), (4, &["z.dcm".to_owned()][..]));
    assert!(report.to_string().contains("words burned into the picture: z.dcm"), "{report}");
    let keeping = DicomOptions { keep_burned_in: true, ..folder.options() };
    assert_eq!(folder.prepare(&keeping).1.films.len(), 5);
    fs::write(folder.path("dicom/z.dcm"), said(b"NO")).unwrap();
    assert_eq!(folder.prepare(&folder.options()).1.films.len(), 5);
}

#[test]
fn the_command_line_says_what_becomes_of_identifiers_before_the_environment_does() {
    let folder = Folder::new();
    let run = |arguments: &[&str], salt: Option<&str>| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_raygen-trainer"));
        program.args(["data", "prepare", "dicom", "--force", "--json", "--root"]).arg(folder.path("dicom"));
        program.arg("--images-out").arg(folder.path("png")).arg("--out").arg(folder.path("manifest.csv"));
        match salt {
            Some(salt) => program.env("RAYGEN_SALT", salt),
            None => program.env_remove("RAYGEN_SALT"),
        };
        let output = program.args(arguments).output().unwrap();
        let problem = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            Ok(fs::read_to_string(folder.path("manifest.csv")).unwrap())
        } else {
            Err(problem)
        }
    };
    let hashed = run(&["--salt", "a"], None).unwrap();
    assert!(!hashed.contains("MRN"));
    assert_eq!(run(&[], Some("a")).unwrap(), hashed);
    assert_eq!(run(&["--salt", "a"], Some("b")).unwrap(), hashed);
    assert!(run(&["--keep-ids"], Some("a")).unwrap().contains("MRN-1"));
    assert!(run(&["--keep-ids", "--salt", "a"], None).unwrap_err().contains("cannot be used with"));
    let problem = run(&[], None).unwrap_err();
    assert!(problem.contains("RAYGEN_SALT") && problem.contains("--keep-ids"), "{problem}");
}
