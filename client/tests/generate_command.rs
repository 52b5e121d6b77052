//! `raygen generate` against a server without a model: what is written, what is said, and what a mishap leaves behind.

mod fake;

use std::{
    error::Error,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

type TestResult = Result<(), Box<dyn Error>>;

fn raygen(folder: &Path, endpoint: &str, arguments: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raygen"));
    command.current_dir(folder).env("RAYGEN_ENDPOINT", endpoint).stdin(Stdio::null());
    command.args(arguments).output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[test]
fn the_picture_is_the_servers_bytes_and_the_words_say_seed_model_and_steps() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let output = raygen(folder.path(), &endpoint, &["generate", "A zebra.", "--out", "film.png", "--seed", "7"])?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert_eq!(fs::read(folder.path().join("film.png"))?, fake::png(200));
    assert!(
        out.starts_with("film.png (8 x 8)\nsynthetic, not for diagnosis; models/fake/versions/1, seed 7, 4 steps in "),
        "{out}"
    );
    assert!(err.contains("warning: the model was not trained on: zebra\u{fffd}[31m\n"), "{err}");
    assert!(err.contains("models/fake/versions/1, seed 7\n"), "{err}");
    assert!(err.contains("step 2 of 4, 8 of 16 tokens decided"), "{err}");
    assert!(!err.contains('\u{1b}'), "escape sequences where there is no terminal: {err}");
    Ok(())
}

#[test]
fn several_pictures_are_numbered_with_their_tokens_steps_and_animations() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let here = folder.path();
    let arguments = ["generate", "Edema.", "--out", "film.png", "--count", "2", "--tokens", "film.json"];
    let output = raygen(here, &endpoint, &[&arguments[..], &["--steps-dir", "steps", "--gif", "film.gif"]].concat())?;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        names(here)?,
        ["film-0.gif", "film-0.json", "film-0.png", "film-1.gif", "film-1.json", "film-1.png", "steps"]
    );
    assert_eq!(fs::read(here.join("film-1.png"))?, fake::png(201));
    assert_eq!(names(&here.join("steps"))?, ["sample-0", "sample-1"]);
    assert_eq!(names(&here.join("steps/sample-1"))?, ["step-001.png", "step-002.png", "step-003.png", "step-004.png"]);
    assert_eq!(fs::read(here.join("steps/sample-1/step-003.png"))?, fake::png(30));
    let tokens: Value = serde_json::from_slice(&fs::read(here.join("film-0.json"))?)?;
    assert_eq!((&tokens["height"], &tokens["mask_token_id"]), (&Value::from(fake::SIDE), &Value::from(fake::MASK)));
    Ok(())
}

#[test]
fn a_generation_that_breaks_off_leaves_no_picture_and_says_why() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let here = folder.path();
    for (impression, code, words) in [
        ("It vanishes.", 4, "the generation ended without a summary"),
        ("It fails.", 3, "refused: the logits of a row are not finite (NUMERIC_FAILURE)"),
        ("It is full.", 3, "refused: 64 requests wait already (QUEUE_FULL); try again in 2.5 s"),
    ] {
        let output = raygen(here, &endpoint, &["generate", impression, "--out", "film.png"])?;
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{impression} {err}");
        assert!(err.contains(words), "{impression} {err}");
        assert!(names(here)?.is_empty(), "{impression} left {:?}", names(here)?);
    }
    let output = raygen(here, &endpoint, &["generate", "It is full.", "--out", "film.png", "--json"])?;
    let line: Value = serde_json::from_slice(&output.stdout)?;
    let error = &line["error"];
    assert_eq!((&error["code"], &error["reason"]), (&Value::from("RESOURCE_EXHAUSTED"), &Value::from("QUEUE_FULL")));
    assert_eq!(error["retry_after_seconds"], 2.5);
    Ok(())
}

#[test]
fn json_lines_tell_every_step_with_its_grid() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let output = raygen(folder.path(), &endpoint, &["generate", "Edema.", "--out", "film.png", "--json"])?;
    let events: Vec<Value> = text(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["admitted", "progress", "progress", "progress", "progress", "sample", "summary"]);
    assert_eq!(events[0]["seed"], 42);
    assert_eq!(events[1]["grid"]["token_ids"].as_array().map(Vec::len), Some(16));
    assert_eq!(events[6]["files"], Value::from(vec!["film.png"]));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    Ok(())
}

#[test]
fn an_answer_without_its_parts_is_the_servers_fault_and_not_a_crash() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    fs::write(folder.path().join("film.png"), fake::png(1))?;
    let output = raygen(folder.path(), &endpoint, &["encode", "film.png"])?;
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).contains("the encoding ended without its grid"), "{}", text(&output.stderr));
    // A server that has no such service at all.
    let output = raygen(folder.path(), &endpoint, &["models"])?;
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("(UNIMPLEMENTED)"), "{}", text(&output.stderr));
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interrupt_in_the_middle_leaves_no_picture() -> TestResult {
    let (endpoint, folder) = (fake::start()?, tempfile::tempdir()?);
    let mut child = Command::new(env!("CARGO_BIN_EXE_raygen"))
        .current_dir(folder.path())
        .args(["generate", "A slow one.", "--out", "film.png", "--endpoint", &endpoint])
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(900));
    assert!(child.try_wait()?.is_none(), "it was over too soon");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status()?.success());
    assert_eq!(child.wait()?.code(), Some(130));
    assert!(names(folder.path())?.is_empty());
    Ok(())
}
