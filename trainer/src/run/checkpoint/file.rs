//! A checkpoint's file: written to a temporary name, synced and renamed; its checksum beside it, verified when read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use candle_core::Device;
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

use super::{Checkpoint, CheckpointError};

/// The metadata of a best checkpoint: higher is better.
pub(super) const SCORE: &str = "score";

/// The step that a file name tells.
pub(super) fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_stem()?.to_str()?.strip_prefix("step-")?;
    name.split('_').next()?.parse().ok()
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

/// A checkpoint that cannot be removed costs space, not truth.
pub(super) fn remove(path: &Path) {
    let _ = fs::remove_file(checksum_path(path));
    let _ = fs::remove_file(path);
}

pub(super) fn read(path: &Path, device: &Device) -> Result<Checkpoint, CheckpointError> {
    let io_error = |source| CheckpointError::Io { path: path.to_owned(), source };
    let damaged = |reason: String| CheckpointError::Damaged { path: path.to_owned(), reason };
    let bytes = fs::read(path).map_err(io_error)?;
    let expected = match fs::read_to_string(checksum_path(path)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("its checksum is missing".to_owned()));
        }
        Err(error) => return Err(io_error(error)),
    };
    let found = hex(&Sha256::digest(&bytes));
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
        .map_err(|source| CheckpointError::Tensor { path: path.to_owned(), source })?;
    for (name, tensor) in tensors {
        let (group, name) = name.split_once('/').ok_or_else(|| damaged(format!("tensor {name} has no group")))?;
        checkpoint.groups.entry(group.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    Ok(checkpoint)
}

pub(super) fn checksum_path(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

/// Writes through a temporary name, so that the final name only ever holds whole content.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let result = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
