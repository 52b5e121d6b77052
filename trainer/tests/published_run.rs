//! The published variant through the whole trainer: frozen text encoder from a bundle, attention dropout, the plateau rule;
//! stopped and resumed, exported, served.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::model::Model;
use raygen_model::transformer::TransformerConfig;
use raygen_trainer::config::{ConfigError, RunConfig};
use raygen_trainer::import::{Options, Sources, import};
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use serde_json::Value;

use self::films::striped_film;

/// Eight films of 16 px with stripes, two of them for validation; a bundle of the golden text encoder; and a run over them.
fn run_folder(folder: &Path) -> PathBuf {
    let mut manifest = "path,split,patient,impression\n".to_owned();
    for film in 0..8u32 {
        let name = striped_film(folder, film);
        let split = if film < 6 { "train" } else { "val" };
        let impression = if film % 2 == 0 { "Pleural effusion." } else { "No acute process." };
        manifest.push_str(&format!("{name},{split},p{film},{impression}\n"));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden/end_to_end/cxr_bert");
    let sources = Sources { text_encoder: Some(bert), ..Sources::default() };
    import(&sources, Options::default(), &folder.join("bert"), &StopSignal::default()).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG).unwrap();
    path
}

/// As `configs/published.toml`, small; each validation loss counts as no better, so that the learning rate halves every epoch.
const CONFIG: &str = r#"
name = "tiny-published"
seed = 5
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 2
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2 }
cadence = { validate_every = 2, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4, image_channels = 3, attention_resolutions = [24] }
[encode]
views = 1
shift = 0
[transformer]
steps = 8
batch = 3
condition_dropout = 0.0
label_smoothing = 0.0
start_from_codebook = false
attention_dropout = 0.1
mask_count = "round"
cadence = { validate_every = 4, checkpoint_every = 3 }
[transformer.optimiser]
learning_rate = 1e-3
beta2 = 0.999
warm_up_steps = 0
clip_norm = inf
final_ratio = 1.0
plateau = { factor = 0.5, patience = 0, threshold = 0.9, masks = "fresh" }
[transformer.model]
variant = "published"
width = 16
layers = 2
heads = 2
feed_forward = 16
quirks = { text_norm = "token_axis", pad_mask = false, unused_attention_norms = true, activation = "geglu" }
[transformer.text]
width = 48
layers = 2
heads = 4
max_tokens = 8
start_from = "bert"
frozen = true
cleaning = "letters"
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
sampler = "published"
step_count = 3
temperature = 1.3
top_k_filter = 0.5
guidance_scale = 1.0
choice_temperature = 0.0
"#;

fn train(config: &Path, out: &Path, stop: &StopSignal) -> Outcome {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, stop).unwrap()
}

fn checksums(out: &Path) -> String {
    fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap()
}

/// Values of one kind of event of the transformer's log, in order.
fn logged(out: &Path, event: &str, value: &str) -> Vec<f64> {
    let text = fs::read_to_string(out.join("transformer/metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).map(|line| line[value].as_f64().unwrap()).collect()
}

#[test]
fn a_run_stopped_after_every_step_ends_bit_equal_to_an_undisturbed_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_folder(folder.path());
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
    assert!(runs > 8, "it was stopped only {runs} times");
    assert_eq!(checksums(&whole), checksums(&pieces));
    for (event, value) in [("train", "loss"), ("train", "learning_rate"), ("epoch", "validation_loss")] {
        assert_eq!(logged(&whole, event, value), logged(&pieces, event, value), "{event} {value}");
    }
    // Two steps an epoch; the first validation loss is the best, each one after it halves.
    assert_eq!(logged(&whole, "epoch", "learning_rate"), [1e-3, 5e-4, 2.5e-4, 1.25e-4]);
    assert_eq!(logged(&whole, "train", "learning_rate"), [1e-3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]);
    let losses = logged(&whole, "epoch", "validation_loss");
    assert!(losses.windows(2).all(|pair| pair[0] != pair[1]), "fresh masks in each epoch: {losses:?}");
}

#[test]
fn a_finished_run_serves_the_published_variant_with_its_frozen_text_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_folder(folder.path());
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default());
    let bundle = Bundle::open(out.join("bundle")).unwrap();
    let Some(TransformerConfig::Published(found)) = &bundle.config().components.transformer else {
        panic!("{:?}", bundle.config().components.transformer)
    };
    assert_eq!((found.width, found.text_width, found.max_text_tokens), (16, 48, 8));
    assert!(bundle.config().text.pad_to_maximum && !bundle.config().text.pass_over_unknown_words);

    let start = Bundle::open(folder.path().join("bert")).unwrap();
    let text = |bundle: &Bundle| bundle.tensors(Component::TextEncoder, &Device::Cpu, DType::F32).unwrap();
    let (before, after) = (text(&start), text(&bundle));
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    for (name, tensor) in &before {
        let bits = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(tensor), bits(&after[name]), "{name} of the frozen text encoder moved");
    }

    let model = Model::load(&bundle, &Device::Cpu, DType::F32).unwrap();
    let tokens = model.tokenize("Pleural effusion.").unwrap();
    assert_eq!(tokens.ids.len(), 8, "texts are padded to the maximum: the norm is over tokens, pads included");
    let mut states = [model.empty_state(0)];
    model.generate(&model.condition(&tokens).unwrap(), None, &model.info().sampling, &mut states).unwrap();
    let pictures = model.decode(&[&states[0].ids]).unwrap();
    assert_eq!((pictures[0].width, pictures[0].height), (16, 16));
}

#[test]
fn dropout_and_the_ceiling_are_part_of_what_a_run_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_folder(folder.path());
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default());
    let first = logged(&out, "train", "loss");
    for (from, to) in [
        ("attention_dropout = 0.1", "attention_dropout = 0.0"),
        ("mask_count = \"round\"", "mask_count = \"ceil\""),
        ("activation = \"geglu\"", "activation = \"gelu\""),
        ("text_norm = \"token_axis\"", "text_norm = \"feature_axis\""),
    ] {
        assert!(CONFIG.contains(from));
        fs::write(&config, CONFIG.replace(from, to)).unwrap();
        let read = RunConfig::read(&config).unwrap();
        let error = stages::run(&read, &out, &Device::Cpu, &StopSignal::default()).unwrap_err();
        assert!(format!("{error:#}").contains("other settings"), "{to}: {error:#}");
        let other = folder.path().join("other");
        train(&config, &other, &StopSignal::default());
        assert_ne!(first, logged(&other, "train", "loss"), "{to} changes nothing");
        fs::remove_dir_all(other).unwrap();
    }
}

#[test]
fn the_bundle_of_the_text_encoder_may_move_but_not_change() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_folder(folder.path());
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default());
    fs::rename(folder.path().join("bert"), folder.path().join("moved")).unwrap();
    fs::write(&config, CONFIG.replace("start_from = \"bert\"", "start_from = \"moved\"")).unwrap();
    assert_eq!(train(&config, &out, &StopSignal::default()), Outcome::Done);

    // Nor does it matter what else is in the bundle: its card, say.
    let sums = folder.path().join("moved/SHA256SUMS");
    let listed = fs::read_to_string(&sums).unwrap();
    let kept: Vec<&str> = listed.lines().filter(|line| !line.ends_with("README.md")).collect();
    assert!(kept.len() < listed.lines().count());
    fs::write(&sums, kept.join("\n")).unwrap();
    assert_eq!(train(&config, &out, &StopSignal::default()), Outcome::Done);

    fs::write(
        &config,
        CONFIG.replace("start_from = \"bert\"", "start_from = \"moved\"").replace("heads = 4", "heads = 6"),
    )
    .unwrap();
    let read = RunConfig::read(&config).unwrap();
    let error = stages::run(&read, &out, &Device::Cpu, &StopSignal::default()).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("heads 4") && message.contains("transformer.text.heads is 6"), "{message}");
    fs::remove_dir_all(folder.path().join("moved")).unwrap();
    let error = stages::run(&read, &out, &Device::Cpu, &StopSignal::default()).unwrap_err();
    assert!(format!("{error:#}").contains("transformer.text.start_from"), "{error:#}");
}

#[test]
fn a_text_encoder_that_is_not_frozen_learns_from_where_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let config = run_folder(folder.path());
    fs::write(&config, CONFIG.replace("frozen = true", "frozen = false")).unwrap();
    let out = folder.path().join("run");
    train(&config, &out, &StopSignal::default());
    let text = |bundle: &Path| {
        let bundle = Bundle::open(bundle).unwrap();
        bundle.tensors(Component::TextEncoder, &Device::Cpu, DType::F32).unwrap()
    };
    let (before, after) = (text(&folder.path().join("bert")), text(&out.join("bundle")));
    let name = "bert.encoder.layer.0.intermediate.dense.weight";
    let moved = (&before[name] - &after[name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    // Eight steps of Adam at 1e-3 and less move a weight by less than 1e-2.
    assert!(moved > 1e-5 && moved < 1e-2, "{moved}");
}

#[test]
fn keys_that_make_no_sense_together_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    let message = |from: &str, to: &str| {
        assert!(CONFIG.contains(from), "{from}");
        fs::write(&path, CONFIG.replacen(from, to, 1)).unwrap();
        match RunConfig::read(&path) {
            Err(error @ (ConfigError::Parse { .. } | ConfigError::Value { .. })) => error.to_string(),
            other => panic!("{to}: {other:?}"),
        }
    };
    for (from, to, key) in [
        ("attention_dropout = 0.1", "attention_dropout = 1.0", "transformer.attention_dropout"),
        ("mask_count = \"round\"", "mask_count = \"floor\"", "mask_count"),
        ("variant = \"published\"", "variant = \"raygen\"", "transformer.model.quirks"),
        ("variant = \"published\"", "variant = \"published\"\ntoken_merge = 2", "transformer.model.token_merge"),
        ("variant = \"published\"", "variant = \"published\"\nlocal_blocks = 1", "transformer.model.local_blocks"),
        ("start_from = \"bert\"", "", "transformer.text.frozen"),
        ("clip_norm = inf", "clip_norm = 0.0", "transformer.optimiser.clip_norm"),
        ("factor = 0.5", "factor = 1.0", "transformer.optimiser.plateau.factor"),
        ("factor = 0.5", "mode = \"max\", factor = 0.5", "mode"),
        ("final_ratio = 1.0", "final_ratio = 0.1", "transformer.optimiser.final_ratio"),
        ("warm_up_steps = 0", "warm_up_steps = 5", "transformer.optimiser.warm_up_steps"),
        ("warm_up_steps = 2", "plateau = { factor = 0.5, patience = 4 }", "tokenizer.optimiser.plateau"),
        ("image_channels = 3", "image_channels = 2", "tokenizer.model.image_channels"),
        ("guidance_scale = 1.0", "guidance_scale = 2.0", "export.sampling.guidance_scale"),
    ] {
        let found = message(from, to);
        assert!(found.contains(key), "{to}: {found}");
    }
}
