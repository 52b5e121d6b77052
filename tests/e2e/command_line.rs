//! The real `raygen` against the real server: files, words, exit codes.

use std::fs;

use raygen_e2e::{Server, TestResult, raygen};
use serde_json::Value;

use crate::pictures::{decode, films, holds, png_texts, psnr};

#[test]
fn generate_leaves_a_picture_its_tokens_its_steps_and_its_emergence() -> TestResult {
    let server = Server::shared()?;
    let endpoint = server.endpoint();
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    let words = [
        "generate",
        "Pneumonia with pleural effusion and a zebra",
        "--endpoint",
        &endpoint,
        "--seed",
        "11",
        "--steps",
        "6",
    ];
    let files = ["--out", "film.png", "--tokens", "film.json", "--steps-dir", "steps", "--gif", "film.gif"];
    let ran = raygen(here, words.iter().chain(&files))?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("film.png") && ran.out.contains("seed 11") && ran.out.contains("models/"), "{}", ran.out);
    assert!(ran.err.contains("warning: the model was not trained on: ") && ran.err.contains("zebra"), "{}", ran.err);
    assert!(ran.err.contains("step 6 of 6"), "{}", ran.err);

    let film = fs::read(here.join("film.png"))?;
    assert!(png_texts(&film)?.iter().any(|(_, text)| text.contains("Synthetic")));
    let tokens: Value = serde_json::from_slice(&fs::read(here.join("film.json"))?)?;
    let ids = tokens["token_ids"].as_array().ok_or("no token_ids")?;
    assert_eq!(tokens["height"].as_u64().zip(tokens["width"].as_u64()).map(|(h, w)| h * w), Some(ids.len() as u64));
    assert!(ids.iter().all(|id| id.as_u64() < tokens["mask_token_id"].as_u64()), "an undecided token is left");
    let steps = fs::read_dir(here.join("steps"))?.count();
    assert!((1..=6).contains(&steps), "{steps} previews");
    let gif = fs::read(here.join("film.gif"))?;
    assert!(gif.starts_with(b"GIF89a") && holds(&gif, b"Synthetic chest X-ray"));

    // The tokens decode to the same picture.
    let ran = raygen(here, ["decode", "film.json", "--out", "again.png", "--endpoint", &endpoint])?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(decode(&film)?.pixels, decode(&fs::read(here.join("again.png"))?)?.pixels);
    let mut left: Vec<String> = Vec::new();
    for entry in fs::read_dir(here)? {
        left.push(entry?.file_name().to_string_lossy().into_owned());
    }
    left.sort();
    assert_eq!(left, ["again.png", "film.gif", "film.json", "film.png", "steps"]);
    Ok(())
}

#[test]
fn count_numbers_the_files_and_json_tells_every_event() -> TestResult {
    let server = Server::shared()?;
    let endpoint = server.endpoint();
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    let arguments =
        ["generate", "Edema.", "--out", "film.jpg", "--count", "2", "--steps", "3", "--json", "--endpoint", &endpoint];
    let ran = raygen(here, arguments)?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(here.join("film-0.jpg").is_file() && here.join("film-1.jpg").is_file() && !here.join("film.jpg").exists());
    let events: Vec<Value> = ran.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(events.first().map(|event| &event["event"]), Some(&Value::from("admitted")));
    let summary = events.last().ok_or("no events")?;
    assert_eq!((&summary["event"], summary["files"].as_array().map(Vec::len)), (&Value::from("summary"), Some(2)));
    let progress = events.iter().filter(|event| event["event"] == "progress").count();
    assert!((1..=6).contains(&progress), "{progress} steps of two pictures");
    Ok(())
}

#[test]
fn a_refusal_says_field_and_reason_leaves_no_file_and_exits_with_3() -> TestResult {
    let server = Server::shared()?;
    let endpoint = server.endpoint();
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    let cases: [(&[&str], &str, &str); 5] = [
        (&["generate", "  "], "refused: impression: ", "(IMPRESSION_BLANK)"),
        (&["generate", "Edema.", "--temperature", "NaN"], "refused: sampling.temperature: ", "NaN"),
        (&["generate", "Edema.", "--steps", "0"], "refused: sampling.step_count: ", "(FIELD_INVALID)"),
        (&["generate", "Edema.", "--count", "17"], "refused: sample_count: ", "(FIELD_INVALID)"),
        (&["generate", "Edema.", "--model", "models/nobody"], "refused: ", "(MODEL_NOT_FOUND)"),
    ];
    for (arguments, beginning, end) in cases {
        let ran = raygen(here, arguments.iter().chain(&["--out", "film.png", "--endpoint", &endpoint]))?;
        assert_eq!(ran.code, 3, "{arguments:?}: {}", ran.err);
        assert!(ran.err.starts_with(beginning) && ran.err.contains(end), "{arguments:?}: {}", ran.err);
    }
    fs::write(here.join("film.txt"), "no film")?;
    let ran = raygen(here, ["encode", "film.txt", "--endpoint", &endpoint])?;
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.starts_with("refused: image: ") && ran.err.contains("(IMAGE_INVALID)"), "{}", ran.err);
    assert!(!here.join("film.png").exists());
    Ok(())
}

#[test]
fn encode_writes_tokens_and_reconstruction_and_models_lists_the_model() -> TestResult {
    let server = Server::shared()?;
    let endpoint = server.endpoint();
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    let (film, _) = films(1)?.remove(0);
    let film = film.to_string_lossy().into_owned();
    let ran =
        raygen(here, ["encode", &film, "--tokens", "a.json", "--reconstruction", "a.png", "--endpoint", &endpoint])?;
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Without --tokens the grid goes to standard output, and is the same.
    let ran = raygen(here, ["encode", &film, "--reconstruction", "a.jpg", "--endpoint", &endpoint])?;
    assert_eq!(ran.out, fs::read_to_string(here.join("a.json"))?, "{}", ran.err);
    let difference = psnr(&decode(&fs::read(here.join("a.png"))?)?, &decode(&fs::read(here.join("a.jpg"))?)?)?;
    assert!(difference > 30.0, "PNG and JPEG of one grid differ by {difference:.1} dB");

    let ran = raygen(here, ["encode", "--text", "Pulmonary edema.", "--endpoint", &endpoint])?;
    assert!(ran.code == 0 && ran.out.contains("edema"), "{}{}", ran.out, ran.err);
    let ran = raygen(here, ["models", "--endpoint", &endpoint])?;
    assert!(ran.out.contains("models/") && ran.out.contains("ready"), "{}{}", ran.out, ran.err);
    let ran = raygen(here, ["models", "--json", "--endpoint", &endpoint])?;
    let model: Value = serde_json::from_str(ran.out.trim())?;
    assert_eq!(model["state"], "ready");
    Ok(())
}
