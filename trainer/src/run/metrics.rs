//! Metrics as JSON lines: one object a line, appended, readable while the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The event of going back to a checkpoint.
pub(super) const ROLL_BACK: &str = "roll_back";

/// An open `metrics.jsonl`.
pub struct MetricsLog {
    path: PathBuf,
    file: File,
}

impl MetricsLog {
    /// Opens `folder/metrics.jsonl`, dropping lines of steps after `step`: a resumed run takes those again.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> io::Result<Self> {
        Self::keep(folder, step, |_| false)
    }

    /// The same for a stage that goes back to `step`: that it went back before is not forgotten, and is written under `step`.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn go_back(folder: &Path, step: u64) -> io::Result<Self> {
        Self::keep(folder, step, |event| event == ROLL_BACK)
    }

    fn keep(folder: &Path, step: u64, always: impl Fn(&str) -> bool) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join("metrics.jsonl");
        if path.exists() {
            let mut kept = String::new();
            for line in BufReader::new(File::open(&path)?).lines() {
                let mut line = line?;
                // A line cut short by a kill does not parse, and goes.
                let Ok(mut value) = serde_json::from_str::<Value>(&line) else { continue };
                let Some(of) = value.get("step").and_then(Value::as_u64) else { continue };
                if of > step {
                    if !value.get("event").and_then(Value::as_str).is_some_and(&always) {
                        continue;
                    }
                    value["step"] = step.into();
                    line = value.to_string();
                }
                kept.push_str(&line);
                kept.push('\n');
            }
            super::checkpoint::write_synced(&path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Self { path, file })
    }

    /// Appends one line: the step (steps done), the kind of event and its values.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&mut self, step: u64, event: &str, values: &[(&str, f64)]) -> io::Result<()> {
        let mut line = Map::new();
        line.insert("step".into(), step.into());
        line.insert("event".into(), event.into());
        for (name, value) in values {
            // JSON has no NaN: null says that the number is undefined.
            line.insert((*name).into(), serde_json::Number::from_f64(*value).map_or(Value::Null, Value::Number));
        }
        writeln!(self.file, "{}", Value::Object(line))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_resumed_run_drops_the_lines_after_its_checkpoint_and_a_half_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(folder.path(), 0).unwrap();
        for step in 1..=3 {
            log.write(step, "train", &[("loss", 0.5), ("norm", f64::NAN)]).unwrap();
        }
        write!(log.file, "{{\"step\": 4, \"lo").unwrap();
        drop(log);
        let log = MetricsLog::open(folder.path(), 2).unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|l| serde_json::from_str::<Value>(l).unwrap()["norm"].is_null()));
    }

    #[test]
    fn a_stage_that_goes_back_twice_remembers_both() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(folder.path(), 0).unwrap();
        log.write(8, "train", &[]).unwrap();
        log.write(10, ROLL_BACK, &[("failed_step", 11.0)]).unwrap();
        log.write(10, "train", &[]).unwrap();
        let mut log = MetricsLog::go_back(folder.path(), 8).unwrap();
        log.write(8, ROLL_BACK, &[("failed_step", 10.0)]).unwrap();
        let log = MetricsLog::open(folder.path(), 8).unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let failed: Vec<_> = lines.iter().filter_map(|line| line.get("failed_step")?.as_f64()).collect();
        assert_eq!((lines.len(), failed), (3, vec![11.0, 10.0]));
        assert!(lines.iter().all(|line| line["step"] == 8));
    }
}
