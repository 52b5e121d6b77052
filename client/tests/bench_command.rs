//! `raygen bench` against a server without a model: every request is counted once, as what it came to.

mod fake;

use std::{error::Error, fs, process::Command};

use serde_json::Value;

type TestResult = Result<(), Box<dyn Error>>;

#[test]
fn requests_that_succeed_and_those_that_are_refused_are_counted_apart() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let prompts = folder.path().join("prompts.txt");
    fs::write(&prompts, "Edema.\n\nthe queue is full\nthis one vanishes\n")?;
    let json = folder.path().join("bench.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_raygen"));
    command.args(["--endpoint", &endpoint, "bench", "--requests", "9", "--concurrency", "3"]);
    command.arg("--prompts").arg(&prompts).arg("--json-out").arg(&json);
    let output = command.output()?;
    let words = String::from_utf8(output.stdout)?;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(words.starts_with("9 requests in "), "{words}");
    assert!(words.contains("3 done, 6 failed"), "{words}");
    let result = serde_json::from_slice::<Value>(&fs::read(json)?)?["result"].clone();
    assert_eq!(result["failures"]["QUEUE_FULL"], 3);
    assert_eq!(result["failures"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(result["pictures"], 3);
    assert_eq!(result["durations_seconds"]["first_preview"]["count"], 3);
    Ok(())
}

#[test]
fn a_rate_begins_requests_on_time_and_nonsense_is_usage() -> TestResult {
    let endpoint = fake::start()?;
    let folder = tempfile::tempdir()?;
    let prompts = folder.path().join("prompts.txt");
    // Each takes two seconds, so that a closed loop would begin them one after another.
    fs::write(&prompts, "a slow one\n")?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_raygen"));
        command.args(["--endpoint", &endpoint, "--json", "bench", "--warm-up", "0"]).args(arguments);
        command.arg("--prompts").arg(&prompts).output()
    };
    let output = run(&["--rate", "20", "--requests", "8"])?;
    let result = serde_json::from_slice::<Value>(&output.stdout)?["result"].clone();
    assert_eq!(result["done"], 8);
    let (seconds, one) = (result["seconds"].as_f64(), result["durations_seconds"]["result"]["p50"].as_f64());
    assert!(seconds < one.map(|one| 2.0 * one), "they ran beside each other: {result}");
    for nonsense in [&["--rate", "0"][..], &["--rate", "-1"], &["--duration", "0"], &["--timeout", "NaN"]] {
        assert_eq!(run(nonsense)?.status.code(), Some(2), "{nonsense:?}");
    }
    Ok(())
}
