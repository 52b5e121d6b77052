//! A run that starts from another run's bundle, with parts of it frozen, classes balanced, regions masked, batches accumulated
//! and views told: stopped and resumed, exported, served.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::model::{Model, ModelError};
use raygen_model::transformer::View;
use raygen_trainer::config::{ConfigError, RunConfig};
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use serde_json::Value;

use self::films::striped_film;

const BASE: &str = r#"
name = "base"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 2
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 3
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
model = { width = 16, layers = 2, heads = 2, feed_forward = 16, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

/// What is put in place of the lines of `BASE` that begin like it.
const FINE: &[(&str, &str)] = &[
    ("name = \"base\"", "name = \"fine\""),
    ("manifest = \"manifest.csv\"", "manifest = \"pathology.csv\"\nviews = \"all\""),
    ("[tokenizer]\nsteps = 2", "[tokenizer]\nsteps = 0\nstart_from = \"base/bundle\""),
    (
        "[transformer]\nsteps = 3\nbatch = 3",
        "[transformer]\nsteps = 5\nbatch = 2\naccumulate = 2\nstart_from = \"base/bundle\"\nfreeze = [\"text\", \"embedding\", \"layers.0\"]\nclass_balance = 0.7\nregion_masks = 0.5\nattention_dropout = 0.1\ncadence = { validate_every = 3, checkpoint_every = 2 }",
    ),
    ("token_merge = 2 }", "token_merge = 2, views = true }"),
];

fn fine() -> String {
    FINE.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    })
}

/// Eight films with their manifest, eight others with theirs, and the finished base run.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut base = "path,split,patient,impression,labels\n".to_owned();
    let mut pathology = "path,split,patient,view,impression,labels\n".to_owned();
    for film in 0..8u32 {
        let name = striped_film(folder.path(), film);
        let split = if film < 6 { "train" } else { "val" };
        let impression = if film % 2 == 0 { "Wide stripes." } else { "No finding." };
        base.push_str(&format!("{name},{split},p{film},{impression},\n"));
        let view = ["PA", "PA", "AP", "PA", "lateral", "", "PA", "AP"][film as usize];
        let (impression, labels) = if film == 1 { ("Zigzag edema.", "Edema") } else { (impression, "No Finding") };
        pathology.push_str(&format!("{name},{split},p{film},{view},{impression},{labels}\n"));
    }
    fs::write(folder.path().join("manifest.csv"), base).unwrap();
    fs::write(folder.path().join("pathology.csv"), pathology).unwrap();
    assert_eq!(train(folder.path(), "base.toml", BASE, "base").unwrap(), Outcome::Done);
    folder
}

fn configured(folder: &Path, file: &str, text: &str) -> PathBuf {
    let path = folder.join(file);
    fs::write(&path, text).unwrap();
    path
}

fn train(folder: &Path, file: &str, text: &str, out: &str) -> anyhow::Result<Outcome> {
    let config = RunConfig::read(&configured(folder, file, text)).unwrap();
    stages::run(&config, &folder.join(out), &Device::Cpu, &StopSignal::default())
}

fn refusal(folder: &Path, text: &str, out: &str) -> String {
    format!("{:#}", train(folder, "fine.toml", text, out).unwrap_err())
}

fn tensors(bundle: &Path, component: Component) -> BTreeMap<String, Vec<f32>> {
    let bundle = Bundle::open(bundle).unwrap();
    let tensors = bundle.tensors(component, &Device::Cpu, DType::F32).unwrap();
    tensors.into_iter().map(|(name, of)| (name, of.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

fn logged(out: &Path, value: &str) -> Vec<f64> {
    let text = fs::read_to_string(out.join("transformer/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == "train").map(|line| line[value].as_f64().unwrap()).collect()
}

#[test]
fn a_fine_tuning_run_resumes_exactly_and_leaves_frozen_parts_as_they_were() {
    let folder = folder();
    let folder = folder.path();
    let text = fine();
    assert_eq!(train(folder, "fine.toml", &text, "whole").unwrap(), Outcome::Done);
    let config = RunConfig::read(&folder.join("fine.toml")).unwrap();
    let mut runs = 1;
    loop {
        let stop = StopSignal::default();
        // Raised before it begins: one step is done and saved, then it stops.
        stop.raise();
        if stages::run(&config, &folder.join("pieces"), &Device::Cpu, &stop).unwrap() == Outcome::Done {
            break;
        }
        runs += 1;
        assert!(runs < 20, "the run never ends");
    }
    assert_eq!(runs, 5, "a step each time");
    let sums = |out: &str| fs::read_to_string(folder.join(out).join("bundle/SHA256SUMS")).unwrap();
    assert_eq!(sums("whole"), sums("pieces"));
    assert_eq!(logged(&folder.join("whole"), "loss"), logged(&folder.join("pieces"), "loss"));

    let of = |out: &str, component| tensors(&folder.join(out).join("bundle"), component);
    assert_eq!(of("base", Component::TextEncoder), of("whole", Component::TextEncoder));
    assert_eq!(of("base", Component::VqGan), of("whole", Component::VqGan));
    let (before, after) = (of("base", Component::Transformer), of("whole", Component::Transformer));
    let frozen = |name: &str| name.starts_with("image_") || name.starts_with("transformer.dec_layers.0.");
    for (name, values) in &before {
        assert_eq!(values == &after[name], frozen(name), "{name}");
    }
    assert!(before.keys().filter(|name| frozen(name)).count() > 10);
    let fresh: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert_eq!(fresh, ["view_embedding.weight"]);

    // No weight, moment or average of what does not move is kept.
    let checkpoint = fs::read(folder.join("whole/transformer/step-00000005.safetensors")).unwrap();
    let checkpoint = safetensors::SafeTensors::deserialize(&checkpoint).unwrap();
    let names = checkpoint.names();
    assert!(names.iter().any(|name| name.ends_with("final_dense.weight")));
    assert!(names.iter().all(|name| !name.contains("bert.") && !name.contains("dec_layers.0.")), "{names:?}");
}

#[test]
fn a_bundle_with_views_serves_each_and_refuses_those_it_has_not_learnt() {
    let folder = folder();
    let folder = folder.path();
    // Of the training films three are PA, one AP, one lateral; of one nothing is known. Without the lateral one:
    let text = fine().replace("views = \"all\"", "views = [\"AP\", \"PA\", \"frontal\"]");
    train(folder, "fine.toml", &text, "run").unwrap();
    let bundle = Bundle::open(folder.join("run/bundle")).unwrap();
    let model = Model::load(&bundle, &Device::Cpu, DType::F32).unwrap();
    assert_eq!(model.info().views, [View::AP, View::PA, View::Frontal]);
    assert_eq!(model.info().default_view, Some(View::PA));
    let text = model.tokenize("Wide stripes.").unwrap();
    let grid = vec![model.info().mask_token_id; model.info().positions()];
    let logits = |view| {
        let condition = model.condition_of_view(&text, view).unwrap();
        model.logits(&[(grid.as_slice(), &condition)]).unwrap().remove(0)
    };
    assert_eq!(logits(None), logits(Some(View::PA)));
    assert_ne!(logits(Some(View::AP)), logits(Some(View::PA)));
    let null = |view| {
        let condition = model.null_condition_of_view(view).unwrap();
        model.logits(&[(grid.as_slice(), &condition)]).unwrap().remove(0)
    };
    assert_eq!(null(None), null(Some(View::PA)));
    assert_ne!(null(Some(View::AP)), null(Some(View::PA)), "the empty text is kept for each view");
    let error = model.condition_of_view(&text, Some(View::Lateral)).unwrap_err();
    assert!(matches!(&error, ModelError::UnknownView { view: View::Lateral, .. }), "{error}");
    // Words of both runs are known: of the bundle, and of the films here.
    assert!(model.tokenize("Wide stripes, zigzag edema").unwrap().unsupported_terms.is_empty());

    let base = Bundle::open(folder.join("base/bundle")).unwrap();
    let base = Model::load(&base, &Device::Cpu, DType::F32).unwrap();
    let error = base.condition_of_view(&text, Some(View::PA)).unwrap_err();
    assert!(error.to_string().contains("it knows none"), "{error}");
    let config = fs::read_to_string(folder.join("base/bundle/config.json")).unwrap();
    assert!(!config.contains("views"), "older bundles and those without views have no such field");
}

#[test]
fn what_does_not_fit_the_bundle_is_said_by_name() {
    let folder = folder();
    let folder = folder.path();
    let text = fine();
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let wide = refusal(folder, &changed("feed_forward = 16", "feed_forward = 24"), "a");
    assert!(wide.contains("feed_forward 16") && wide.contains("feed_forward 24"), "{wide}");
    // Another tokenizer: the same shape, other codes. (With the same seed and films it would be the same one.)
    let own = "[tokenizer]\nsteps = 2\nbatch = 3";
    let own =
        changed("[tokenizer]\nsteps = 0\nstart_from = \"base/bundle\"\nbatch = 3", own).replace("seed = 5", "seed = 6");
    let codes = refusal(folder, &own, "b");
    assert!(codes.contains("another codebook") && codes.contains("tokenizer.start_from"), "{codes}");
    let gone = refusal(folder, &changed("start_from = \"base/bundle\"\nfreeze", "start_from = \"gone\"\nfreeze"), "c");
    assert!(gone.contains("transformer.start_from") && gone.contains("gone"), "{gone}");
    // A view token that is fresh cannot be frozen.
    let view = refusal(folder, &changed("\"layers.0\"", "\"view\""), "d");
    assert!(view.contains("view_embedding.weight"), "{view}");

    train(folder, "fine.toml", &text, "run").unwrap();
    for (from, to) in [
        ("class_balance = 0.7", "class_balance = 0.0"),
        ("region_masks = 0.5", "region_masks = 0.0"),
        ("accumulate = 2", "accumulate = 1"),
        ("\"layers.0\"", "\"layers.1\""),
        ("batch = 2\n", "batch = 2\ndtype = \"bf16\"\n"),
        ("start_from = \"base/bundle\"\nfreeze = [\"text\", \"embedding\", \"layers.0\"]", ""),
    ] {
        let message = refusal(folder, &changed(from, to), "run");
        assert!(message.contains("other settings"), "{to}: {message}");
        train(folder, "other.toml", &changed(from, to), "other").unwrap();
        let losses = |out: &str| logged(&folder.join(out), "loss");
        // What learns shows only in the second loss.
        assert_ne!(losses("run"), losses("other"), "{to} changes nothing");
        fs::remove_dir_all(folder.join("other")).unwrap();
    }
    // Labels count where classes are balanced, and views where they are told.
    let manifest = fs::read_to_string(folder.join("pathology.csv")).unwrap();
    for (from, to) in [("No Finding", "Pneumonia"), (",AP,", ",PA,")] {
        fs::write(folder.join("pathology.csv"), manifest.replacen(from, to, 1)).unwrap();
        let message = refusal(folder, &text, "run");
        assert!(message.contains("other settings"), "{to}: {message}");
    }
}

#[test]
fn keys_that_make_no_sense_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let message = |from: &str, to: &str| {
        let text = fine();
        assert!(text.contains(from), "{from}");
        match RunConfig::read(&configured(folder.path(), "run.toml", &text.replacen(from, to, 1))) {
            Err(error @ (ConfigError::Parse { .. } | ConfigError::Value { .. })) => error.to_string(),
            other => panic!("{to}: {other:?}"),
        }
    };
    for (from, to, key) in [
        ("accumulate = 2", "accumulate = 0", "transformer.accumulate"),
        ("class_balance = 0.7", "class_balance = 1.1", "transformer.class_balance"),
        ("region_masks = 0.5", "region_masks = -0.1", "transformer.region_masks"),
        ("accumulate = 2", "dtype = \"f16\"", "f16"),
        ("\"layers.0\"", "\"layers.2\"", "layers.2"),
        ("\"layers.0\"", "\"local_in\"", "local_in"),
        ("\"layers.0\"", "\"nonsense\"", "nonsense"),
        ("start_from = \"base/bundle\"\nfreeze", "freeze", "transformer.freeze"),
        (
            "\"layers.0\"",
            "\"layers\", \"head\", \"norm\", \"merge\", \"text_projector\", \"view\"",
            "leaves nothing to train",
        ),
        ("views = \"all\"", "views = [\"oblique\"]", "oblique"),
        ("token_merge = 2, views = true", "variant = \"published\", views = true", "transformer.model.views"),
    ] {
        let found = message(from, to);
        assert!(found.contains(key), "{to}: {found}");
    }
}
