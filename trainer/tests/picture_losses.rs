//! The tokenizer with perceptual and adversarial losses: delayed, resumed exactly, and refused by name where they cannot be.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use raygen_trainer::config::RunConfig;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use serde_json::Value;

use self::films::striped_film;

/// Six films of 16 px, two of them for validation, and a run whose tokenizer has `losses`.
fn tiny_run(folder: &Path, losses: &str) -> PathBuf {
    let mut manifest = "path,split,impression\n".to_owned();
    for film in 0..6 {
        let split = if film < 4 { "train" } else { "val" };
        manifest.push_str(&format!("{},{split},Stripes.\n", striped_film(folder, film)));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden/lpips/taming.ckpt");
    fs::copy(golden, folder.join("lpips.ckpt")).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG.replacen("LOSSES", losses, 1)).unwrap();
    path
}

const BOTH: &str = r#"
perceptual = { features = "lpips.ckpt", weight = 0.5 }
adversarial = { start = 3, channels = 4, layers = 1 }
"#;

const CONFIG: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 6
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 6, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
LOSSES
[encode]
views = 1
shift = 0
[transformer]
steps = 1
batch = 3
optimiser = { learning_rate = 1e-3 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

fn train(config: &Path, out: &Path, stop: &StopSignal) -> anyhow::Result<Outcome> {
    stages::run(&RunConfig::read(config)?, out, &Device::Cpu, stop)
}

fn metrics(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("tokenizer/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // How long a step waited for its films is of the machine, not of the run.
    let without_wait = |mut line: Value| {
        line.as_object_mut().unwrap().remove("data_wait");
        line
    };
    lines.filter(|line| line["event"] == "train").map(without_wait).collect()
}

#[test]
fn they_begin_when_they_should_and_resume_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), BOTH);
    let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    assert_eq!(train(&config, &whole, &StopSignal::default()).unwrap(), Outcome::Done);
    let lines = metrics(&whole);
    assert!(lines.iter().all(|line| line["perceptual"].as_f64().is_some_and(|loss| loss > 0.0)));
    let began: Vec<bool> = lines.iter().map(|line| line["discriminator"].is_f64()).collect();
    assert_eq!(began, [false, false, false, true, true, true]);
    assert!(lines[3]["adversarial_weight"].as_f64().is_some_and(|weight| weight > 0.0));
    loop {
        let stop = StopSignal::default();
        stop.raise();
        if train(&config, &pieces, &stop).unwrap() == Outcome::Done {
            break;
        }
    }
    assert_eq!(lines, metrics(&pieces));
    let sums = |out: &Path| fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap();
    assert_eq!(sums(&whole), sums(&pieces));
}

#[test]
fn another_network_to_see_by_is_another_run_and_a_moved_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), BOTH);
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default()).unwrap();
    fs::rename(folder.path().join("lpips.ckpt"), folder.path().join("moved.ckpt")).unwrap();
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("lpips.ckpt", "moved.ckpt")).unwrap();
    assert_eq!(train(&config, &out, &StopSignal::default()).unwrap(), Outcome::Done);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden/lpips/vgg16.pth");
    fs::copy(golden, folder.path().join("moved.ckpt")).unwrap();
    assert!(train(&config, &out, &StopSignal::default()).is_err());
}

#[test]
fn a_file_or_a_value_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = |losses: &str| {
        let config = tiny_run(folder.path(), losses);
        let error = train(&config, &folder.path().join("run"), &StopSignal::default()).unwrap_err();
        format!("{error:#}")
    };
    let missing = message(r#"perceptual = { features = "vgg.pth" }"#);
    assert!(missing.contains("tokenizer.perceptual") && missing.contains("vgg.pth"), "{missing}");
    let other = message(r#"perceptual = { features = "manifest.csv" }"#);
    assert!(other.contains("manifest.csv"), "{other}");
    let small = message("adversarial = { start = 0 }");
    assert!(small.contains("tokenizer.adversarial.layers") && small.contains("16"), "{small}");
    let rate = message("adversarial = { start = 0, layers = 1, rate = 0.0 }");
    assert!(rate.contains("tokenizer.adversarial.rate"), "{rate}");
}
