//! A checkpoint's file and its name; its checksum beside it, verified when read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use candle_core::Device;
use safetensors::SafeTensors;

use super::{Checkpoint, CheckpointError};
use crate::run::disk::sha256;

/// The metadata of a best checkpoint: higher is better.
pub(super) const SCORE: &str = "score";

/// The step that a file name tells.
pub(super) fn step_of(path: &Path) -> Option<u64> {
    age_of(path).map(|(_, step)| step)
}

/// How often the stage had gone back when it was saved, and the step, as its name tells: the larger, the later it was saved.
pub(super) fn age_of(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_stem()?.to_str()?.strip_prefix("step-")?;
    match name.split_once('_') {
        Some((step, turn)) => Some((turn.parse().ok()?, step.parse().ok()?)),
        None => Some((0, name.parse().ok()?)),
    }
}

/// The score that a best checkpoint was saved with; `None` where its header cannot be read, and so it does not count.
pub(super) fn score_of(path: &Path) -> Option<f64> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut header).ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("__metadata__")?.get(SCORE)?.as_str()?.parse().ok()
}

/// A checkpoint that cannot be removed costs space, not truth. Its checksum goes last, so that a kill leaves no checkpoint
/// without one, which would count as damaged.
pub(super) fn remove(path: &Path) {
    if fs::remove_file(path).is_ok() {
        let _ = fs::remove_file(checksum_path(path));
    }
}

pub(super) fn read(path: &Path, device: &Device) -> Result<Checkpoint, CheckpointError> {
    let io_error = |error| CheckpointError::Io { path: path.to_owned(), error };
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(io_error)?;
    let expected = match fs::read_to_string(checksum_path(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("its checksum is missing".to_owned()));
        }
        Err(error) => return Err(io_error(error)),
    };
    let found = sha256(&bytes);
    if expected.trim() != found {
        return Err(damaged(format!("its SHA-256 is {found}, written was {}", expected.trim())));
    }
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let number = |key: &str| -> Result<u64, CheckpointError> {
        metadata.get(key).and_then(|v| v.parse().ok()).ok_or_else(|| damaged(format!("its `{key}` is missing")))
    };
    let mut checkpoint = Checkpoint {
        step: number("step")?,
        updates: number("updates")?,
        fingerprint: metadata.get("fingerprint").cloned().unwrap_or_default(),
        groups: BTreeMap::new(),
        roll_backs: Vec::new(),
        returned: metadata.get("returned").is_some_and(|returned| returned == "true"),
    };
    for step in metadata.get("roll_backs").map(String::as_str).unwrap_or_default().split_whitespace() {
        checkpoint.roll_backs.push(step.parse().map_err(|_| damaged("its `roll_backs` are no steps".to_owned()))?);
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|error| CheckpointError::Tensor { path: path.to_owned(), error })?;
    for (name, tensor) in tensors {
        let (group, name) = name.split_once('/').ok_or_else(|| damaged(format!("tensor {name} has no group")))?;
        checkpoint.groups.entry(group.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    Ok(checkpoint)
}

pub(super) fn checksum_path(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}
