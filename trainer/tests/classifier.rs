//! The stage `classifier`: it learns what films show, resumes exactly, passes over what nobody knows, and its bundle tells
//! findings film by film.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_eval::classification::auroc;
use raygen_model::bundle::{Bundle, Component};
use raygen_model::densenet::DenseNet;
use raygen_model::image::{self, DecodeLimits};
use raygen_model::model::Model;
use raygen_trainer::config::{ConfigError, RunConfig};
use raygen_trainer::plan::Plan;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use raygen_trainer::status;
use serde_json::Value;

use self::films::write_film;

const SIDE: u32 = 24;

/// Writes a film with noise, a bright base where there is edema and stripes where there is a fracture.
fn film(folder: &Path, name: &str, number: u32, edema: bool, fracture: bool) {
    write_film(folder, name, SIDE, |x, y| {
        let noise = (x * 31 + y * 17 + number * 7 + x * y * (number + 3)) % 60;
        let base = if edema && y >= SIDE / 2 { 90 } else { 0 };
        let stripe = if fracture && x % 4 < 2 { 70 } else { 0 };
        (20 + noise + base + stripe) as u8
    });
}

/// Rows of 24 films, every third for validation, all four kinds in both splits.
fn rows(folder: &Path) -> Vec<String> {
    let mut rows = vec!["path,split,patient,labels,uncertain_labels".to_owned()];
    for number in 0..24u32 {
        let (edema, fracture) = (number % 2 == 1, number % 4 >= 2);
        let name = format!("film-{number}.png");
        film(folder, &name, number, edema, fracture);
        let split = if number % 3 == 2 { "val" } else { "train" };
        let labels = match (edema, fracture) {
            (true, true) => "Edema;Fracture",
            (true, false) => "Edema",
            (false, true) => "Fracture",
            (false, false) => "No Finding",
        };
        rows.push(format!("{name},{split},p{number},{labels},"));
    }
    rows
}

fn write(folder: &Path, rows: &[String], config: &str) -> PathBuf {
    fs::write(folder.join("manifest.csv"), rows.join("\n") + "\n").unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, config).unwrap();
    path
}

const CONFIG: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 24
[classifier]
steps = 5
batch = 4
shift = 1
positive_weight_cap = 4.0
label_smoothing = 0.05
optimiser = { learning_rate = 1e-2, warm_up_steps = 2, weight_decay = 0.01, ema_decay = 0.8 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { growth_rate = 4, block_layers = [2, 2], initial_features = 8, bottleneck = 2, in_channels = 1, scale = "unit" }
[export]
dtype = "f32"
"#;

const UNIT_IN_F32: &str = "scale = \"unit\" }\n[export]\ndtype = \"f32\"";

const TOKENIZER_ALONE: &str = r#"
[tokenizer]
steps = 1
batch = 2
optimiser = { learning_rate = 1e-3 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[classifier]
"#;

fn train(config: &Path, out: &Path, stop: &StopSignal) -> Outcome {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, stop).unwrap()
}

fn whole(config: &Path, out: &Path) {
    assert_eq!(train(config, out, &StopSignal::default()), Outcome::Done);
}

fn file(out: &Path, name: &str) -> Vec<u8> {
    fs::read(out.join("bundle").join(name)).unwrap()
}

fn metrics(out: &Path) -> Value {
    serde_json::from_slice(&file(out, "metrics.json")).unwrap()
}

fn network(bundle: &Bundle) -> DenseNet {
    let tensors = bundle.tensors(Component::Classifier, &Device::Cpu, DType::F32).unwrap().into_iter().collect();
    let config = bundle.config().components.classifier.as_ref().unwrap();
    DenseNet::new(config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap()
}

/// Logits of a film's file, read as a bundle's user does.
fn logits(network: &DenseNet, path: &Path) -> Vec<f32> {
    let picture = image::decode(&fs::read(path).unwrap(), None, None, &DecodeLimits::default()).unwrap();
    let (config, pixels) = (network.config(), network.config().pixels(&picture).unwrap());
    let side = config.image_size;
    let images = Tensor::from_vec(pixels, (1, config.in_channels, side, side), &Device::Cpu).unwrap();
    network.logits(&images).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn it_learns_what_films_show_and_its_bundle_tells_it_film_by_film() {
    let folder = tempfile::tempdir().unwrap();
    let config = CONFIG.replace("steps = 5", "steps = 80").replace("validate_every = 3", "validate_every = 40");
    let config = write(folder.path(), &rows(folder.path()), &config);
    let out = folder.path().join("run");
    whole(&config, &out);

    let metrics = metrics(&out);
    for class in ["auroc/Edema", "auroc/Fracture", "auroc/macro"] {
        assert!(metrics[class].as_f64().unwrap() > 0.9, "{class}: {metrics}");
    }
    // Not only in the right order: by batch statistics that nothing followed, the answers would be far off.
    assert!(metrics["classifier_cross_entropy"].as_f64().unwrap() < 0.15, "{metrics}");
    assert!(metrics["auroc/Pneumonia"].is_null(), "{metrics}");
    assert_eq!(metrics["auroc_undefined"].as_array().unwrap().len(), 8, "{metrics}");
    let card = String::from_utf8(file(&out, "README.md")).unwrap();
    assert!(card.contains("| Pneumonia | 0 | 0 | 8 | undefined |"), "{card}");

    let bundle = Bundle::open(out.join("bundle")).unwrap();
    let network = network(&bundle);
    let val: Vec<u32> = (0..24).filter(|number| number % 3 == 2).collect();
    let told: Vec<Vec<f32>> =
        val.iter().map(|number| logits(&network, &folder.path().join(format!("film-{number}.png")))).collect();
    for (class, name, shows) in [(3, "Edema", [1u32, 2]), (4, "Fracture", [2, 4])] {
        assert_eq!(network.config().classes[class], name);
        let scores: Vec<f32> = told.iter().map(|logits| logits[class]).collect();
        let positives: Vec<bool> = val.iter().map(|number| number % shows[1] >= shows[0]).collect();
        assert_eq!(auroc(&scores, &positives).unwrap(), metrics[format!("auroc/{name}")].as_f64(), "{name}");
    }
    Model::load(&bundle, &Device::Cpu, DType::F32).unwrap();

    let status = status::read(&out).unwrap();
    assert_eq!((status.stages.len(), status.stages[0].stage, status.stages[0].up_to_date), (1, "classifier", true));
    let text = status.to_string();
    assert!(
        status.bundle
            && text.contains("auroc/Fracture 1.0000")
            && text.contains("auroc/Pneumonia undefined")
            && !text.contains("tokens"),
        "{status}"
    );
    assert!(out.join("classifier/curves.png").exists());
}

#[test]
fn a_run_stopped_after_every_step_ends_bit_equal_to_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = CONFIG.replace("shift = 1", "shift = 1\nflip = true");
    let config = write(folder.path(), &rows(folder.path()), &config);
    let (undisturbed, pieces) = (folder.path().join("undisturbed"), folder.path().join("pieces"));
    whole(&config, &undisturbed);
    let mut runs = 0;
    while {
        let stop = StopSignal::default();
        // Raised before it begins: one step is done and saved, then it stops.
        stop.raise();
        runs += 1;
        train(&config, &pieces, &stop) == Outcome::Stopped
    } {
        assert!(runs < 20, "the run never ends");
    }
    assert_eq!(runs, 5);
    assert_eq!(file(&undisturbed, "SHA256SUMS"), file(&pieces, "SHA256SUMS"));
}

#[test]
fn what_nobody_knows_changes_no_weight_and_no_auroc() {
    let folder = tempfile::tempdir().unwrap();
    let weights = |rows: &[String], keys: &str, out: &str| {
        let config = write(folder.path(), rows, &CONFIG.replace("shift = 1", keys));
        let out = folder.path().join(out);
        whole(&config, &out);
        (file(&out, "classifier.safetensors"), metrics(&out))
    };
    let rows = rows(folder.path());
    let (plain, plain_metrics) = weights(&rows, "shift = 1", "plain");
    // At the end, so that the films before them keep their numbers: nothing known, and one finding that may or may not be.
    let mut more = rows.clone();
    for (number, split) in [(24, "train"), (25, "val"), (26, "train"), (27, "val")] {
        film(folder.path(), &format!("film-{number}.png"), number, true, false);
        let uncertain = if number < 26 { "" } else { "Edema" };
        more.push(format!("film-{number}.png,{split},p{number},,{uncertain}"));
    }
    let (left_out, metrics) = weights(&more, "shift = 1", "left out");
    assert!(plain == left_out && plain_metrics == metrics, "{plain_metrics} {metrics}");
    let policies = "uncertain = \"positive\"\nunlabelled = \"negative\"\nshift = 1";
    let (taken, taken_metrics) = weights(&more, policies, "taken");
    assert!(taken != plain, "policies count");
    assert_eq!(taken_metrics["auroc/Edema"].is_f64(), plain_metrics["auroc/Edema"].is_f64());

    // An uncertain answer is masked while the film's others count.
    let mut masked = rows.clone();
    masked[2] = masked[2].replace("Edema,", "No Finding,Edema");
    let mut denied = rows;
    denied[2] = denied[2].replace("Edema,", "No Finding,");
    let (masked, _) = weights(&masked, "shift = 1", "masked");
    let (denied, _) = weights(&denied, "shift = 1", "denied");
    assert!(masked != plain && masked != denied, "neither yes nor no");
}

#[test]
fn it_starts_from_a_bundle_with_a_fresh_head_where_the_classes_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(folder.path());
    let first = folder.path().join("first");
    whole(&write(folder.path(), &rows, CONFIG), &first);
    let tensors = |out: &Path| {
        let bundle = Bundle::open(out.join("bundle")).unwrap();
        bundle.tensors(Component::Classifier, &Device::Cpu, DType::F32).unwrap()
    };
    let from = |keys: &str| CONFIG.replace("shift = 1", &format!("shift = 1\nstart_from = \"first/bundle\"\n{keys}"));
    let run = |config: &str, out: &str| {
        let config = RunConfig::read(&write(folder.path(), &rows, config)).unwrap();
        let out = folder.path().join(out);
        stages::run(&config, &out, &Device::Cpu, &StopSignal::default()).map(|_| out).map_err(|e| format!("{e:#}"))
    };
    // As it is.
    let same = run(&from("").replace("steps = 5", "steps = 0"), "same").unwrap();
    assert_eq!(file(&first, "classifier.safetensors"), file(&same, "classifier.safetensors"));
    // Other classes: all but the head is taken, running statistics too.
    let two = from("classes = [\"Fracture\", \"Edema\"]");
    let headless = run(&two.replace("steps = 5", "steps = 0"), "headless").unwrap();
    let (all, some) = (tensors(&first), tensors(&headless));
    assert_eq!(some["classifier.weight"].dims()[0], 2);
    for (name, tensor) in some.iter().filter(|(name, _)| !name.starts_with("classifier.")) {
        let difference = (tensor - &all[name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(difference, 0.0, "{name}");
    }
    run(&two, "further").unwrap();
    let message = run(&from("").replace("growth_rate = 4", "growth_rate = 5"), "other").unwrap_err();
    assert!(message.contains("classifier.start_from") && message.contains("another shape"), "{message}");
}

#[test]
fn a_run_that_makes_pictures_has_a_classifier_too() {
    let folder = tempfile::tempdir().unwrap();
    let generator = r#"
[tokenizer]
steps = 2
batch = 2
optimiser = { learning_rate = 1e-3 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 1
shift = 0
[transformer]
steps = 2
batch = 2
optimiser = { learning_rate = 1e-3 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export.sampling]
step_count = 2
"#;
    let mut rows = rows(folder.path());
    rows[0].push_str(",impression");
    rows[1..].iter_mut().for_each(|row| row.push_str(",Noise."));
    let config = CONFIG.to_owned() + generator;
    let config = write(folder.path(), &rows, &config.replace("shift = 1", "shift = 1\nimage_size = 20"));
    let out = folder.path().join("run");

    let plan = Plan::make(&RunConfig::read(&config).unwrap(), &out, Some(&Device::Cpu)).unwrap();
    assert_eq!(plan.stages.iter().map(|s| s.stage).collect::<Vec<_>>(), ["tokenizer", "transformer", "classifier"]);
    let classifier = plan.stages[2];
    assert!(classifier.step.is_some_and(|step| step.seconds > 0.0) && plan.seconds.is_some(), "{plan}");
    assert!(classifier.memory.activations > 0 && plan.to_string().contains("stage classifier: 5 steps"), "{plan}");

    whole(&config, &out);
    let bundle = Bundle::open(out.join("bundle")).unwrap();
    assert_eq!(bundle.config().components.present().count(), 4);
    assert_eq!(bundle.config().components.classifier.as_ref().unwrap().image_size, 20);
    let metrics = metrics(&out);
    assert!(metrics["nll"].is_f64() && metrics["auroc/Edema"].is_f64());
    let card = String::from_utf8(file(&out, "README.md")).unwrap();
    assert!(card.contains("negative log-likelihood") && card.contains("## The classifier"), "{card}");
    // What was planned is what the stage leaves, and the parameters are those of the bundle.
    let checkpoint = fs::read(out.join("classifier/step-00000005.safetensors")).unwrap();
    let header = u64::from_le_bytes(checkpoint[..8].try_into().unwrap());
    assert_eq!(checkpoint.len() as u64 - 8 - header, classifier.checkpoint_bytes / 2);
    let tensors = bundle.tensors(Component::Classifier, &Device::Cpu, DType::F32).unwrap();
    let numbers: usize = tensors.values().map(Tensor::elem_count).sum();
    assert_eq!(plan.networks[3].parameters, numbers as u64);
    // Without the stage the others are what they were: its section changes no fingerprint of theirs.
    let text = fs::read_to_string(&config).unwrap();
    let (before, rest) = text.split_once("[classifier]").unwrap();
    let (_, after) = rest.split_once("[export]").unwrap();
    fs::write(&config, format!("{before}[export]{after}")).unwrap();
    whole(&config, &out);
    assert_eq!(Bundle::open(out.join("bundle")).unwrap().config().components.present().count(), 3);
}

#[test]
fn a_wrong_section_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let rows = rows(folder.path());
    let message = |from: &str, to: &str| {
        assert!(CONFIG.contains(from), "{from}");
        match RunConfig::read(&write(folder.path(), &rows, &CONFIG.replacen(from, to, 1))) {
            Err(error @ (ConfigError::Parse { .. } | ConfigError::Value { .. })) => error.to_string(),
            other => panic!("{to}: {other:?}"),
        }
    };
    for (from, to, key) in [
        ("batch = 4", "batch = 1", "`classifier.batch`"),
        ("batch = 4", "batches = 4", "batches"),
        ("steps = 5", "steps = 0", "`classifier.steps`"),
        ("shift = 1", "image_size = 25", "`classifier.image_size`"),
        ("shift = 1", "image_size = 2", "`classifier.image_size`"),
        ("shift = 1", "classes = [\"Mass\"]", "`classifier.classes`"),
        ("shift = 1", "classes = [\"Edema\", \"Edema\"]", "`classifier.classes`"),
        ("shift = 1", "classes = []", "classes`"),
        ("shift = 1", "uncertain = \"maybe\"", "uncertain"),
        ("shift = 1", "norm_momentum = 0.0", "`classifier.norm_momentum`"),
        ("cap = 4.0", "cap = 0.5", "`classifier.positive_weight_cap`"),
        ("smoothing = 0.05", "smoothing = 1.0", "`classifier.label_smoothing`"),
        ("learning_rate = 1e-2", "learning_rate = 0.0", "`classifier.optimiser.learning_rate`"),
        ("in_channels = 1", "in_channels = 2", "`classifier.model.in_channels`"),
        (UNIT_IN_F32, "scale = \"torchxrayvision\" }\n[export]\ndtype = \"f16\"", "`export.dtype`"),
        ("[classifier]", TOKENIZER_ALONE, "`transformer`"),
    ] {
        let message = message(from, to);
        assert!(message.contains(key), "{to}: {message}");
    }
    let alone = "name = \"none\"\n[data]\nmanifest = \"manifest.csv\"\nimage_size = 24\n";
    let error = RunConfig::read(&write(folder.path(), &rows, alone)).unwrap_err().to_string();
    assert!(error.contains("`tokenizer`") && error.contains("[classifier]"), "{error}");
    // Films without a label teach nothing.
    let rows: Vec<String> = ["path,split", "film-0.png,train", "film-1.png,val"].map(str::to_owned).to_vec();
    let config = RunConfig::read(&write(folder.path(), &rows, CONFIG)).unwrap();
    let error = stages::run(&config, &folder.path().join("run"), &Device::Cpu, &StopSignal::default()).unwrap_err();
    assert!(format!("{error:#}").contains("column `labels`"), "{error:#}");
}
