//! Two ranks on the CPU are one run: they do what one rank does with as many films, stop and go on as one, and write once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component};
use raygen_trainer::config::RunConfig;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use serde_json::Value;

use self::films::striped_film;

/// All four trained stages, the first and the third with a discriminator from their second step on.
const CONFIG: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 4
batch = 2
shift = 1
restart_below = 0.95
codebook_decay = 0.5
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
adversarial = { start = 1, channels = 4, layers = 1 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 64, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 4
batch = 2
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, weight_decay = 0.01, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[decoder]
steps = 3
batch = 2
sampling_steps = 2
optimiser = { learning_rate = 2e-3, warm_up_steps = 2, ema_decay = 0.5 }
adversarial = { start = 1, channels = 4, layers = 1 }
cadence = { validate_every = 2, checkpoint_every = 2 }
[classifier]
steps = 4
batch = 2
classes = ["Edema"]
optimiser = { learning_rate = 1e-3, warm_up_steps = 0, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { growth_rate = 4, block_layers = [1, 1], initial_features = 4, bottleneck = 1, in_channels = 1, scale = "unit" }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

const STAGES: [&str; 4] = ["tokenizer", "transformer", "decoder", "classifier"];

/// Nine films, seven to learn from: the steps of a run end no epoch together.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = "path,split,patient,impression,labels\n".to_owned();
    for film in 0..9u32 {
        let name = striped_film(folder.path(), film);
        let split = if film < 7 { "train" } else { "val" };
        let (impression, label) = if film % 2 == 0 { ("Stripes.", "Edema") } else { ("No finding.", "No Finding") };
        manifest.push_str(&format!("{name},{split},p{film},{impression},{label}\n"));
    }
    fs::write(folder.path().join("manifest.csv"), manifest).unwrap();
    folder
}

/// A configuration of the name `name`, in which each of `changes` replaces what is there.
fn config(folder: &Path, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let path = folder.join(format!("{name}.toml"));
    let text = changes.iter().fold(CONFIG.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    fs::write(&path, text).unwrap();
    path
}

/// Only the stages before `section`.
fn before(section: &str) -> String {
    let (first, rest) = CONFIG.split_once(section).unwrap();
    format!("{first}{}", rest.split_once("[export]").map(|(_, export)| format!("[export]{export}")).unwrap())
}

fn train(config: &Path, out: &Path, ranks: usize, stop: &StopSignal) -> anyhow::Result<Outcome> {
    stages::run_on(&RunConfig::read(config).unwrap(), out, &vec![Device::Cpu; ranks], stop)
}

fn whole(config: &Path, out: &Path, ranks: usize) {
    assert_eq!(train(config, out, ranks, &StopSignal::default()).unwrap(), Outcome::Done);
}

fn checksums(out: &Path) -> String {
    fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap()
}

fn tensors(out: &Path, component: Component) -> BTreeMap<String, Vec<f32>> {
    let tensors = Bundle::open(out.join("bundle")).unwrap().tensors(component, &Device::Cpu, DType::F32).unwrap();
    let values = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, values(tensor))).collect()
}

/// Largest difference of two sets of tensors, as a share of the largest value.
fn apart(a: &BTreeMap<String, Vec<f32>>, b: &BTreeMap<String, Vec<f32>>) -> f32 {
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    let pairs = || a.values().flatten().zip(b.values().flatten());
    pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / pairs().map(|(a, _)| a.abs()).fold(0.0, f32::max)
}

fn lines(out: &Path, stage: &str) -> Vec<Value> {
    let text = fs::read_to_string(out.join(stage).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(out: &Path, stage: &str, name: &str) -> Vec<f64> {
    lines(out, stage).iter().filter(|line| line["event"] == "train").filter_map(|line| line[name].as_f64()).collect()
}

#[test]
fn two_ranks_do_what_one_does_with_as_many_films_a_step() {
    let folder = folder();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    let text = before("[classifier]");
    fs::write(folder.path().join("two.toml"), &text).unwrap();
    // The transformer adds two batches up, the others take one of twice the size.
    let (head, rest) = text.split_once("[transformer]").unwrap();
    let (transformer, decoder) = rest.split_once("[decoder]").unwrap();
    let double = |text: &str| text.replace("batch = 2", "batch = 4");
    let accumulate = transformer.replace("batch = 2", "batch = 2\naccumulate = 2");
    let alone = format!("{}[transformer]{accumulate}[decoder]{}", double(head), double(decoder));
    fs::write(folder.path().join("one.toml"), alone).unwrap();
    whole(&folder.path().join("one.toml"), &one, 1);
    whole(&folder.path().join("two.toml"), &two, 2);
    for stage in ["tokenizer", "transformer", "decoder"] {
        for metric in ["loss", "gradient_norm"] {
            let (one, two) = (numbers(&one, stage, metric), numbers(&two, stage, metric));
            assert_eq!(one.len(), two.len());
            for (step, (one, two)) in one.iter().zip(&two).enumerate() {
                assert!((one - two).abs() < 1e-3 * one.abs(), "{stage}, step {step}: {metric} {one} and {two}");
            }
        }
    }
    for metric in ["reconstruction", "commitment", "restarted_codes", "adversarial", "adversarial_weight", "film_score"]
    {
        let (one, two) = (numbers(&one, "tokenizer", metric), numbers(&two, "tokenizer", metric));
        assert!(!one.is_empty() && one.len() == two.len(), "{metric}");
        for (one, two) in one.iter().zip(&two) {
            assert!((one - two).abs() < 1e-2 * one.abs().max(1e-3), "{metric}: {one} and {two}");
        }
    }
    assert!(numbers(&one, "tokenizer", "restarted_codes").iter().sum::<f64>() > 0.0, "no code was restarted");
    for component in [Component::VqGan, Component::Transformer, Component::TextEncoder] {
        let apart = apart(&tensors(&one, component), &tensors(&two, component));
        assert!(apart < 1e-3, "{component:?}: {apart}");
    }
}

#[test]
fn two_ranks_stopped_after_every_step_end_bit_equal_to_undisturbed_ones_and_write_once() {
    let folder = folder();
    let config = config(folder.path(), "run", &[]);
    let (undivided, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    whole(&config, &undivided, 2);
    let mut runs = 0;
    loop {
        let stop = StopSignal::default();
        stop.raise();
        runs += 1;
        assert!(runs < 40, "the run never ends");
        if train(&config, &pieces, 2, &stop).unwrap() == Outcome::Done {
            break;
        }
    }
    assert!(runs > 10, "it was stopped only {runs} times");
    assert_eq!(checksums(&undivided), checksums(&pieces));
    for stage in STAGES {
        let names = fs::read_dir(undivided.join(stage)).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        for end in ["metrics.jsonl", "progress.json"] {
            assert_eq!(names.iter().filter(|name| name.ends_with(end)).count(), 1, "{stage}: {names:?}");
        }
        let steps: Vec<u64> = lines(&undivided, stage)
            .iter()
            .filter(|line| line["event"] == "train")
            .filter_map(|line| line["step"].as_u64())
            .collect();
        assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>(), "{stage}: each step is told once");
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks_where_the_films_of_a_step_stay_the_same() {
    let folder = folder();
    let two = config(folder.path(), "two", &[]);
    let out = folder.path().join("run");
    let stop = StopSignal::default();
    stop.raise();
    assert_eq!(train(&two, &out, 2, &stop).unwrap(), Outcome::Stopped);
    let message = format!("{:#}", train(&two, &out, 1, &StopSignal::default()).unwrap_err());
    assert!(message.contains("stage tokenizer") && message.contains("other settings"), "{message}");
    let one = CONFIG.replace("batch = 2", "batch = 4").replacen(
        "steps = 4\nbatch = 4\noptimiser",
        "steps = 4\nbatch = 2\naccumulate = 2\noptimiser",
        1,
    );
    let path = folder.path().join("one.toml");
    fs::write(&path, one).unwrap();
    whole(&path, &out, 1);
    // The classifier normalises each rank's batch by itself: with other ranks it is another run.
    let message = format!("{:#}", train(&two, &out, 2, &StopSignal::default()).unwrap_err());
    assert!(message.contains("stage classifier") && message.contains("other settings"), "{message}");
}

#[test]
fn what_ends_rank_0_ends_the_run_with_its_name() {
    let folder = folder();
    let config = config(folder.path(), "run", &[]);
    let out = folder.path().join("run");
    fs::create_dir_all(&out).unwrap();
    // A file where the stage's folder should be.
    fs::write(out.join("transformer"), "").unwrap();
    let message = format!("{:#}", train(&config, &out, 2, &StopSignal::default()).unwrap_err());
    assert!(message.starts_with("rank 0 of 2: stage transformer"), "{message}");
    // What was done is kept, and the same command goes on.
    fs::remove_file(out.join("transformer")).unwrap();
    whole(&config, &out, 2);
    let undisturbed = folder.path().join("undisturbed");
    whole(&config, &undisturbed, 2);
    assert_eq!(checksums(&out), checksums(&undisturbed));
}

#[test]
fn devices_of_two_kinds_or_none_are_refused() {
    let folder = folder();
    let config = config(folder.path(), "run", &[]);
    let message = format!("{:#}", train(&config, &folder.path().join("run"), 0, &StopSignal::default()).unwrap_err());
    assert!(message.contains("--devices"), "{message}");
}
