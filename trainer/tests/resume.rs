//! A run that is stopped after every step, or that lost its newest checkpoint, ends with the same bundle as one that was never disturbed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use raygen_trainer::config::{ConfigError, RunConfig};
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};

use self::films::striped_film;

/// Eight films of 16 px with stripes of different widths, two of them for validation, and a run over them.
fn tiny_run(folder: &Path) -> PathBuf {
    let mut manifest = "path,split,patient,impression,labels\n".to_owned();
    for film in 0..8u32 {
        let name = striped_film(folder, film);
        let split = if film < 6 { "train" } else { "val" };
        let (impression, label) = if film % 2 == 0 { ("Stripes.", "Edema") } else { ("No finding.", "No Finding") };
        manifest.push_str(&format!("{name},{split},p{film},{impression},{label}\n"));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG).unwrap();
    path
}

const CONFIG: &str = r#"
name = "tiny"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 4
batch = 3
shift = 1
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 5
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, weight_decay = 0.01, ema_decay = 0.9 }
cadence = { validate_every = 4, checkpoint_every = 2 }
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

fn train(config: &Path, out: &Path, stop: &StopSignal) -> Outcome {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, stop).unwrap()
}

fn checksums(out: &Path) -> String {
    fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap()
}

#[test]
fn a_run_stopped_after_every_step_ends_bit_equal_to_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let (whole, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    assert_eq!(train(&config, &whole, &StopSignal::default()), Outcome::Done);
    let mut runs = 1;
    loop {
        let stop = StopSignal::default();
        // Raised before it begins: one step is done and saved, then it stops.
        stop.raise();
        if train(&config, &pieces, &stop) == Outcome::Done {
            break;
        }
        runs += 1;
        assert!(runs < 20, "the run never ends");
    }
    assert_eq!(runs, 3 + 4 + 1, "one step each time: the last step of a stage leads into the next stage");
    assert_eq!(checksums(&whole), checksums(&pieces));
}

#[test]
fn a_run_whose_newest_checkpoint_is_torn_goes_on_from_the_one_before_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let (whole, torn) = (folder.path().join("whole"), folder.path().join("torn"));
    train(&config, &whole, &StopSignal::default());
    train(&config, &torn, &StopSignal::default());
    let newest = torn.join("transformer/step-00000005.safetensors");
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_dir_all(torn.join("bundle")).unwrap();
    assert_eq!(train(&config, &torn, &StopSignal::default()), Outcome::Done);
    assert_eq!(checksums(&whole), checksums(&torn));
}

#[test]
fn a_finished_run_serves_from_its_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default());
    let bundle = raygen_model::bundle::Bundle::open(out.join("bundle")).unwrap();
    let model = raygen_model::model::Model::load(&bundle, &Device::Cpu, candle_core::DType::F32).unwrap();
    let text = model.tokenize("Stripes and zebras").unwrap();
    assert_eq!(text.unsupported_terms, ["and", "zebras"]);
    let mut states = [model.empty_state(0)];
    model.generate(&model.condition(&text).unwrap(), None, &model.info().sampling, &mut states).unwrap();
    let pictures = model.decode(&[&states[0].ids]).unwrap();
    assert_eq!((pictures[0].width, pictures[0].height), (16, 16));
}

#[test]
fn another_trainer_in_the_same_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig::read(&tiny_run(folder.path())).unwrap();
    let out = folder.path().join("run");
    let held = raygen_trainer::run::RunDirectory::open(&out).unwrap();
    let error = stages::run(&config, &out, &Device::Cpu, &StopSignal::default()).unwrap_err();
    assert!(error.to_string().contains("another trainer"), "{error:#}");
    drop(held);
}

#[test]
fn a_wrong_configuration_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_run(folder.path());
    let message = |from: &str, to: &str| {
        fs::write(&path, CONFIG.replacen(from, to, 1)).unwrap();
        match RunConfig::read(&path) {
            Err(error @ (ConfigError::Parse { .. } | ConfigError::Value { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert!(message("batch = 3", "batch = 0").contains("tokenizer.batch"));
    assert!(message("batch = 3", "batches = 3").contains("batches"));
    assert!(message("image_size = 16", "image_size = 17").contains("data.image_size"));
    assert!(message("learning_rate = 1e-3", "learning_rate = 0.0").contains("tokenizer.optimiser.learning_rate"));
}

#[test]
fn a_film_that_is_no_picture_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig::read(&tiny_run(folder.path())).unwrap();
    fs::write(folder.path().join("film-3.png"), b"not a picture").unwrap();
    let error = stages::run(&config, &folder.path().join("run"), &Device::Cpu, &StopSignal::default()).unwrap_err();
    assert!(error.to_string().contains("film-3.png"), "{error:#}");
    fs::remove_file(folder.path().join("film-3.png")).unwrap();
    let error = stages::run(&config, &folder.path().join("run"), &Device::Cpu, &StopSignal::default()).unwrap_err();
    assert!(error.to_string().contains("film-3.png"), "{error:#}");
}
