//! The real `raygen` without a server: usage errors, an endpoint where nothing answers, an interrupt.

use std::{
    error::Error,
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

type TestResult = Result<(), Box<dyn Error>>;

/// Port 9 is "discard": nothing listens there.
const NOBODY: &str = "http://127.0.0.1:9";

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raygen"));
    command.env_remove("RAYGEN_ENDPOINT").stdin(Stdio::null());
    command
}

fn raygen(folder: &Path, arguments: &[&str]) -> std::io::Result<Output> {
    command().current_dir(folder).args(arguments).output()
}

/// Runs and expects a failure with this code, whose words hold all of these.
fn fails(folder: &Path, arguments: &[&str], code: i32, words: &[&str]) -> TestResult {
    let output = raygen(folder, arguments)?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "raygen {arguments:?} said: {said}");
    for word in words {
        assert!(said.contains(word), "raygen {arguments:?} did not say {word:?}: {said}");
    }
    Ok(())
}

#[test]
fn a_command_line_that_makes_no_sense_is_usage_and_nothing_is_called() -> TestResult {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    fs::write(here.join("film.png"), b"film")?;
    fs::write(here.join("tokens.json"), b"[1,2,3]")?;
    fails(here, &["generate", "Edema.", "--out", "film.bmp"], 2, &["film.bmp", ".png, .jpg or .dcm"])?;
    fails(here, &["generate", "Edema.", "--out", "no/film.png"], 2, &["there is no folder no"])?;
    fails(here, &["generate", "Edema.", "--out", "."], 2, &["must end in .png"])?;
    fails(here, &["generate", "Edema."], 2, &["--out"])?;
    fails(here, &["generate", "--out", "a.png"], 2, &["IMPRESSION"])?;
    fails(
        here,
        &["generate", "Edema.", "--out", "a.png", "--sampler", "magic"],
        2,
        &["published", "maskgit", "halton"],
    )?;
    fails(here, &["generate", "Edema.", "--out", "a.png", "--count", "0"], 2, &["--count"])?;
    fails(here, &["generate", "Edema.", "--out", "a.png", "--mask", "film.png"], 2, &["--image"])?;
    fails(
        here,
        &["generate", "Edema.", "--out", "a.png", "--image", "nowhere.png"],
        2,
        &["nowhere.png: cannot be read"],
    )?;
    fails(here, &["generate", "Edema.", "--out", "a.png", "--gif", "a.mp4"], 2, &["a.mp4", ".gif"])?;
    fails(here, &["encode"], 2, &["IMAGE"])?;
    fails(here, &["encode", "film.png", "--text", "Edema."], 2, &["--text"])?;
    fails(here, &["encode", "film.png", "--reconstruction", "a.raw"], 2, &["a.raw"])?;
    fails(here, &["decode", "tokens.json", "--out", "a.png"], 2, &["tokens.json: is no token file"])?;
    fails(here, &["models", "--endpoint", "ftp://example.org"], 2, &["http://", "https://"])?;
    fails(here, &["models", "--tls-ca", "no.pem", "--endpoint", "https://127.0.0.1:9"], 2, &["--tls-ca", "no.pem"])?;
    fails(here, &["models", "--tls-cert", "film.png"], 2, &["--tls-key"])?;
    fails(here, &["models", "--tls-ca", "film.png", "--endpoint", NOBODY], 2, &["https://"])?;
    fails(here, &["models", "--endpoint", "http://"], 2, &["it is not a URL"])?;
    assert!(!here.join("a.png").exists());
    Ok(())
}

#[test]
fn a_manifest_or_gate_that_is_wrong_is_usage_and_names_file_line_and_column() -> TestResult {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    fs::write(here.join("a.png"), b"film")?;
    fs::write(here.join("no_path.csv"), "file,impression\na.png,Edema.\n")?;
    fs::write(here.join("no_film.csv"), "path,split,impression\na.png,val,Edema.\nb.png,val,Clear.\n")?;
    fs::write(here.join("good.csv"), "path,split,impression\na.png,val,Edema.\n")?;
    fs::write(here.join("gate.toml"), "[nll]\nmaximum = 3\n")?;
    fails(here, &["score", "--data", "nowhere.csv"], 2, &["nowhere.csv: cannot be read"])?;
    fails(here, &["score", "--data", "no_path.csv"], 2, &["no_path.csv, line 1: there is no column \"path\""])?;
    fails(here, &["score", "--data", "no_film.csv"], 2, &["no_film.csv, line 3, column \"path\"", "b.png"])?;
    fails(here, &["score", "--data", "good.csv", "--gate", "gate.toml"], 2, &["gate.toml", "unknown field `maximum`"])?;
    fails(here, &["score", "--data", "good.csv", "--bundle", "nowhere"], 2, &["nowhere: is no folder"])?;
    fails(here, &["score", "--data", "good.csv", "--baseline", "gate.toml"], 2, &["gate.toml: is no report"])?;
    Ok(())
}

#[test]
fn an_endpoint_where_nothing_answers_is_said_with_what_to_do() -> TestResult {
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    fs::write(here.join("good.csv"), "path,split,impression\ngood.csv,val,Edema.\n")?;
    fs::write(here.join("gate.toml"), "[nll]\nmax = 3\n")?;
    let words = ["cannot reach http://127.0.0.1:9", "Is raygen-server running", "--endpoint"];
    fails(here, &["models", "--endpoint", NOBODY], 4, &words)?;
    fails(here, &["--endpoint", NOBODY, "generate", "Edema.", "--out", "a.png"], 4, &words)?;
    fails(here, &["score", "--data", "good.csv", "--endpoint", NOBODY], 4, &words)?;
    // A gate that was asked for could not be judged, which is neither passed nor failed.
    let judged = ["score", "--data", "good.csv", "--gate", "gate.toml", "--endpoint", NOBODY];
    fails(here, &judged, 2, &["could not be judged: cannot reach"])?;
    let output = command().env("RAYGEN_ENDPOINT", "http://127.0.0.1:7").arg("models").output()?;
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot reach http://127.0.0.1:7"));
    Ok(())
}

#[test]
fn json_output_also_tells_of_errors() -> TestResult {
    let folder = tempfile::tempdir()?;
    let output = raygen(folder.path(), &["models", "--json", "--endpoint", NOBODY])?;
    let line: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(line["error"]["exit_code"], 4);
    assert!(line["error"]["message"].as_str().is_some_and(|message| message.contains("cannot reach")), "{line}");
    Ok(())
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_call_that_waits_with_130() -> TestResult {
    // Accepts connections (the backlog does) and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", silent.local_addr()?);
    let mut child = command().args(["models", "--endpoint", &endpoint]).stderr(Stdio::null()).spawn()?;
    let (_connection, _) = silent.accept()?;
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait()?.is_none(), "it did not wait for an answer");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
    assert!(killed.success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            assert_eq!(status.code(), Some(130));
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    Err("it went on for ten seconds after Ctrl-C".into())
}
