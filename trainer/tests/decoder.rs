//! Stage `decoder`: no token changes, only what is made of them; it learns, and a stopped run ends as an undisturbed one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component};
use raygen_trainer::config::RunConfig;
use raygen_trainer::plan::Plan;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use serde_json::Value;

use self::films::striped_film;

const CONFIG: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 3
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 1
shift = 0
[transformer]
steps = 2
batch = 3
optimiser = { learning_rate = 1e-3 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[decoder]
steps = STEPS
batch = 3
grids = 2
masked = 0.4
sampling_steps = 2
optimiser = { learning_rate = 2e-3, warm_up_steps = 2, ema_decay = 0.5 }
adversarial = { start = 2, channels = 4, layers = 1 }
cadence = { validate_every = 4, checkpoint_every = 2 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

fn tiny_run(folder: &Path, steps: u64) -> PathBuf {
    let mut manifest = "path,split,impression\n".to_owned();
    for film in 0..6 {
        let split = if film < 4 { "train" } else { "val" };
        manifest.push_str(&format!("{},{split},Stripes.\n", striped_film(folder, film)));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG.replacen("STEPS", &steps.to_string(), 1)).unwrap();
    path
}

fn train(config: &Path, out: &Path, stop: &StopSignal) -> Outcome {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, stop).unwrap()
}

fn tensors(bundle: &Path, component: Component) -> BTreeMap<String, Vec<f32>> {
    let tensors = Bundle::open(bundle).unwrap().tensors(component, &Device::Cpu, DType::F32).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1().unwrap())).collect()
}

#[test]
fn only_the_decoder_changes_and_it_makes_better_pictures_of_grids_that_were_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    assert_eq!(train(&tiny_run(folder.path(), 40), &out, &StopSignal::default()), Outcome::Done);
    let (before, after) = (out.join("decoder/before"), out.join("bundle"));
    let (old, new) = (tensors(&before, Component::VqGan), tensors(&after, Component::VqGan));
    for (name, values) in &old {
        let learns = name.starts_with("decoder.") || name.starts_with("post_quant_conv.");
        assert_eq!(values != &new[name], learns, "{name}");
    }
    for component in [Component::Transformer, Component::TextEncoder] {
        assert_eq!(tensors(&before, component), tensors(&after, component));
    }
    let metrics = fs::read_to_string(out.join("decoder/metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let psnr: Vec<f64> = lines.filter_map(|line| line["generated_psnr"].as_f64()).collect();
    assert_eq!(psnr.len(), 10);
    assert!(psnr[9] > psnr[0] + 1.0, "{psnr:?}");
    assert!(out.join("decoder/samples/step-000040.png").exists());
}

#[test]
fn a_run_stopped_after_every_step_ends_bit_equal_to_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), 5);
    let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    train(&config, &whole, &StopSignal::default());
    let mut runs = 1;
    loop {
        let stop = StopSignal::default();
        stop.raise();
        if train(&config, &pieces, &stop) == Outcome::Done {
            break;
        }
        runs += 1;
        assert!(runs < 20, "the run never ends");
    }
    assert_eq!(runs, 2 + 1 + 1 + 4 + 1, "one step each time: the last step of a stage leads into the next stage");
    let sums = |out: &Path| fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap();
    assert_eq!(sums(&whole), sums(&pieces));
}

#[test]
fn more_steps_and_another_note_go_on_and_another_share_of_tokens_is_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (tiny_run(folder.path(), 3), folder.path().join("run"));
    train(&config, &out, &StopSignal::default());
    let grids = fs::read(out.join("decoder/grids/step-00000012.safetensors")).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let longer = text.replacen("steps = 3\nbatch = 3\ngrids", "steps = 5\nbatch = 3\ngrids", 1);
    let longer = longer.replacen("notes = \"\"", "notes = \"Longer.\"", 1);
    assert_ne!(text, longer);
    fs::write(&config, &longer).unwrap();
    assert_eq!(train(&config, &out, &StopSignal::default()), Outcome::Done);
    assert_eq!(fs::read(out.join("decoder/grids/step-00000012.safetensors")).unwrap(), grids);
    assert!(out.join("decoder/step-00000005.safetensors").exists());
    fs::write(&config, longer.replacen("masked = 0.4", "masked = 0.6", 1)).unwrap();
    let error = stages::run(&RunConfig::read(&config).unwrap(), &out, &Device::Cpu, &StopSignal::default());
    assert!(format!("{:#}", error.unwrap_err()).contains("stage decoder"));
}

#[test]
fn a_plan_tells_the_stage_its_discriminator_and_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig::read(&tiny_run(folder.path(), 5)).unwrap();
    let out = folder.path().join("run");
    let plan = Plan::make(&config, &out, Some(&Device::Cpu)).unwrap();
    let of = |plan: &Plan| *plan.stages.iter().find(|stage| stage.stage == "decoder").unwrap();
    let stage = of(&plan);
    assert_eq!((stage.steps, stage.batch), (5, 3));
    assert!(stage.step.is_some_and(|step| step.seconds > 0.0) && stage.seconds < plan.seconds, "{plan}");
    // The tokenizer's discriminator counts where it has one.
    let mut adversarial = config.clone();
    adversarial.tokenizer.adversarial = config.decoder.as_ref().unwrap().adversarial.clone();
    let tokenizer = |config: &RunConfig| Plan::make(config, &out, None).unwrap().stages[0];
    let (with, without) = (tokenizer(&adversarial), tokenizer(&config));
    let discriminator = with.memory.weights - without.memory.weights;
    assert!(discriminator > 0);
    assert_eq!(with.memory.moments - without.memory.moments, 2 * discriminator);
    assert!(with.checkpoint_bytes > without.checkpoint_bytes);
    let mut alone = config;
    alone.decoder.as_mut().unwrap().adversarial = None;
    let alone = of(&Plan::make(&alone, &out, None).unwrap());
    assert!(stage.memory.moments > alone.memory.moments && alone.memory.moments > 0);
    assert!(alone.memory.weights > alone.memory.average, "the encoder stays");
}

#[test]
fn a_wrong_value_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_run(folder.path(), 5);
    let text = fs::read_to_string(&path).unwrap();
    for (from, to, key) in [
        ("masked = 0.4", "masked = 0.0", "decoder.masked"),
        ("grids = 2", "grids = 0", "decoder.grids"),
        ("sampling_steps = 2", "sampling_steps = 0", "decoder.sampling_steps"),
        ("start = 2, channels = 4, layers = 1", "start = 2", "decoder.adversarial.layers"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let message = RunConfig::read(&path).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
    }
}
