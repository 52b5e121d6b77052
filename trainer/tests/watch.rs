//! What a run shows while it goes on and what it will take before it begins: events, curves, progress, status, plan.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::Device;
use prost::Message;
use raygen_trainer::config::{ConfigError, OnFailure, RunConfig};
use raygen_trainer::plan::Plan;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};
use raygen_trainer::status;
use serde_json::Value;

use self::films::striped_film;

/// Eight films of 16 px with stripes of different widths, two of them for validation, and a run over them.
fn tiny_run(folder: &Path) -> PathBuf {
    let mut manifest = "path,split,patient,view,impression\n".to_owned();
    for film in 0..8u32 {
        let name = striped_film(folder, film);
        let (split, view) = (if film < 6 { "train" } else { "val" }, if film == 0 { "lateral" } else { "PA" });
        manifest.push_str(&format!("{name},{split},p{film},{view},Stripes.\n"));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG).unwrap();
    path
}

const CONFIG: &str = r#"
name = "tiny"
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 5
batch = 2
optimiser = { learning_rate = 1e-3, warm_up_steps = 2 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 3
batch = 2
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 2, checkpoint_every = 2 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    value: f32,
}

/// Step, tag and value of every scalar in the event files of a stage.
fn scalars(stage: &Path) -> Vec<(i64, String, f32)> {
    let mut found = Vec::new();
    for file in event_files(stage) {
        let bytes = fs::read(file).unwrap();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            let event = Event::decode(&rest[12..12 + length]).unwrap();
            found.extend(event.summary.into_iter().flat_map(|s| s.value).map(|v| (event.step, v.tag, v.value)));
            rest = &rest[16 + length..];
        }
    }
    found
}

fn event_files(stage: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(stage).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths.filter(|path| path.to_str().unwrap().contains("events.out.tfevents.")).collect();
    files.sort();
    files
}

fn train(config: &Path, out: &Path, stop: &StopSignal) -> Outcome {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, stop).unwrap()
}

#[test]
fn every_number_of_the_metrics_stands_in_the_events_too_and_the_curves_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let out = folder.path().join("run");
    assert_eq!(train(&config, &out, &StopSignal::default()), Outcome::Done);
    for (stage, tag) in [("tokenizer", "validate/psnr"), ("transformer", "validate/nll")] {
        let stage = out.join(stage);
        let mut expected = Vec::new();
        for line in fs::read_to_string(stage.join("metrics.jsonl")).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (step, event) = (line["step"].as_i64().unwrap(), line["event"].as_str().unwrap().to_owned());
            for (name, value) in line.as_object().unwrap().iter().filter(|(_, value)| value.is_f64()) {
                expected.push((step, format!("{event}/{name}"), value.as_f64().unwrap() as f32));
            }
        }
        let mut found = scalars(&stage);
        let by_place = |a: &(i64, String, f32), b: &(i64, String, f32)| (a.0, &a.1).cmp(&(b.0, &b.1));
        expected.sort_by(by_place);
        found.sort_by(by_place);
        assert_eq!(found, expected);
        assert!(found.iter().any(|(_, name, _)| name == tag) && found.iter().any(|(_, name, _)| name == "train/loss"));
        let curves = fs::read(stage.join("curves.png")).unwrap();
        let info = png::Decoder::new(std::io::Cursor::new(curves)).read_info().unwrap().info().size();
        assert!(info.0 > 1000 && info.1 > 800, "{info:?}");
    }
    let status = status::read(&out).unwrap();
    assert!(status.stages.iter().all(|stage| stage.up_to_date) && status.tokens && status.bundle);
    assert!(status.to_string().contains("tokenizer    5/5 steps, up to date"), "{status}");
}

#[test]
fn each_start_begins_an_events_file_and_a_stopped_run_says_where_it_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let out = folder.path().join("run");
    for _ in 0..2 {
        let stop = StopSignal::default();
        // Raised before it begins: one step is done and saved, then it stops.
        stop.raise();
        assert_eq!(train(&config, &out, &stop), Outcome::Stopped);
    }
    assert_eq!(event_files(&out.join("tokenizer")).len(), 2);
    assert!(out.join("tokenizer/curves.png").exists());
    let status = status::read(&out).unwrap();
    let stage = &status.stages[0];
    assert_eq!((stage.steps_done, stage.up_to_date, stage.resumes_at), (2, false, Some(2)));
    assert_eq!(stage.pace.as_ref().map(|pace| pace.steps), Some(5));
    let losses = |events: &[(i64, String, f32)]| events.iter().filter(|(_, tag, _)| tag == "train/loss").count();
    assert_eq!(losses(&scalars(&out.join("tokenizer"))), 2);
}

#[test]
fn the_program_says_of_each_stage_whether_it_begins_resumes_or_is_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let out = folder.path().join("run");
    let said = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_raygen-trainer"));
        let output = program.arg("run").arg(&config).arg("--out").arg(&out).args(["--device", "cpu"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        text.lines().filter(|line| line.starts_with("stage ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let stop = StopSignal::default();
    stop.raise();
    assert_eq!(train(&config, &out, &stop), Outcome::Stopped);
    let begun = ["stage tokenizer: resumes (1/5)", "stage encode: begins (7 films, 2 views)"];
    assert_eq!(said(), [&begun[..], &["stage transformer: begins (0/3)", "stage export: begins"]].concat());
    let done = ["stage tokenizer: up to date (5/5)", "stage encode: up to date (7 films, 2 views)"];
    assert_eq!(said(), [&done[..], &["stage transformer: up to date (3/3)", "stage export: begins"]].concat());
}

#[test]
fn a_plan_counts_and_times_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_run(folder.path());
    let config = RunConfig::read(&path).unwrap();
    let out = folder.path().join("run");
    let plan = Plan::make(&config, &out, Some(&Device::Cpu)).unwrap();
    assert!(!out.exists() && !plan.out_holds_a_run);
    assert_eq!((plan.films.train, plan.films.val, plan.films.lateral), (5, 2, 1));
    let side = u64::try_from(config.data.image_size).unwrap();
    assert_eq!(plan.films.bytes, 7 * side * side);
    let mut crowded = plan.clone();
    crowded.available_bytes = Some(crowded.needed_bytes() - 1);
    assert!(crowded.to_string().contains("TOO MUCH") && plan.needed_bytes() > plan.films.bytes);
    assert_eq!(plan.films.memory_bytes, plan.films.bytes);
    let mut large = config.clone();
    large.data.memory_mib = 0;
    let large = Plan::make(&large, &out, None).unwrap();
    assert_eq!((large.films.bytes, large.films.memory_bytes), (plan.films.bytes, 4 * 2 * side * side * 4));
    assert!(large.to_string().contains("those of the coming steps"), "{large}");
    crowded.available_bytes = Some(crowded.needed_bytes());
    assert!(!crowded.to_string().contains("TOO MUCH"));
    let encode = plan.encode.unwrap();
    assert_eq!((encode.grids, encode.tokens, encode.bytes), (14, 64, 14 * 64 * 2));
    let [tokenizer, transformer] = &plan.stages[..] else { panic!("{plan:?}") };
    assert_eq!((tokenizer.steps, tokenizer.epochs), (5, 2.0));
    let bytes = 4 * (plan.networks[1].parameters + plan.networks[2].parameters);
    assert_eq!((transformer.memory.weights, transformer.memory.moments), (bytes, 2 * bytes));
    assert!(transformer.memory.activations > 0 && tokenizer.memory.activations > 0);
    assert!(plan.seconds.is_some_and(|seconds| seconds > 0.0), "{plan:?}");
    assert!(tokenizer.step.is_some_and(|step| step.films == 2 && step.steps > 0));
    let text = plan.to_string();
    for part in ["estimates", "a new run", "5 to learn from, 2 to validate on, 1 lateral", "stage encode: 14 grids"] {
        assert!(text.contains(part), "{text}");
    }
    // What was planned is what the run leaves.
    train(&path, &out, &StopSignal::default());
    let checkpoint = fs::read(out.join("transformer/step-00000003.safetensors")).unwrap();
    let header = u64::from_le_bytes(checkpoint[..8].try_into().unwrap());
    assert_eq!(checkpoint.len() as u64 - 8 - header, transformer.checkpoint_bytes / 2);
    assert!(Plan::make(&config, &out, None).unwrap().out_holds_a_run);
    // A bundle to start from is looked at too, without its tensors.
    let from = |bundle: &str, codes: usize| {
        let mut config = config.clone();
        config.tokenizer.start_from = Some(folder.path().join(bundle));
        config.tokenizer.model.codebook_size = codes;
        Plan::make(&config, &out, None).map_err(|error| format!("{error:#}"))
    };
    let codes = config.tokenizer.model.codebook_size;
    assert!(from("run/bundle", codes).is_ok());
    assert!(from("run/bundle", 2 * codes).unwrap_err().contains("another shape than tokenizer.model"));
    assert!(from("elsewhere", codes).unwrap_err().contains("elsewhere"));
}

#[test]
fn the_program_plans_as_text_and_as_json_and_refuses_what_a_run_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path());
    let plan = |arguments: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_raygen-trainer"));
        program.arg("plan").arg(&config).arg("--no-measure").args(arguments).output().unwrap()
    };
    let json: Value = serde_json::from_slice(&plan(&["--json", "--out", "elsewhere"]).stdout).unwrap();
    assert_eq!(
        (&json["out"], &json["seconds"], &json["films"]["train"]),
        (&"elsewhere".into(), &Value::Null, &5.into())
    );
    let text = String::from_utf8(plan(&[]).stdout).unwrap();
    assert!(text.contains("runs/tiny") && text.contains("no time is told: --no-measure"), "{text}");
    fs::write(&config, CONFIG.replacen("batch = 2", "batch = 0", 1)).unwrap();
    let refused = plan(&[]);
    assert!(!refused.status.success() && String::from_utf8(refused.stderr).unwrap().contains("tokenizer.batch"));
    fs::write(&config, CONFIG).unwrap();
    fs::remove_file(folder.path().join("film-3.png")).unwrap();
    assert!(String::from_utf8(plan(&[]).stderr).unwrap().contains("film-3.png"));
}

#[test]
fn keys_of_safety_are_read_checked_and_left_out_of_what_a_run_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = tiny_run(folder.path());
    let plain = RunConfig::read(&path).unwrap();
    let written = toml::to_string(&plain).unwrap();
    for key in ["on_failure", "explode_factor", "keep", "keep_best"] {
        assert!(!written.contains(key), "{key} would change the fingerprints of older runs");
    }
    let with = |keys: &str| {
        fs::write(&path, CONFIG.replace("steps = 3\n", &format!("steps = 3\n{keys}\n"))).unwrap();
        RunConfig::read(&path)
    };
    let safe = with("on_failure = \"roll_back\"\nexplode_factor = 8.0\nkeep = 5\nkeep_best = true").unwrap();
    let safety = safe.transformer.safety();
    assert_eq!((safety.on_failure, safety.explode_factor), (OnFailure::RollBack, Some(8.0)));
    assert_eq!((safety.keep, safety.keep_best), (5, true));
    assert_eq!(safe.transformer.identity(), plain.transformer.identity());
    for (keys, named) in [
        ("on_failure = \"ignore\"", "on_failure"),
        ("explode_factor = 1.0", "transformer.explode_factor"),
        ("explode_factor = inf", "transformer.explode_factor"),
        ("keep = 0", "transformer.keep"),
    ] {
        match with(keys) {
            Err(error @ (ConfigError::Parse { .. } | ConfigError::Value { .. })) => {
                assert!(error.to_string().contains(named), "{error}");
            }
            other => panic!("{keys}: {other:?}"),
        }
    }
}
