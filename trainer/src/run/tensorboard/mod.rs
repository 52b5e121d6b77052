//! TensorBoard's event files: the numbers of `metrics.jsonl` once more, for those who watch runs there.
//!
//! Each start of a stage begins a file of its own, whose first record but one is a session's start at the step after the
//! checkpoint: TensorBoard then forgets the steps from there on that earlier files hold, so that none shows twice. A file that
//! is there is never rewritten, for a TensorBoard that follows it would lose its place.

mod message;
mod record;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use self::message::{Content, Event};
use super::disk::named;

/// What the first record of a file says. From version 2 on, session starts count.
const VERSION: &str = "brain.Event:2";

/// An open event file.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`, whose first step is `step + 1`.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn create(folder: &Path, step: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = unused_path(folder);
        let mut events = Self { file: File::create(&path).map_err(|error| named(&path, &error))?, path };
        events.write(0, Content::Version(VERSION))?;
        events.write(step + 1, Content::SessionStart)?;
        Ok(events)
    }

    /// Appends the numbers of an event of `metrics.jsonl`, each under `event/name`.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub(super) fn scalars(&mut self, step: u64, event: &str, values: &[(&str, f64)]) -> io::Result<()> {
        let values: Vec<(String, f32)> =
            values.iter().map(|(name, value)| (format!("{event}/{name}"), *value as f32)).collect();
        self.write(step, Content::Scalars(&values))
    }

    /// The file.
    #[cfg(test)]
    fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, step: u64, content: Content<'_>) -> io::Result<()> {
        let event = Event { wall_time: now().as_secs_f64(), step: i64::try_from(step).unwrap_or(i64::MAX), content };
        // One write a record: a reader meets a half record only after a kill, at the end.
        self.file.write_all(&record::framed(&event.encode())).map_err(|error| named(&self.path, &error))
    }
}

/// Named by the time, so that files sort in the order in which they were begun; TensorBoard reads them in that order.
fn unused_path(folder: &Path) -> PathBuf {
    let mut now = now().as_micros();
    loop {
        let path = folder.join(format!("events.out.tfevents.{:010}.{:06}.raygen", now / 1_000_000, now % 1_000_000));
        if !path.exists() {
            return path;
        }
        now += 1;
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost::Message;

    use super::*;

    /// `tensorflow.Event`, as TensorFlow's event.proto has it: the part that is written here, by another encoder than ours.
    #[derive(Clone, PartialEq, Message)]
    struct ReadEvent {
        #[prost(double, tag = "1")]
        wall_time: f64,
        #[prost(int64, tag = "2")]
        step: i64,
        #[prost(string, optional, tag = "3")]
        file_version: Option<String>,
        #[prost(message, optional, tag = "5")]
        summary: Option<ReadSummary>,
        #[prost(message, optional, tag = "7")]
        session_log: Option<ReadSessionLog>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadSummary {
        #[prost(message, repeated, tag = "1")]
        value: Vec<ReadValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadValue {
        #[prost(string, tag = "1")]
        tag: String,
        #[prost(float, optional, tag = "2")]
        simple_value: Option<f32>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ReadSessionLog {
        #[prost(int32, tag = "1")]
        status: i32,
    }

    /// Reads records with a bitwise CRC-32C of its own.
    fn read(bytes: &[u8]) -> Vec<ReadEvent> {
        let masked = |bytes: &[u8]| {
            let crc = !bytes.iter().fold(!0u32, |crc, byte| {
                (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
            });
            crc.rotate_right(15).wrapping_add(0xa282_ead8)
        };
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut events = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(word(&rest[8..]), masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(word(&rest[12 + length..]), masked(data));
            events.push(ReadEvent::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        events
    }

    #[test]
    fn what_is_written_is_read_back_by_another_decoder() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = EventFile::create(folder.path(), 0).unwrap();
        file.scalars(1, "train", &[("loss", 0.5), ("learning_rate", 1e-3)]).unwrap();
        file.scalars(300, "validate", &[("nll", f64::NAN)]).unwrap();
        let events = read(&fs::read(file.path()).unwrap());
        assert_eq!(events.len(), 4);
        assert!(events.iter().all(|event| event.wall_time > 1.7e9));
        assert_eq!((events[0].step, events[0].file_version.as_deref()), (0, Some("brain.Event:2")));
        let values = |event: &ReadEvent| event.summary.clone().unwrap().value;
        let first = values(&events[2]);
        assert_eq!((events[2].step, first[0].tag.as_str(), first[0].simple_value), (1, "train/loss", Some(0.5)));
        assert_eq!((first[1].tag.as_str(), first[1].simple_value), ("train/learning_rate", Some(1e-3)));
        let second = values(&events[3]);
        assert_eq!((events[3].step, second[0].tag.as_str()), (300, "validate/nll"));
        assert!(second[0].simple_value.unwrap().is_nan());
    }

    #[test]
    fn a_resumed_run_begins_a_later_file_that_takes_back_the_steps_after_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = EventFile::create(folder.path(), 0).unwrap();
        (1..=5).for_each(|step| first.scalars(step, "train", &[("loss", 1.0)]).unwrap());
        let mut second = EventFile::create(folder.path(), 3).unwrap();
        (4..=6).for_each(|step| second.scalars(step, "train", &[("loss", 2.0)]).unwrap());
        assert!(first.path() < second.path());
        // TensorBoard's rule: a session's start (status 1) forgets the steps from its own on.
        let mut shown: Vec<(i64, f32)> = Vec::new();
        for path in [first.path(), second.path()] {
            for event in read(&fs::read(path).unwrap()) {
                if event.session_log.as_ref().is_some_and(|log| log.status == 1) {
                    shown.retain(|(step, _)| *step < event.step);
                }
                shown
                    .extend(event.summary.iter().flat_map(|s| &s.value).map(|v| (event.step, v.simple_value.unwrap())));
            }
        }
        assert_eq!(shown, [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]);
    }
}
