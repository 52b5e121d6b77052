//! Score, by the real `raygen`: numbers, reports and the gate's verdict.

use std::fs;
use std::path::Path;

use raygen_e2e::{Server, TestResult, raygen, raygen_with, repository};
use serde_json::Value;

use crate::pictures::films;

/// A manifest of so many films in a folder.
fn manifest(folder: &Path, count: usize) -> TestResult {
    let mut table = "path,split,impression\n".to_owned();
    for (path, impression) in films(count)? {
        table.push_str(&format!("{},val,\"{impression}\"\n", path.display()));
    }
    Ok(fs::write(folder.join("films.csv"), table)?)
}

fn metric<'a>(report: &'a Value, name: &str) -> TestResult<&'a Value> {
    let metrics = report["metrics"].as_array().ok_or("no metrics")?;
    metrics.iter().find(|metric| metric["name"] == name).ok_or_else(|| format!("no metric {name} in {report}").into())
}

#[test]
fn films_are_scored_reported_and_judged() -> TestResult {
    let server = Server::shared()?;
    let endpoint = server.endpoint();
    let folder = tempfile::tempdir()?;
    let here = folder.path();
    manifest(here, 4)?;
    fs::write(here.join("lenient.toml"), "[nll]\nmax = 100.0\n[accuracy]\nmin = 0.0\n")?;
    fs::write(here.join("strict.toml"), "[nll]\nmax = 0.001\n[reconstruction_psnr]\nmin = 1.0\n")?;
    fs::write(here.join("drop.toml"), "[nll]\nmax_drop = 0.0\n")?;
    fs::write(here.join("absent.toml"), "[fid]\nmax = 1.0\n")?;

    let score = ["score", "--endpoint", &endpoint, "--data", "films.csv", "--split", "val"];
    let reports = ["--json-out", "a.json", "--markdown", "a.md", "--junit", "a.xml"];
    let passed = raygen(here, score.iter().chain(&reports).chain(&["--gate", "lenient.toml"]))?;
    assert_eq!(passed.code, 0, "{}{}", passed.out, passed.err);
    assert!(passed.out.contains("gate passed") && passed.out.contains("reconstruction_psnr"), "{}", passed.out);
    let report: Value = serde_json::from_slice(&fs::read(here.join("a.json"))?)?;
    assert_eq!(report["items"].as_array().map(Vec::len), Some(4));
    assert!(report["model"].as_str().is_some_and(|model| model.starts_with("models/")), "{}", report["model"]);
    assert_eq!(report["gate"]["passed"], true);
    for name in ["nll", "accuracy", "text_gain", "reconstruction_psnr"] {
        let metric = metric(&report, name)?;
        assert_eq!(metric["sample_count"], 4, "{metric}");
        assert!(metric["value"].as_f64().is_some(), "{metric}");
        assert!(metric["protocol"].as_str().is_some_and(|protocol| !protocol.is_empty()), "{metric}");
    }
    // Better than chance, whose likelihood is that of a die with as many sides as the codebook.
    let nll = metric(&report, "nll")?["value"].as_f64().ok_or("no nll")?;
    let model = raygen(here, ["models", "--json", "--endpoint", &endpoint])?;
    let model: Value = serde_json::from_str(model.out.trim())?;
    let chance = model["codebook_size"].as_f64().ok_or("no codebook_size")?.ln();
    assert!(nll < chance - 0.5, "{nll:.3} nats a token, chance is {chance:.3}");
    let items: Vec<f64> =
        report["items"].as_array().into_iter().flatten().filter_map(|item| item["nll"].as_f64()).collect();
    assert!((items.iter().sum::<f64>() / 4.0 - nll).abs() < 1e-9, "the metric is not the mean of {items:?}");
    assert!(fs::read_to_string(here.join("a.md"))?.contains("| nll |"));
    assert!(fs::read_to_string(here.join("a.xml"))?.contains("failures=\"0\""));

    let failed = raygen(here, score.iter().chain(&["--gate", "strict.toml", "--junit", "b.xml"]))?;
    assert_eq!(failed.code, 1, "{}{}", failed.out, failed.err);
    assert!(failed.out.contains("FAILED  nll max"), "{}", failed.out);
    assert!(fs::read_to_string(here.join("b.xml"))?.contains("failures=\"1\""));

    // The same films, seed and model: nothing changed, so nothing dropped.
    let same = raygen(here, score.iter().chain(&["--gate", "drop.toml", "--baseline", "a.json"]))?;
    assert_eq!(same.code, 0, "{}{}", same.out, same.err);

    let unjudged = raygen(here, score.iter().chain(&["--gate", "absent.toml"]))?;
    assert_eq!(unjudged.code, 2, "{}{}", unjudged.out, unjudged.err);
    assert!(unjudged.err.contains("fid: the server sent no such metric"), "{}", unjudged.err);
    Ok(())
}

#[test]
fn a_bundle_is_scored_by_a_server_of_its_own() -> TestResult {
    let folder = tempfile::tempdir()?;
    manifest(folder.path(), 2)?;
    let bundle = repository("models/default").to_string_lossy().into_owned();
    // Settings of the user's own server, which would keep this one from starting.
    let settings = [("RAYGEN_HTTP", "127.0.0.1:1"), ("RAYGEN_DTYPE", "none such"), ("RAYGEN_DEVICE", "cuda:99")];
    let score = ["score", "--data", "films.csv", "--bundle", &bundle, "--json"];
    let ran = raygen_with(&settings, folder.path(), score)?;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let events: Vec<Value> = ran.out.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["item", "item", "summary"]);
    Ok(())
}
