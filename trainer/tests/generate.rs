//! `generate`: pictures that depend on nothing but what was asked, a folder that goes on where it stopped, a manifest to train on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use candle_core::Device;
use raygen_manifest::{Labels, Manifest, Split, View};
use raygen_model::sampler::SamplingParams;
use raygen_trainer::run::StopSignal;
use raygen_trainer::synthesis::{self, Outcome, Request};

const MANIFEST: &str = "path,split,patient,view,impression,labels
a.jpg,train,p1,AP,Pneumonia.,Pneumonia
b.jpg,train,p2,lateral,Pneumonia.,Pneumonia
c.jpg,val,p3,PA,Pulmonary edema.,Edema
d.jpg,train,p4,PA,,Edema
e.jpg,train,p1,PA,No acute cardiopulmonary abnormality.,No Finding
";

fn request(folder: &Path) -> Request {
    let manifest = folder.join("films.csv");
    fs::write(&manifest, MANIFEST).unwrap();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/default");
    Request { bundle, manifest, split: None, samples: 1, limit: None, batch: 2 }
}

fn generate(request: &Request, seed: u64, out: &Path) -> Result<Outcome> {
    let change = |defaults: &SamplingParams| {
        Ok(SamplingParams { step_count: 2, refinement: 0.0, guidance_scale: 1.0, seed, ..defaults.clone() })
    };
    synthesis::generate(request, change, &Device::Cpu, &StopSignal::default(), out)
}

fn files(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let pictures = fs::read_dir(out.join("pictures")).unwrap().map(|entry| entry.unwrap().path());
    pictures.map(|path| (path.strip_prefix(out).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_picture_is_the_same_alone_in_another_batch_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let whole = folder.path().join("whole");
    let outcome = generate(&request, 7, &whole).unwrap();
    assert_eq!((outcome.pictures, outcome.kept, outcome.left_out, outcome.done), (3, 0, 2, true));
    let pictures = files(&whole);
    assert_eq!(pictures.len(), 3);
    assert!(pictures.values().all(|bytes| bytes.windows(9).any(|text| text == b"Synthetic")));

    let alone = folder.path().join("alone");
    generate(&Request { split: Some(Split::Val), batch: 1, ..request.clone() }, 7, &alone).unwrap();
    assert!(files(&alone).iter().all(|(path, bytes)| pictures[path] == *bytes));

    // As a kill leaves it: a picture without its line, a torn line, and one picture gone.
    let torn = whole.join("tokens.jsonl");
    let text = fs::read_to_string(&torn).unwrap();
    fs::write(&torn, &text[..text.len() - 20]).unwrap();
    fs::remove_file(whole.join(pictures.keys().next().unwrap())).unwrap();
    let outcome = generate(&request, 7, &whole).unwrap();
    assert_eq!((outcome.pictures, outcome.kept, outcome.done), (3, 1, true));
    assert_eq!(files(&whole), pictures);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines.dedup();
        lines
    };
    assert_eq!(sorted(&text), sorted(&fs::read_to_string(&torn).unwrap()));
}

#[test]
fn the_manifest_says_whose_words_each_picture_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { samples: 2, limit: Some(1), ..request(folder.path()) };
    let out = folder.path().join("out");
    generate(&request, 3, &out).unwrap();
    let manifest = Manifest::read(out.join("manifest.csv")).unwrap();
    manifest.check_files().unwrap();
    assert_eq!(manifest.films.len(), 2);
    let film = &manifest.films[1];
    assert_eq!(
        (film.id.as_str(), film.split, film.patient.as_deref()),
        ("pictures/000002-1.png", Some(Split::Train), Some("p1"))
    );
    assert_eq!((film.view, film.impression.as_deref()), (Some(View::AP), Some("Pneumonia.")));
    assert_eq!(film.labels, Labels::Positive(vec!["Pneumonia".to_owned()]));
    assert!(film.source.as_deref().is_some_and(|source| source.starts_with("synthetic")));
    assert_eq!((film.other["prompt_of"].as_str(), film.other["seed"].as_str()), ("a.jpg", "5"));
    let pictures: Vec<_> = files(&out).into_values().collect();
    assert_ne!(pictures[0], pictures[1]);
}

#[test]
fn a_folder_of_another_setting_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { limit: Some(1), ..request(folder.path()) };
    let out = folder.path().join("out");
    generate(&request, 1, &out).unwrap();
    let before = files(&out);
    let error = generate(&request, 2, &out).unwrap_err().to_string();
    assert!(error.contains("another bundle, manifest or setting"), "{error}");
    assert_eq!(files(&out), before);
}
