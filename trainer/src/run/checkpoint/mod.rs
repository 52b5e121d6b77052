//! Checkpoints of a stage: one safetensors file each, written to a temporary name, synced and renamed, with a checksum that is
//! verified when read. A kill or a full disk at any moment leaves the previous one.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use sha2::{Digest, Sha256};

/// How many checkpoints of a stage are kept: the newest, and the one before in case the newest turns out damaged.
const KEPT: usize = 2;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("checkpoint {path}: {source} (earlier checkpoints are untouched)")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was read is not what was written.
    #[error("checkpoint {path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What disagrees.
        reason: String,
    },
    /// The checkpoint belongs to other settings or other films.
    #[error(
        "{path} was made with other settings or films than this configuration; give another --out, or delete {stage_folder} to train the stage again"
    )]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The stage's folder.
        stage_folder: PathBuf,
    },
    /// Nothing to go on from.
    #[error("every checkpoint in {stage_folder} is damaged; delete that folder to begin the stage again")]
    NoneWhole {
        /// The stage's folder.
        stage_folder: PathBuf,
    },
    /// A tensor could not be serialised.
    #[error("checkpoint {path}: {source}")]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
    },
}

/// State of a stage after `step` steps: named groups of named tensors.
#[derive(Default)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// Optimiser updates done (steps without a finite gradient are none).
    pub updates: u64,
    /// Fingerprint of the settings and films that it was made with.
    pub fingerprint: String,
    /// Groups, such as `weights`, `first`, `second`, `average`.
    pub groups: BTreeMap<String, BTreeMap<String, Tensor>>,
}

impl Checkpoint {
    /// Takes a group out; empty where there is none.
    pub fn take(&mut self, group: &str) -> BTreeMap<String, Tensor> {
        self.groups.remove(group).unwrap_or_default()
    }
}

/// The checkpoints in one stage's folder.
pub struct Checkpoints {
    folder: PathBuf,
    fingerprint: String,
}

impl Checkpoints {
    /// Checkpoints in `folder` of a stage whose settings and films have `fingerprint`.
    #[must_use]
    pub fn new(folder: &Path, fingerprint: &str) -> Self {
        Self { folder: folder.to_owned(), fingerprint: fingerprint.to_owned() }
    }

    /// Writes `checkpoint`, then removes all but the newest two.
    ///
    /// # Errors
    /// Where the disk is full or the folder cannot be written; the checkpoints before stay.
    pub fn save(&self, mut checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.fingerprint.clone_from(&self.fingerprint);
        let path = self.folder.join(format!("step-{:08}.safetensors", checkpoint.step));
        let io_error = |source| CheckpointError::Io { path: path.clone(), source };
        fs::create_dir_all(&self.folder).map_err(io_error)?;
        let metadata = HashMap::from([
            ("step".to_owned(), checkpoint.step.to_string()),
            ("updates".to_owned(), checkpoint.updates.to_string()),
            ("fingerprint".to_owned(), checkpoint.fingerprint.clone()),
        ]);
        let tensors = checkpoint
            .groups
            .iter()
            .flat_map(|(group, tensors)| tensors.iter().map(move |(name, tensor)| (format!("{group}/{name}"), tensor)));
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| CheckpointError::Damaged { path: path.clone(), reason: error.to_string() })?;
        let checksum = hex(&Sha256::digest(&bytes));
        // The checksum goes first: a data file under its final name always has its checksum beside it.
        write_synced(&checksum_path(&path), checksum.as_bytes()).map_err(io_error)?;
        write_synced(&path, &bytes).map_err(io_error)?;
        sync_folder(&self.folder).map_err(io_error)?;
        for old in self.list().into_iter().skip(KEPT) {
            // An old checkpoint that cannot be removed costs space, not truth.
            let _ = fs::remove_file(checksum_path(&old));
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// The newest checkpoint that reads whole, or `None` where the stage has not saved yet. A damaged one is set aside as
    /// `*.damaged`, with a line on standard error, and the one before is taken.
    ///
    /// # Errors
    /// [`CheckpointError::OtherRun`] where the newest whole one belongs to other settings, [`CheckpointError::NoneWhole`]
    /// where there are checkpoints and all are damaged, [`CheckpointError::Io`] where one cannot be read at all.
    pub fn latest(&self, device: &Device) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut damaged = 0;
        for path in self.list() {
            match read(&path, device) {
                Ok(checkpoint) if checkpoint.fingerprint == self.fingerprint => return Ok(Some(checkpoint)),
                Ok(_) => return Err(CheckpointError::OtherRun { path, stage_folder: self.folder.clone() }),
                Err(error @ CheckpointError::Io { .. }) => return Err(error),
                Err(error) => {
                    eprintln!("{error}; set aside, taking the one before");
                    // Out of the way, so that it neither counts as one of the newest nor is mistaken for one again.
                    let aside = path.with_extension("damaged");
                    fs::rename(&path, &aside).map_err(|source| CheckpointError::Io { path, source })?;
                    damaged += 1;
                }
            }
        }
        if damaged > 0 {
            return Err(CheckpointError::NoneWhole { stage_folder: self.folder.clone() });
        }
        Ok(None)
    }

    /// Paths of the checkpoints, newest first.
    fn list(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                name.starts_with("step-") && name.ends_with(".safetensors")
            })
            .collect();
        paths.sort();
        paths.reverse();
        paths
    }
}

fn read(path: &Path, device: &Device) -> Result<Checkpoint, CheckpointError> {
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
    };
    let tensors = candle_core::safetensors::load_buffer(&bytes, device)
        .map_err(|source| CheckpointError::Tensor { path: path.to_owned(), source })?;
    for (name, tensor) in tensors {
        let (group, name) = name.split_once('/').ok_or_else(|| damaged(format!("tensor {name} has no group")))?;
        checkpoint.groups.entry(group.to_owned()).or_default().insert(name.to_owned(), tensor);
    }
    Ok(checkpoint)
}

fn checksum_path(path: &Path) -> PathBuf {
    path.with_extension("sha256")
}

/// Writes through a temporary name, so that the final name only ever holds whole content.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
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

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let tensor = Tensor::new(&[step as f32, 2.0], &Device::Cpu).unwrap();
        let weights = BTreeMap::from([("a.weight".to_owned(), tensor)]);
        Checkpoint {
            step,
            updates: step,
            groups: BTreeMap::from([("weights".to_owned(), weights)]),
            ..Default::default()
        }
    }

    fn latest_step(store: &Checkpoints) -> Option<u64> {
        store.latest(&Device::Cpu).unwrap().map(|c| c.step)
    }

    #[test]
    fn what_was_saved_comes_back_and_only_the_newest_two_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        assert_eq!(latest_step(&store), None);
        for step in [5, 10, 15] {
            store.save(checkpoint(step)).unwrap();
        }
        let mut back = store.latest(&Device::Cpu).unwrap().unwrap();
        assert_eq!((back.step, back.updates), (15, 15));
        assert_eq!(back.take("weights")["a.weight"].to_vec1::<f32>().unwrap(), [15.0, 2.0]);
        assert_eq!(store.list().len(), 2);
    }

    #[test]
    fn a_damaged_newest_checkpoint_falls_back_to_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        store.save(checkpoint(5)).unwrap();
        store.save(checkpoint(10)).unwrap();
        let newest = folder.path().join("step-00000010.safetensors");
        let mut bytes = fs::read(&newest).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&newest, &bytes).unwrap();
        assert_eq!(latest_step(&store), Some(5));
        fs::write(&newest, &bytes[..20]).unwrap();
        assert_eq!(latest_step(&store), Some(5));
        // The damaged ones no longer count: a new save below their steps stays, and so does the one before it.
        store.save(checkpoint(7)).unwrap();
        assert_eq!(latest_step(&store), Some(7));
        assert_eq!(store.list().len(), 2);
    }

    #[test]
    fn a_stage_whose_checkpoints_are_all_damaged_is_not_silently_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        store.save(checkpoint(5)).unwrap();
        fs::write(folder.path().join("step-00000005.safetensors"), b"torn").unwrap();
        assert!(matches!(store.latest(&Device::Cpu), Err(CheckpointError::NoneWhole { .. })));
    }

    #[test]
    fn a_half_written_temporary_file_is_not_taken_for_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        store.save(checkpoint(5)).unwrap();
        fs::write(folder.path().join("step-00000010.tmp"), b"half").unwrap();
        assert_eq!(latest_step(&store), Some(5));
    }

    #[test]
    fn a_checkpoint_of_other_settings_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        Checkpoints::new(folder.path(), "f").save(checkpoint(5)).unwrap();
        let other = Checkpoints::new(folder.path(), "g");
        assert!(matches!(other.latest(&Device::Cpu), Err(CheckpointError::OtherRun { .. })));
    }

    #[test]
    fn a_save_that_fails_leaves_the_checkpoint_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        store.save(checkpoint(5)).unwrap();
        // A folder in the way of the temporary file stands for a disk that refuses.
        fs::create_dir(folder.path().join("step-00000010.tmp")).unwrap();
        assert!(matches!(store.save(checkpoint(10)), Err(CheckpointError::Io { .. })));
        assert_eq!(latest_step(&store), Some(5));
    }
}
