//! A stage whose loss fails goes back to a checkpoint, or stops, as its configuration says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../tests/films/mod.rs"]
mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde_json::Value;

use super::{Fault, Outcome, run_with};
use crate::config::RunConfig;
use crate::run::StopSignal;

use self::films::striped_film;

/// As [`striped_film`], for other tests of stages.
pub(super) fn film(folder: &Path, film: u32) -> String {
    striped_film(folder, film)
}

/// Six films of 16 px, two of them for validation, and a run over them.
fn tiny_run(folder: &Path, tokenizer: &str, transformer: &str) -> PathBuf {
    let mut manifest = "path,split,patient,impression\n".to_owned();
    for film in 0..6u32 {
        let name = striped_film(folder, film);
        manifest.push_str(&format!("{name},{},p{film},Stripes.\n", if film < 4 { "train" } else { "val" }));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG.replace("# tokenizer", tokenizer).replace("# transformer", transformer)).unwrap();
    path
}

const CONFIG: &str = r#"
name = "tiny"
[data]
manifest = "manifest.csv"
image_size = 16
[tokenizer]
steps = 6
batch = 2
optimiser = { learning_rate = 1e-3, warm_up_steps = 0, final_ratio = 1.0, ema_decay = 0.9 }
cadence = { validate_every = 2, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
# tokenizer
[encode]
views = 1
shift = 0
[transformer]
steps = 6
batch = 2
optimiser = { learning_rate = 1e-3, warm_up_steps = 0, final_ratio = 1.0, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { width = 16, layers = 1, heads = 2, feed_forward = 16 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
# transformer
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

const ROLL_BACK: &str = "on_failure = \"roll_back\"";
const NO_FAULT: &Fault = &|_, _, _| None;

fn train(config: &Path, out: &Path, fault: &Fault, stop: &StopSignal) -> anyhow::Result<Outcome> {
    run_with(&RunConfig::read(config).unwrap(), out, &[Device::Cpu], stop, Some(fault))
}

fn whole(config: &Path, out: &Path, fault: &Fault) -> anyhow::Result<Outcome> {
    train(config, out, fault, &StopSignal::default())
}

fn checksums(out: &Path) -> String {
    fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap()
}

fn lines(out: &Path, stage: &str, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(out.join(stage).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| line["event"] == event).collect()
}

fn checkpoints(out: &Path, stage: &str) -> Vec<String> {
    let entries = fs::read_dir(out.join(stage)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    names
}

/// Each stage fails once, after step 3: at its fourth.
fn once(_: &str, step: u64, roll_backs: usize) -> Option<f64> {
    (step == 3 && roll_backs == 0).then_some(f64::NAN)
}

#[test]
fn a_loss_that_is_no_number_stops_the_stage_and_names_the_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), "", "");
    let out = folder.path().join("run");
    let message = format!("{:#}", whole(&config, &out, &once).unwrap_err());
    for part in ["stage tokenizer", "NaN", "step 3", "step-00000002.safetensors", "tokenizer.on_failure"] {
        assert!(message.contains(part), "{message}");
    }
    // Asked for later, the same run goes back and on.
    let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
    assert_eq!(whole(&config, &out, &once).unwrap(), Outcome::Done);
}

#[test]
fn a_stage_goes_back_to_its_checkpoint_and_on_with_half_the_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
    let out = folder.path().join("run");
    assert_eq!(whole(&config, &out, &once).unwrap(), Outcome::Done);
    for stage in ["tokenizer", "transformer"] {
        let rates: Vec<f64> =
            lines(&out, stage, "train").iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
        assert_eq!(rates, [1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4], "{stage}");
        let events = lines(&out, stage, "roll_back");
        assert_eq!((events.len(), &events[0]["step"], &events[0]["failed_step"]), (1, &2.into(), &3.0.into()));
        assert!(events[0]["loss"].is_null() && events[0]["learning_rate_factor"] == 0.5);
        assert_eq!(checkpoints(&out, stage), ["step-00000004_1.safetensors", "step-00000006_1.safetensors"]);
        assert!(out.join(stage).join("curves.png").exists());
    }
    let undisturbed = folder.path().join("undisturbed");
    whole(&config, &undisturbed, NO_FAULT).unwrap();
    assert_ne!(checksums(&out), checksums(&undisturbed));
}

#[test]
fn a_run_that_went_back_resumes_exactly() {
    let folder = tempfile::tempdir().unwrap();
    // With explode_factor, so that the losses are remembered across starts too.
    let keys = "on_failure = \"roll_back\"\nexplode_factor = 50.0";
    let config = tiny_run(folder.path(), keys, keys);
    let (undivided, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    whole(&config, &undivided, &once).unwrap();
    let mut runs = 1;
    loop {
        let stop = StopSignal::default();
        stop.raise();
        if train(&config, &pieces, &once, &stop).unwrap() == Outcome::Done {
            break;
        }
        runs += 1;
        assert!(runs < 30, "the run never ends");
    }
    assert!(runs > 8, "it was stopped only {runs} times");
    assert_eq!(checksums(&undivided), checksums(&pieces));
}

#[test]
fn safety_that_is_not_needed_changes_no_bit_and_no_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let plain = tiny_run(folder.path(), "", "");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    whole(&plain, &first, NO_FAULT).unwrap();
    let weights = checksums(&first);
    let of =
        |sums: &str| sums.lines().filter(|line| line.ends_with(".safetensors")).map(str::to_owned).collect::<Vec<_>>();
    let keys = "on_failure = \"roll_back\"\nexplode_factor = 50.0\nkeep = 3\nkeep_best = true";
    let safe = tiny_run(folder.path(), keys, keys);
    whole(&safe, &second, NO_FAULT).unwrap();
    assert_eq!(of(&weights).len(), 3);
    assert_eq!(of(&weights), of(&checksums(&second)));
    let kept = checkpoints(&second, "tokenizer");
    assert_eq!((kept.len(), kept[0].starts_with("best.step-")), (4, true), "{kept:?}");
    assert_eq!(checkpoints(&first, "tokenizer").len(), 2);
    // The settings may change between two starts: it is the same run.
    assert_eq!(whole(&safe, &first, NO_FAULT).unwrap(), Outcome::Done);
}

#[test]
fn a_stage_that_keeps_failing_goes_further_back_and_stops_after_three_times() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
    let out = folder.path().join("run");
    let always: &Fault = &|_, step, _| (step == 4).then_some(f64::INFINITY);
    let message = format!("{:#}", whole(&config, &out, always).unwrap_err());
    for part in ["stage tokenizer", "inf", "step 4", "step-0000000", "halved 3 times"] {
        assert!(message.contains(part), "{message}");
    }
    let back: Vec<f64> = lines(&out, "tokenizer", "roll_back")
        .iter()
        .map(|line| line["learning_rate_factor"].as_f64().unwrap())
        .collect();
    assert_eq!(back, [0.5, 0.25, 0.125]);
    // Once more: it stops at once, and does not begin counting again.
    assert!(whole(&config, &out, always).is_err());
    assert_eq!(lines(&out, "tokenizer", "roll_back").len(), 3);
}

#[test]
fn a_learning_rate_that_really_explodes_is_caught_before_its_numbers_reach_a_bundle() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), "", ROLL_BACK);
    let text = fs::read_to_string(&config).unwrap();
    let (before, after) = text.split_at(text.find("[transformer]").unwrap());
    fs::write(&config, format!("{before}{}", after.replacen("learning_rate = 1e-3", "learning_rate = 1e30", 1)))
        .unwrap();
    let out = folder.path().join("run");
    let message = format!("{:#}", whole(&config, &out, NO_FAULT).unwrap_err());
    assert!(message.contains("stage transformer") && message.contains("halved 3 times"), "{message}");
    assert!(!out.join("bundle").exists());
}

#[test]
fn a_loss_above_the_factor_is_an_explosion() {
    let folder = tempfile::tempdir().unwrap();
    let keys = "on_failure = \"roll_back\"\nexplode_factor = 4.0";
    let config = tiny_run(folder.path(), keys, "");
    let text = fs::read_to_string(&config).unwrap().replacen("steps = 6", "steps = 26", 1);
    fs::write(&config, text).unwrap();
    let out = folder.path().join("run");
    let fault: &Fault = &|stage, step, times| (stage == "tokenizer" && step == 23 && times == 0).then_some(1e4);
    assert_eq!(whole(&config, &out, fault).unwrap(), Outcome::Done);
    let events = lines(&out, "tokenizer", "roll_back");
    assert_eq!((events.len(), &events[0]["step"], &events[0]["loss"]), (1, &22.into(), &1e4.into()));
}

#[test]
fn a_validation_that_is_no_number_goes_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let fault: &Fault = &|stage, step, times| {
        match stage {
            "tokenizer validation" => step == 3 && times == 0,
            "transformer validation" => step == 5 && times == 0,
            _ => false,
        }
        .then_some(f64::NAN)
    };
    let stopped = folder.path().join("stopped");
    let message = format!("{:#}", whole(&tiny_run(folder.path(), "", ""), &stopped, fault).unwrap_err());
    assert!(message.contains("validation after step 3") && message.contains("step-00000002.safetensors"), "{message}");
    let out = folder.path().join("run");
    let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
    assert_eq!(whole(&config, &out, fault).unwrap(), Outcome::Done);
    for (stage, back) in [("tokenizer", 2), ("transformer", 4)] {
        let events = lines(&out, stage, "roll_back");
        assert_eq!((events.len(), &events[0]["step"]), (1, &back.into()), "{stage}");
    }
}

#[test]
fn an_update_that_explodes_just_before_a_validation_is_caught_there() {
    for section in ["[tokenizer]", "[transformer]"] {
        let folder = tempfile::tempdir().unwrap();
        let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
        let text = fs::read_to_string(&config).unwrap();
        let (before, after) = text.split_at(text.find(section).unwrap());
        let after = after.replacen("learning_rate = 1e-3", "learning_rate = 1e30", 1);
        let after = after.replacen("validate_every = 2", "validate_every = 1", 1);
        fs::write(&config, format!("{before}{}", after.replacen("validate_every = 3", "validate_every = 1", 1)))
            .unwrap();
        let message = format!("{:#}", whole(&config, &folder.path().join("run"), NO_FAULT).unwrap_err());
        for part in ["validation after step", "halved 3 times", "the last checkpoint is"] {
            assert!(message.contains(part), "{section}: {message}");
        }
    }
}

/// Whether this is the thread of a rank.
fn on(rank: &str) -> bool {
    std::thread::current().name() == Some(rank)
}

#[test]
fn two_ranks_go_back_together_and_one_that_breaks_down_ends_both_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), ROLL_BACK, ROLL_BACK);
    let run = |out: &Path, fault: &Fault, stop: &StopSignal| {
        run_with(&RunConfig::read(&config).unwrap(), out, &[Device::Cpu, Device::Cpu], stop, Some(fault))
    };
    let (undivided, pieces) = (folder.path().join("whole"), folder.path().join("pieces"));
    assert_eq!(run(&undivided, &once, &StopSignal::default()).unwrap(), Outcome::Done);
    for stage in ["tokenizer", "transformer"] {
        assert_eq!(lines(&undivided, stage, "roll_back").len(), 1);
        assert_eq!(lines(&undivided, stage, "train").len(), 6);
    }
    // A rank that panics, and one that alone sees no number: whatever it was doing, the other does not wait for it.
    let panics: &Fault = &|stage, step, times| {
        assert!(!(on("rank 1") && stage == "transformer" && step == 4), "a fault of a test");
        once(stage, step, times)
    };
    let message = format!("{:#}", run(&pieces, panics, &StopSignal::default()).unwrap_err());
    assert!(message.starts_with("rank 1 of 2: it panicked: a fault of a test"), "{message}");
    let differs: &Fault = &|stage, step, times| match on("rank 1") && stage == "transformer" && step == 5 {
        true => Some(f64::NAN),
        false => once(stage, step, times),
    };
    let message = format!("{:#}", run(&pieces, differs, &StopSignal::default()).unwrap_err());
    assert!(message.contains("of 2: stage transformer") && message.contains("out of step"), "{message}");
    // Both were stopped in the middle, and nothing of what was saved is lost.
    assert_eq!(run(&pieces, &once, &StopSignal::default()).unwrap(), Outcome::Done);
    assert_eq!(checksums(&undivided), checksums(&pieces));
}

/// A run of a classifier alone over six films, two of them for validation.
fn classifier_run(folder: &Path, keys: &str) -> PathBuf {
    let mut manifest = "path,split,labels\n".to_owned();
    for film in 0..6u32 {
        let name = striped_film(folder, film);
        let (split, label) =
            (if film < 4 { "train" } else { "val" }, if film % 2 == 0 { "Edema" } else { "No Finding" });
        manifest.push_str(&format!("{name},{split},{label}\n"));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    let path = folder.join("run.toml");
    fs::write(&path, CLASSIFIER.replace("# keys", keys)).unwrap();
    path
}

const CLASSIFIER: &str = r#"
name = "tiny"
data = { manifest = "manifest.csv", image_size = 16 }
[classifier]
steps = 6
batch = 2
classes = ["Edema"]
optimiser = { learning_rate = 1e-3, warm_up_steps = 0, final_ratio = 1.0, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { growth_rate = 4, block_layers = [1, 1], initial_features = 4, bottleneck = 1, in_channels = 1, scale = "unit" }
# keys
[export]
dtype = "f32"
"#;

#[test]
fn a_classifier_goes_back_after_a_failed_step_and_after_a_failed_validation() {
    let folder = tempfile::tempdir().unwrap();
    let stopped = folder.path().join("stopped");
    let config = classifier_run(folder.path(), "");
    let message = format!("{:#}", whole(&config, &stopped, &once).unwrap_err());
    for part in ["stage classifier", "NaN", "step-00000002.safetensors", "classifier.on_failure"] {
        assert!(message.contains(part), "{message}");
    }
    let config = classifier_run(folder.path(), ROLL_BACK);
    let validation = |stage: &str, step: u64, times: usize| {
        (stage == "classifier validation" && step == 2 && times == 0).then_some(f64::NAN)
    };
    let faults: [(&str, &Fault, f64); 2] = [("step", &once, 3.0), ("validation", &validation, 2.0)];
    for (name, fault, failed) in faults {
        let out = folder.path().join(name);
        assert_eq!(whole(&config, &out, fault).unwrap(), Outcome::Done);
        let rates: Vec<f64> =
            lines(&out, "classifier", "train").iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
        assert_eq!(rates, [1e-3, 1e-3, 5e-4, 5e-4, 5e-4, 5e-4], "{name}");
        let events = lines(&out, "classifier", "roll_back");
        assert_eq!((events.len(), &events[0]["failed_step"]), (1, &failed.into()), "{name}");
        // Stopped after every step, and failing at the same place, it ends the same.
        let pieces = folder.path().join(format!("{name} in pieces"));
        let mut runs = 0;
        while {
            let stop = StopSignal::default();
            stop.raise();
            runs += 1;
            assert!(runs < 20, "the run never ends");
            train(&config, &pieces, fault, &stop).unwrap() == Outcome::Stopped
        } {}
        assert_eq!(checksums(&out), checksums(&pieces), "{name}");
    }
}

#[test]
fn the_best_checkpoint_is_what_is_exported_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = classifier_run(folder.path(), "keep_best = true");
    let (last, best) = (folder.path().join("last"), folder.path().join("best"));
    whole(&config, &last, NO_FAULT).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("[export]", "[export]\nbest = true")).unwrap();
    whole(&config, &best, NO_FAULT).unwrap();
    // Of two films the AUROC is the same at both validations: the first counts.
    let name = checkpoints(&best, "classifier").into_iter().find(|name| name.starts_with("best.")).unwrap();
    assert_eq!(name, "best.step-00000003.safetensors");
    let kept = candle_core::safetensors::load(best.join("classifier").join(&name), &Device::Cpu).unwrap();
    let of =
        |out: &Path| candle_core::safetensors::load(out.join("bundle/classifier.safetensors"), &Device::Cpu).unwrap();
    let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (of_last, of_best) = (of(&last), of(&best));
    let mut differ = 0;
    for (name, tensor) in &of_best {
        assert_eq!(values(tensor), values(&kept[&format!("average/{name}")]), "{name}");
        differ += usize::from(values(tensor) != values(&of_last[name]));
    }
    assert!(differ > 0, "the last step has the same weights: the test cannot tell");
    // Both are the same training, and a finished run gives its best when asked later.
    whole(&config, &last, NO_FAULT).unwrap();
    assert_eq!(checksums(&last), checksums(&best));
    fs::write(&config, text.replace("keep_best = true", "").replace("[export]", "[export]\nbest = true")).unwrap();
    assert!(RunConfig::read(&config).unwrap_err().to_string().contains("export.best"));
}
