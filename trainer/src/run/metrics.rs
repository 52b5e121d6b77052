//! Metrics as JSON lines: one object a line, appended, readable while the run goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::disk::{named, write_synced};

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
        fs::create_dir_all(folder).map_err(|error| named(folder, &error))?;
        let path = folder.join("metrics.jsonl");
        if path.exists() {
            let (kept, torn) = lines_to_keep(&path, step, always).map_err(|error| named(&path, &error))?;
            if torn > 0 {
                eprintln!("{}: {torn} damaged lines are cut, as a kill or a full disk leaves them", path.display());
            }
            write_synced(&path, &kept).map_err(|error| named(&path, &error))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(|error| named(&path, &error))?;
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
        let mut text = Value::Object(line).to_string();
        text.push('\n');
        // One write a line: a full disk or a kill leaves at most one half line, at the end.
        self.file.write_all(text.as_bytes()).map_err(|error| named(&self.path, &error))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The lines of steps up to `step`, and how many lines were none. Those are dropped, also where they are not even text.
fn lines_to_keep(path: &Path, step: u64, always: impl Fn(&str) -> bool) -> io::Result<(Vec<u8>, usize)> {
    let (mut kept, mut torn) = (Vec::new(), 0);
    for line in BufReader::new(File::open(path)?).split(b'\n') {
        let mut line = line?;
        let Ok(mut value) = serde_json::from_slice::<Value>(&line) else {
            torn += usize::from(!line.is_empty());
            continue;
        };
        let Some(of) = value.get("step").and_then(Value::as_u64) else { continue };
        if of > step {
            if !value.get("event").and_then(Value::as_str).is_some_and(&always) {
                continue;
            }
            value["step"] = step.into();
            line = value.to_string().into_bytes();
        }
        kept.extend_from_slice(&line);
        kept.push(b'\n');
    }
    Ok((kept, torn))
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
    fn a_last_line_that_is_no_text_is_cut_and_blocks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(folder.path(), 0).unwrap();
        log.write(1, "train", &[]).unwrap();
        log.file.write_all(b"{\"step\": 2, \"name\": \"\xff\xfe").unwrap();
        drop(log);
        let mut log = MetricsLog::open(folder.path(), 5).unwrap();
        log.write(2, "train", &[]).unwrap();
        let text = fs::read_to_string(log.path()).unwrap();
        let steps: Vec<Value> =
            text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["step"].clone()).collect();
        assert_eq!(steps, [1, 2]);
    }

    // Everything that is written to /dev/full meets a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_with_what_to_do() {
        let file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut log = MetricsLog { path: PathBuf::from("run/metrics.jsonl"), file };
        let error = log.write(1, "train", &[]).unwrap_err().to_string();
        assert!(error.contains("run/metrics.jsonl") && error.contains("free space"), "{error}");
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
