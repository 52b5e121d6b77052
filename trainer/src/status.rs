//! How far a run is, from its metrics files: readable while it goes on.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::run::memory::readable;
use crate::run::{Checkpoints, Pace, minutes};
use crate::stages::encode;

/// Why the status cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The folder holds no run.
    #[error("{0} holds no run: it has no config.toml")]
    NoRun(PathBuf),
}

/// How far a run is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The run directory.
    pub directory: PathBuf,
    /// Stages that have begun.
    pub stages: Vec<StageStatus>,
    /// Whether the token cache is there.
    pub tokens: bool,
    /// Whether the bundle is there.
    pub bundle: bool,
}

/// How far a stage is.
#[derive(Debug, Serialize)]
pub struct StageStatus {
    /// The stage.
    pub stage: &'static str,
    /// Steps done, saved or not.
    pub steps_done: u64,
    /// Steps in all.
    pub steps: u64,
    /// Whether all steps are done and saved.
    pub up_to_date: bool,
    /// The step of the newest checkpoint: where the stage goes on after a stop.
    pub resumes_at: Option<u64>,
    /// How fast it went when it last said so, and how long the rest takes at that pace.
    pub pace: Option<Pace>,
    /// The last line of each kind.
    pub last_train: Option<Map<String, Value>>,
    /// The last validation.
    pub last_validation: Option<Map<String, Value>>,
}

/// Reads the status of the run in `directory`.
///
/// # Errors
/// Where it holds no run.
pub fn read(directory: &Path) -> Result<Status, StatusError> {
    let config =
        std::fs::read_to_string(directory.join("config.toml")).map_err(|_| StatusError::NoRun(directory.to_owned()))?;
    let config: toml::Table = toml::from_str(&config).unwrap_or_default();
    let mut stages = Vec::new();
    for stage in ["tokenizer", "transformer", "decoder", "classifier"] {
        let Ok(text) = std::fs::read(directory.join(stage).join("metrics.jsonl")) else { continue };
        // The line that is being written may be a half one, or no text at all.
        let lines: Vec<Map<String, Value>> =
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        let last =
            |event: &str| lines.iter().rev().find(|l| l.get("event").and_then(Value::as_str) == Some(event)).cloned();
        let last_train = last("train");
        let steps_done = last_train.as_ref().and_then(|l| l.get("step")?.as_u64()).unwrap_or(0);
        let steps = config.get(stage).and_then(|s| s.get("steps")?.as_integer()).unwrap_or(0);
        let steps = u64::try_from(steps).unwrap_or(0);
        // Metrics run ahead of checkpoints: what is not saved is not done.
        let resumes_at = Checkpoints::new(&directory.join(stage), "").newest_step();
        stages.push(StageStatus {
            stage,
            steps_done,
            steps,
            up_to_date: steps > 0 && resumes_at.is_some_and(|saved| saved >= steps),
            resumes_at,
            // Of a run that has got longer since, the time left was another.
            pace: Pace::read(&directory.join(stage)).filter(|pace| pace.steps == steps),
            last_train,
            last_validation: last("validate"),
        });
    }
    Ok(Status {
        directory: directory.to_owned(),
        stages,
        tokens: encode::is_complete(&directory.join(encode::FOLDER)),
        bundle: directory.join("bundle/config.json").exists(),
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory.display())?;
        for stage in &self.stages {
            write!(f, "  {:12} {}/{} steps", stage.stage, stage.steps_done, stage.steps)?;
            match (stage.up_to_date, stage.resumes_at) {
                (true, _) => writeln!(f, ", up to date")?,
                (false, Some(step)) => writeln!(f, ", under way or stopped; resumes at {step}")?,
                (false, None) => writeln!(f, ", under way or stopped; no checkpoint yet")?,
            }
            if let Some(pace) = stage.pace.as_ref().filter(|_| !stage.up_to_date) {
                let left = Duration::try_from_secs_f64(pace.seconds_left).unwrap_or(Duration::MAX);
                write!(f, "    {:.1} films/s, {} left at step {}", pace.films_per_second, minutes(left), pace.step)?;
                if let Some(bytes) = pace.resident_bytes {
                    write!(f, ", {} in memory", readable(bytes))?;
                }
                match pace.data_wait {
                    Some(share) => writeln!(f, ", waited {:.1} % for films", 100.0 * share)?,
                    None => writeln!(f)?,
                }
            }
            for line in [&stage.last_train, &stage.last_validation].into_iter().flatten() {
                let values: Vec<String> = line
                    .iter()
                    .filter(|(key, _)| *key != "event" && *key != "step")
                    .map(|(key, value)| match value.as_f64() {
                        Some(number) => format!("{key} {number:.4}"),
                        None => format!("{key} undefined"),
                    })
                    .collect();
                let event = line.get("event").and_then(Value::as_str).unwrap_or_default();
                let step = line.get("step").and_then(Value::as_u64).unwrap_or(0);
                writeln!(f, "    {event} at step {step}: {}", values.join(", "))?;
            }
        }
        let of_a_classifier = !self.stages.is_empty() && self.stages.iter().all(|stage| stage.stage == "classifier");
        if of_a_classifier {
            return writeln!(f, "  bundle       {}", if self.bundle { "there" } else { "not yet" });
        }
        writeln!(f, "  tokens       {}", if self.tokens { "there" } else { "not yet" })?;
        writeln!(f, "  bundle       {}", if self.bundle { "there" } else { "not yet" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_folder_without_a_run_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path()), Err(StatusError::NoRun(_))));
    }

    #[test]
    fn the_last_lines_of_a_stage_are_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), "[tokenizer]\nsteps = 9\n").unwrap();
        std::fs::create_dir(folder.path().join("tokenizer")).unwrap();
        let lines =
            "{\"step\":1,\"event\":\"train\",\"loss\":0.5}\n{\"step\":2,\"event\":\"train\",\"loss\":0.25}\n{\"st";
        std::fs::write(folder.path().join("tokenizer/metrics.jsonl"), lines).unwrap();
        let status = read(folder.path()).unwrap();
        assert_eq!((status.stages[0].steps_done, status.stages[0].steps), (2, 9));
        assert!(status.to_string().contains("2/9 steps"));
        assert_eq!((status.stages[0].up_to_date, status.stages[0].resumes_at), (false, None));
    }

    #[test]
    fn where_a_stage_resumes_and_how_long_it_takes_is_told_until_it_is_up_to_date() {
        let folder = tempfile::tempdir().unwrap();
        let stage = folder.path().join("tokenizer");
        std::fs::create_dir(&stage).unwrap();
        std::fs::write(folder.path().join("config.toml"), "[tokenizer]\nsteps = 9\n").unwrap();
        std::fs::write(stage.join("metrics.jsonl"), "{\"step\":7,\"event\":\"train\",\"loss\":0.5}\n").unwrap();
        std::fs::write(stage.join("step-00000004_1.safetensors"), "").unwrap();
        let pace = Pace {
            step: 7,
            steps: 9,
            films_per_second: 1.5,
            seconds_left: 61.0,
            resident_bytes: Some(3 << 20),
            data_wait: Some(0.031),
        };
        std::fs::write(stage.join("progress.json"), serde_json::to_vec(&pace).unwrap()).unwrap();
        let text = read(folder.path()).unwrap().to_string();
        for part in [
            "7/9 steps",
            "resumes at 4",
            "1.5 films/s, 0:01:01 left at step 7, 3.0 MiB in memory, waited 3.1 % for films",
        ] {
            assert!(text.contains(part), "{text}");
        }
        std::fs::write(folder.path().join("config.toml"), "[tokenizer]\nsteps = 7\n").unwrap();
        let text = read(folder.path()).unwrap().to_string();
        assert!(text.contains("7/7 steps, under way or stopped; resumes at 4"), "the last step was not saved: {text}");
        std::fs::write(stage.join("step-00000007_1.safetensors"), "").unwrap();
        let text = read(folder.path()).unwrap().to_string();
        assert!(text.contains("7/7 steps, up to date") && !text.contains("left"), "{text}");
    }
}
