//! `evaluate`: each set held against the right films, labels that nobody knows left out, copies caught, a report that says what it is.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use raygen_manifest::Split;
use raygen_model::sampler::SamplingParams;
use raygen_trainer::config::RunConfig;
use raygen_trainer::evaluate::{self, Request};
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages;
use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Films of the repository: 12 to learn from, 12 held out, of which one is lateral, one unlabelled and one uncertain of edema.
fn films(folder: &Path) -> PathBuf {
    let images = repository().join("data/nih-256");
    let rows = fs::read_to_string(images.join("manifest.csv")).unwrap();
    let of = |split: &str| -> Vec<PathBuf> {
        let rows = rows.lines().filter(|row| row.split(',').nth(1) == Some(split)).step_by(6);
        rows.take(12).map(|row| images.join(row.split(',').next().unwrap())).collect()
    };
    let mut manifest = "path,split,patient,view,impression,labels,uncertain_labels\n".to_owned();
    for (split, paths) in [("train", of("train")), ("val", of("val"))] {
        for (place, path) in paths.iter().enumerate() {
            let (view, labels, uncertain) = match (split, place) {
                ("val", 0) => ("lateral", "Edema", ""),
                ("val", 1) => ("AP", "", ""),
                ("val", 2) => ("AP", "Pneumonia", "Edema"),
                (_, place) if place % 2 == 0 => ("PA", "Edema", ""),
                _ => ("AP", "No Finding", ""),
            };
            let words = if labels.contains("Edema") { "Pulmonary edema." } else { "Pneumonia." };
            manifest
                .push_str(&format!("{},{split},{split}{place},{view},{words},{labels},{uncertain}\n", path.display()));
        }
    }
    let path = folder.join("films.csv");
    fs::write(&path, manifest).unwrap();
    path
}

/// A bundle with a small classifier that has hardly learnt.
fn classifier(folder: &Path) -> PathBuf {
    let config = folder.join("classifier.toml");
    fs::write(&config, CLASSIFIER).unwrap();
    let out = folder.join("classifier");
    stages::run(&RunConfig::read(&config).unwrap(), &out, &Device::Cpu, &StopSignal::default()).unwrap();
    out.join("bundle")
}

const CLASSIFIER: &str = r#"
name = "looker"
[data]
manifest = "films.csv"
image_size = 64
[classifier]
steps = 3
batch = 4
image_size = 64
optimiser = { learning_rate = 1e-3 }
model = { growth_rate = 4, block_layers = [2, 2], initial_features = 8, bottleneck = 2 }
"#;

fn run(request: &Request, out: &Path) -> anyhow::Result<Value> {
    let change = |defaults: &SamplingParams| {
        Ok(SamplingParams { step_count: 2, refinement: 0.0, guidance_scale: 1.0, ..defaults.clone() })
    };
    assert!(evaluate::evaluate(request, change, &Device::Cpu, &StopSignal::default(), out)?);
    Ok(serde_json::from_str(&fs::read_to_string(out.join("report.json")).unwrap()).unwrap())
}

fn request(folder: &Path) -> Request {
    Request {
        bundles: Vec::new(),
        images: Vec::new(),
        manifest: films(folder),
        split: Split::Val,
        samples: 1,
        limit: None,
        classifier: None,
        image_size: 128,
        seed: 3,
    }
}

/// The measurement of a set whose name is `metric` and whose protocol has `word`.
fn found<'a>(measurements: &'a Value, metric: &str, word: &str) -> &'a Value {
    let named = |number: &&Value| number["name"] == metric && number["protocol"].as_str().unwrap().contains(word);
    measurements.as_array().unwrap().iter().find(named).unwrap_or_else(|| panic!("{metric}, {word}: {measurements}"))
}

#[test]
fn a_model_is_judged_by_frontal_films_and_by_labels_that_somebody_knows() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let request = Request { bundles: vec![repository().join("models/default")], ..request(folder.path()) };
    let request = Request { classifier: Some(classifier(folder.path())), ..request };
    let report = run(&request, &out).unwrap();
    assert_eq!((&report["films"], &report["training_films"]), (&11.into(), &12.into()));
    let set = &report["sets"][0];
    // The lateral film has no picture.
    assert_eq!((&set["pictures"], &set["prompts"]), (&11.into(), &11.into()));
    for (metric, word) in [
        ("fid", "n = 11 and 11"),
        ("kid", "generated pictures against real films"),
        ("kid", "beyond real films"),
        ("precision", "k = 5"),
        ("reconstruction_psnr", "PSNR"),
        ("inception_score", "classes"),
        ("near_training/tokens", "11 held-out films"),
    ] {
        assert!(found(&set["measurements"], metric, word)["value"].is_f64(), "{metric}");
    }
    // Of eleven films one is unlabelled, and of edema another one uncertain.
    for measurements in [&set["measurements"], &report["real"]] {
        let edema = found(measurements, "auroc/Edema", "4 positive, 5 negative");
        assert_eq!(edema["sample_count"], 9, "{edema}");
        let pneumonia = found(measurements, "auroc/Pneumonia", "1 positive, 9 negative");
        assert_eq!(pneumonia["sample_count"], 10, "{pneumonia}");
        let fracture = found(measurements, "auroc/Fracture", "");
        assert!(fracture["value"].is_null() && !fracture["undefined_reason"].as_str().unwrap().is_empty());
    }
    // Pictures of 128 px have no MS-SSIM, and that is said.
    let likeness = found(&set["measurements"], "ms_ssim", "one pair a prompt");
    assert!(likeness["undefined_reason"].as_str().unwrap().contains("too small"), "{likeness}");
    let page = fs::read_to_string(out.join("index.html")).unwrap();
    for sheet in set["sheets"].as_array().unwrap() {
        let file = sheet["file"].as_str().unwrap();
        assert!(page.contains(file) && out.join(file).is_file(), "{file}");
    }
    let table = fs::read_to_string(out.join("measurements.csv")).unwrap();
    let rows = set["measurements"].as_array().unwrap().len() + report["real"].as_array().unwrap().len();
    assert_eq!(table.lines().count(), 1 + rows);
}

#[test]
fn copies_of_training_films_are_caught_and_fresh_films_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let manifest = raygen_manifest::Manifest::read(&request.manifest).unwrap();
    let (copies, fresh) = (folder.path().join("copies"), folder.path().join("fresh"));
    let copied: Vec<PathBuf> = manifest.split(Split::Train).map(|film| film.path.clone()).collect();
    // Not the held-out films: by what is nearer to training films than these, they themselves can never be copies.
    let held_out: Vec<PathBuf> = manifest.split(Split::Val).map(|film| film.path.clone()).collect();
    let images = repository().join("data/nih-256");
    let rows = fs::read_to_string(images.join("manifest.csv")).unwrap();
    let rows = rows.lines().filter(|row| row.split(',').nth(1) == Some("val"));
    let others = rows.map(|row| images.join(row.split(',').next().unwrap())).filter(|path| !held_out.contains(path));
    let unseen: Vec<PathBuf> = others.take(60).collect();
    assert_eq!(unseen.len(), 60);
    for (out, films) in [(&copies, &copied), (&fresh, &unseen)] {
        fs::create_dir(out).unwrap();
        for film in films {
            fs::copy(film, out.join(film.file_name().unwrap())).unwrap();
        }
    }
    let report = run(&Request { images: vec![copies, fresh], ..request }, &folder.path().join("out")).unwrap();
    let verdict = |set: usize| &report["sets"][set]["memorisation"][0];
    assert_eq!((&verdict(0)["space"], &verdict(0)["copies"]), (&"pixels".into(), &12.into()));
    assert!(verdict(0)["verdict"].as_str().unwrap().contains("far nearer"), "{}", verdict(0));
    assert_eq!(verdict(1)["copies"], 0, "{}", verdict(1));
    assert_eq!(verdict(1)["verdict"], "no sign of memorisation found", "{}", verdict(1));
    let notices = report["sets"][0]["notices"].to_string();
    assert!(notices.contains("No classifier was given") && notices.contains("no labels"), "{notices}");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_generated() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let model = repository().join("models/default");
    let request = Request { bundles: vec![model.clone()], ..request(folder.path()) };
    let wrong = |request: &Request| format!("{:#}", run(request, &out).unwrap_err());
    let none = wrong(&Request { classifier: Some(model), ..request.clone() });
    assert!(none.contains("--classifier") && none.contains("no classifier"), "{none}");
    let empty = wrong(&Request { split: Split::Test, ..request.clone() });
    assert!(empty.contains("split test"), "{empty}");
    let nothing = wrong(&Request { bundles: Vec::new(), ..request });
    assert!(nothing.contains("--images"), "{nothing}");
    assert!(!out.join("sets").exists());
}
