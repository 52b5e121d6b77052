//! What archives and disks do to a run: films that are bad or too many to hold, a cache that is damaged, a disk that is full.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod films;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use raygen_trainer::config::RunConfig;
use raygen_trainer::run::StopSignal;
use raygen_trainer::stages::{self, Outcome};

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
shift = 1
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { channels = 8, channel_multipliers = [1, 2], residual_blocks = 1, z_channels = 8, embed_dim = 8, codebook_size = 16, norm_groups = 4 }
[encode]
views = 2
shift = 1
[transformer]
steps = 3
batch = 3
optimiser = { learning_rate = 1e-3, warm_up_steps = 2, ema_decay = 0.9 }
cadence = { validate_every = 3, checkpoint_every = 2 }
model = { width = 128, layers = 2, heads = 2, feed_forward = 256, token_merge = 2 }
text = { width = 8, layers = 1, heads = 2, max_tokens = 8 }
[export]
dtype = "f32"
licence = ""
supported_terms = []
notes = ""
[export.sampling]
step_count = 2
"#;

/// Ten films of 16 px, the last four for validation, and a run over them with these keys of `data` added.
fn tiny_run(folder: &Path, data: &str) -> PathBuf {
    let mut manifest = "path,split,patient,impression\n".to_owned();
    for film in 0..10u32 {
        let name = striped_film(folder, film);
        let split = if film < 6 { "train" } else { "val" };
        manifest.push_str(&format!("{name},{split},p{film},Stripes {film}.\n"));
    }
    fs::write(folder.join("manifest.csv"), manifest).unwrap();
    config(folder, data)
}

fn config(folder: &Path, data: &str) -> PathBuf {
    let path = folder.join("run.toml");
    fs::write(&path, CONFIG.replacen("image_size = 16", &format!("image_size = 16\n{data}"), 1)).unwrap();
    path
}

fn train(config: &Path, out: &Path) -> anyhow::Result<Outcome> {
    stages::run(&RunConfig::read(config).unwrap(), out, &Device::Cpu, &StopSignal::default())
}

fn checksums(out: &Path) -> String {
    fs::read_to_string(out.join("bundle/SHA256SUMS")).unwrap()
}

#[test]
fn films_read_from_disk_and_a_shared_folder_make_the_same_bundle_and_the_wait_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (held, on_disk) = (folder.path().join("held"), folder.path().join("disk"));
    train(&tiny_run(folder.path(), ""), &held).unwrap();
    assert!(held.join("films/shard-00000.u8").exists());
    train(&config(folder.path(), "memory_mib = 0\ncache = \"shared\""), &on_disk).unwrap();
    assert_eq!(checksums(&held), checksums(&on_disk));
    assert!(!on_disk.join("films").exists());
    let shared: Vec<_> = fs::read_dir(folder.path().join("shared")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(shared.len() == 1 && shared[0].join("shard-00000.u8").exists(), "{shared:?}");
    for (stage, count) in [("tokenizer", 3), ("tokens", 1), ("transformer", 3)] {
        let metrics = fs::read_to_string(on_disk.join(stage).join("metrics.jsonl")).unwrap();
        let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let waits: Vec<f64> = lines.filter_map(|line| line.get("data_wait")?.as_f64()).collect();
        assert!(waits.len() == count && waits.iter().all(|share| (0.0..=1.0).contains(share)), "{waits:?}");
    }
}

#[test]
fn bad_films_are_left_out_where_asked_for_and_one_that_vanishes_later_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let path = tiny_run(folder.path(), "");
    fs::write(folder.path().join("film-2.png"), "no picture").unwrap();
    fs::remove_file(folder.path().join("film-9.png")).unwrap();
    let error = train(&path, &out).unwrap_err().to_string();
    assert!(error.contains("1 of ") && error.contains("film-9.png") && error.contains("bad_films"), "{error}");
    let path = config(folder.path(), "bad_films = \"leave_out\"");
    assert_eq!(train(&path, &out).unwrap(), Outcome::Done);
    let left_out =
        || -> Vec<serde_json::Value> { serde_json::from_slice(&fs::read(out.join("left_out.json")).unwrap()).unwrap() };
    let ids: Vec<_> = left_out().iter().map(|film| (film["id"].clone(), film["line"].clone())).collect();
    assert_eq!(ids, [("film-2.png".into(), 4.into()), ("film-9.png".into(), 11.into())]);
    // Between two starts one more goes: without it the run is another.
    fs::remove_file(folder.path().join("film-3.png")).unwrap();
    let error = format!("{:#}", train(&path, &out).unwrap_err());
    assert!(error.contains("other settings or films"), "{error}");
    assert_eq!(left_out().len(), 3);
    let error = train(&config(folder.path(), ""), &out).unwrap_err().to_string();
    assert!(error.contains("film-3.png"), "{error}");
}

#[test]
fn a_damaged_token_cache_and_one_of_an_earlier_layout_are_made_anew_and_the_run_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (config, out) = (tiny_run(folder.path(), ""), folder.path().join("run"));
    train(&config, &out).unwrap();
    let (expected, tokens) = (checksums(&out), out.join("tokens"));
    let shard = fs::read(tokens.join("shard-00000.safetensors")).unwrap();
    let again = || {
        fs::remove_dir_all(out.join("bundle")).unwrap();
        assert_eq!(train(&config, &out).unwrap(), Outcome::Done);
        assert_eq!(checksums(&out), expected);
        assert_eq!(fs::read(tokens.join("shard-00000.safetensors")).unwrap(), shard);
    };
    fs::write(tokens.join("shard-00000.safetensors"), &shard[..shard.len() / 2]).unwrap();
    again();
    fs::remove_dir_all(&tokens).unwrap();
    fs::create_dir(&tokens).unwrap();
    fs::write(tokens.join("step-00000001.safetensors"), "one file with all tokens").unwrap();
    again();
    assert!(!tokens.join("step-00000001.safetensors").exists());
}

#[test]
fn too_many_codes_for_16_bits_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.toml");
    fs::write(&path, CONFIG.replacen("codebook_size = 16", "codebook_size = 65536", 1)).unwrap();
    let error = RunConfig::read(&path).unwrap_err().to_string();
    assert!(error.contains("tokenizer.model.codebook_size") && error.contains("65535"), "{error}");
}

/// Runs where no file may be larger than so many bytes: a checkpoint that is larger meets what a full disk is to it.
#[cfg(unix)]
fn train_with_little_space(config: &Path, out: &Path, largest_file: u64) -> std::process::Output {
    use std::process::Command;
    let shell = |script: &str| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).arg("sh");
        shell
    };
    // Shells count in blocks of 512 or of 1024 bytes.
    let probe = config.with_file_name("probe");
    shell("trap '' XFSZ; ulimit -f 1; head -c 4096 /dev/zero > \"$1\"").arg(&probe).output().unwrap();
    let block = fs::metadata(&probe).unwrap().len();
    assert!(block == 512 || block == 1024, "{block}");
    // Ignored, the signal of a file that grows too large becomes an error of the write.
    shell("trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$@\"")
        .arg((largest_file / block).to_string())
        .arg(env!("CARGO_BIN_EXE_raygen-trainer"))
        .arg("run")
        .arg(config)
        .arg("--out")
        .arg(out)
        .args(["--device", "cpu"])
        .output()
        .unwrap()
}

#[cfg(unix)]
#[test]
fn a_checkpoint_that_does_not_fit_is_named_and_costs_none_of_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_run(folder.path(), "");
    let (whole, full) = (folder.path().join("whole"), folder.path().join("full"));
    train(&config, &whole).unwrap();
    let size = |file: &str| fs::metadata(whole.join(file)).unwrap().len();
    let smaller = size("tokenizer/step-00000003.safetensors");
    let larger = size("transformer/step-00000003.safetensors");
    assert!(2 * smaller < larger, "{smaller} {larger}");
    let files = |stage: &str| {
        let files = fs::read_dir(full.join(stage)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<_> = files.filter(|name| name.starts_with("step-")).collect();
        files.sort();
        files
    };
    let output = train_with_little_space(&config, &full, larger - 4096);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{text}");
    for part in ["transformer/step-00000002.safetensors", "ulimit -f", "earlier checkpoints are untouched"] {
        assert!(text.contains(part), "{text}");
    }
    let tokenizer = ["step-00000002.safetensors", "step-00000002.sha256"];
    let tokenizer = [&tokenizer[..], &["step-00000003.safetensors", "step-00000003.sha256"]].concat();
    assert_eq!(
        (files("tokenizer"), files("transformer")),
        (tokenizer.iter().map(|n| (*n).to_owned()).collect(), vec![])
    );
    // With space again it goes on, and nothing shows that there was none.
    let said = train(&config, &full).unwrap();
    assert_eq!((said, checksums(&full)), (Outcome::Done, checksums(&whole)));
    // The store of films too is told by name.
    let text = train_with_little_space(&config, &folder.path().join("none"), 1024).stderr;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("none/films/shard-00000.u8") && text.contains("ulimit -f"), "{text}");
}
