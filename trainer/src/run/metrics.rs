//! Metrics as JSON lines: one object a line, appended, readable while the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

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
        fs::create_dir_all(folder)?;
        let path = folder.join("metrics.jsonl");
        if path.exists() {
            let mut kept = String::new();
            for line in BufReader::new(File::open(&path)?).lines() {
                let line = line?;
                // A line cut short by a kill does not parse, and goes.
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                if value.get("step").and_then(Value::as_u64).is_some_and(|s| s <= step) {
                    kept.push_str(&line);
                    kept.push('\n');
                }
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
}
