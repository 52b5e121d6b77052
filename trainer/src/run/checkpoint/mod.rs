//! Checkpoints of a stage: one safetensors file each, written to a temporary name, synced and renamed, with a checksum that is
//! verified when read. A kill or a full disk at any moment leaves the previous one.

mod error;
mod file;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

pub use self::error::CheckpointError;
use self::file::{SCORE, age_of, checksum_path, read, remove, score_of, step_of};
use super::disk::{put_in_place, remove_temporaries, sha256, sync_folder, write_synced, write_temporary};

/// How many checkpoints of a stage are kept unless it says otherwise: the newest, and the one before in case the newest turns
/// out damaged.
const KEPT: usize = 2;

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
    /// Steps that failed and after which the stage went back to a checkpoint.
    pub roll_backs: Vec<u64>,
    /// Whether the stage went back to this one and has saved none since.
    pub returned: bool,
}

impl Checkpoint {
    /// Takes a group out; empty where there is none.
    pub fn take(&mut self, group: &str) -> BTreeMap<String, Tensor> {
        self.groups.remove(group).unwrap_or_default()
    }

    /// A copy whose tensors are on `device` and share no memory with these.
    ///
    /// # Errors
    /// Where a tensor cannot be copied.
    pub fn copy_on(&self, device: &Device) -> candle_core::Result<Self> {
        let copy = |tensor: &Tensor| match tensor.device().same_device(device) {
            true => tensor.copy(),
            false => tensor.to_device(device),
        };
        let group = |tensors: &BTreeMap<String, Tensor>| {
            tensors.iter().map(|(name, tensor)| Ok((name.clone(), copy(tensor)?))).collect::<candle_core::Result<_>>()
        };
        let groups = self.groups.iter().map(|(name, tensors)| Ok((name.clone(), group(tensors)?)));
        Ok(Self {
            step: self.step,
            updates: self.updates,
            fingerprint: self.fingerprint.clone(),
            groups: groups.collect::<candle_core::Result<_>>()?,
            roll_backs: self.roll_backs.clone(),
            returned: self.returned,
        })
    }
}

/// The checkpoints in one stage's folder.
pub struct Checkpoints {
    folder: PathBuf,
    fingerprint: String,
    kept: usize,
    /// Steps between those that a stage goes back to, where it does.
    back_every: Option<u64>,
}

impl Checkpoints {
    /// Checkpoints in `folder` of a stage whose settings and films have `fingerprint`.
    #[must_use]
    pub fn new(folder: &Path, fingerprint: &str) -> Self {
        Self { folder: folder.to_owned(), fingerprint: fingerprint.to_owned(), kept: KEPT, back_every: None }
    }

    /// The same, of which the newest `count` are kept, at least one.
    #[must_use]
    pub fn keeping(self, count: usize) -> Self {
        Self { kept: count.max(1), ..self }
    }

    /// The same for a stage that goes back after a failure: to one of a multiple of `every` steps. One that was saved because
    /// somebody stopped the stage is none of these, else where it goes would depend on that; they are kept beside the newest.
    #[must_use]
    pub fn going_back_by(self, every: u64) -> Self {
        Self { back_every: Some(every.max(1)), ..self }
    }

    /// Writes `checkpoint`, then removes all but the newest two, or as many as are kept.
    ///
    /// # Errors
    /// Where the disk is full or the folder cannot be written; the checkpoints before stay.
    pub fn save(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        // One that is saved after going back never takes the place of the one it came from: a kill must leave either.
        let turn = match checkpoint.roll_backs.len() {
            0 => String::new(),
            turn => format!("_{turn}"),
        };
        let step = checkpoint.step;
        self.write(checkpoint, &format!("step-{step:08}{turn}"), None)?;
        self.remove_old();
        Ok(())
    }

    /// Writes `checkpoint`, to which a stage goes back, then removes those of later steps, from which it failed.
    ///
    /// # Errors
    /// Where the disk is full or the folder cannot be written; the checkpoints before stay.
    pub fn save_returned(&self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let step = checkpoint.step;
        self.save(Checkpoint { returned: true, ..checkpoint })?;
        self.list().iter().filter(|path| step_of(path).is_some_and(|of| of > step)).for_each(|path| remove(path));
        Ok(())
    }

    /// Writes `checkpoint` as `best.*` if `score` is above that of the one that is there, which then goes.
    ///
    /// # Errors
    /// Where the disk is full or the folder cannot be written; the one before stays.
    pub fn save_best(&self, score: f64, checkpoint: impl FnOnce() -> anyhow::Result<Checkpoint>) -> anyhow::Result<()> {
        let before = self.named("best.");
        let best = before.iter().filter_map(|path| score_of(path)).fold(f64::NEG_INFINITY, f64::max);
        if score.is_nan() || score <= best {
            return Ok(());
        }
        let checkpoint = checkpoint()?;
        let name = format!("best.step-{:08}", checkpoint.step);
        let path = self.write(checkpoint, &name, Some(score))?;
        before.iter().filter(|old| **old != path).for_each(|old| remove(old));
        Ok(())
    }

    /// The checkpoint of the best validation; none where none was saved.
    ///
    /// # Errors
    /// As [`latest`](Self::latest); a damaged one is not replaced by another.
    pub fn best(&self, device: &Device) -> Result<Option<Checkpoint>, CheckpointError> {
        self.named("best.").into_iter().next().map(|path| self.read_own(path, device)).transpose()
    }

    fn read_own(&self, path: PathBuf, device: &Device) -> Result<Checkpoint, CheckpointError> {
        let checkpoint = read(&path, device)?;
        if checkpoint.fingerprint != self.fingerprint {
            return Err(CheckpointError::OtherRun { path, stage_folder: self.folder.clone() });
        }
        Ok(checkpoint)
    }

    /// The file of the newest checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<PathBuf> {
        self.list().into_iter().next()
    }

    /// The step of the newest checkpoint, by its name.
    #[must_use]
    pub fn newest_step(&self) -> Option<u64> {
        step_of(&self.newest()?)
    }

    fn write(&self, mut checkpoint: Checkpoint, name: &str, score: Option<f64>) -> Result<PathBuf, CheckpointError> {
        checkpoint.fingerprint.clone_from(&self.fingerprint);
        let path = self.folder.join(format!("{name}.safetensors"));
        let io_error = |error| CheckpointError::Io { path: path.clone(), error };
        fs::create_dir_all(&self.folder).map_err(io_error)?;
        let mut metadata = HashMap::from([
            ("step".to_owned(), checkpoint.step.to_string()),
            ("updates".to_owned(), checkpoint.updates.to_string()),
            ("fingerprint".to_owned(), checkpoint.fingerprint.clone()),
        ]);
        if !checkpoint.roll_backs.is_empty() {
            let steps: Vec<String> = checkpoint.roll_backs.iter().map(u64::to_string).collect();
            metadata.insert("roll_backs".to_owned(), steps.join(" "));
            metadata.insert("returned".to_owned(), checkpoint.returned.to_string());
        }
        metadata.extend(score.map(|score| (SCORE.to_owned(), score.to_string())));
        let tensors = checkpoint
            .groups
            .iter()
            .flat_map(|(group, tensors)| tensors.iter().map(move |(name, tensor)| (format!("{group}/{name}"), tensor)));
        let bytes = safetensors::serialize(tensors, Some(metadata))
            .map_err(|error| CheckpointError::Damaged { path: path.clone(), reason: error.to_string() })?;
        // The checksum gets its name first, so that a checkpoint always has one; but only when the whole checkpoint is on disk,
        // so that a full disk never leaves a new checksum beside an old checkpoint.
        let temporary = write_temporary(&path, &bytes).map_err(io_error)?;
        write_synced(&checksum_path(&path), sha256(&bytes).as_bytes())
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .map_err(io_error)?;
        put_in_place(&temporary, &path).map_err(io_error)?;
        sync_folder(&self.folder).map_err(io_error)?;
        Ok(path)
    }

    /// Removes all but the newest, what a killed trainer left half-written, and those from which the stage went back.
    fn remove_old(&self) {
        remove_temporaries(&self.folder);
        let list = self.list();
        let ages: Vec<(u64, u64)> = list.iter().filter_map(|path| age_of(path)).collect();
        let left = |(turn, step)| ages.iter().any(|(later, reached)| *later > turn && *reached <= step);
        let (gone, newest): (Vec<&PathBuf>, Vec<&PathBuf>) =
            list.iter().partition(|path| age_of(path).is_some_and(&left));
        gone.into_iter().for_each(|path| remove(path));
        let needed: Vec<&PathBuf> = newest
            .iter()
            .copied()
            .filter(|path| self.back_every.is_some() && self.is_return(path))
            .take(self.kept)
            .collect();
        newest.into_iter().skip(self.kept).filter(|path| !needed.contains(path)).for_each(|path| remove(path));
    }

    /// The newest checkpoint that reads whole, or `None` where the stage has not saved yet. A damaged one is set aside as
    /// `*.damaged`, with a line on standard error, and the one before is taken.
    ///
    /// # Errors
    /// [`CheckpointError::OtherRun`] where the newest whole one belongs to other settings, [`CheckpointError::NoneWhole`]
    /// where there are checkpoints and all are damaged, [`CheckpointError::Io`] where one cannot be read at all.
    pub fn latest(&self, device: &Device) -> Result<Option<Checkpoint>, CheckpointError> {
        remove_temporaries(&self.folder);
        self.first_whole(self.list(), device)
    }

    /// The checkpoint that a stage goes back to after a failure. One that it went back to before, and failed from again
    /// without reaching another, is passed over for the one before it, if there is one.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub fn to_go_back_to(&self, device: &Device) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut returns = self.list();
        returns.retain(|path| self.is_return(path));
        let Some(newest) = self.first_whole(returns.clone(), device)? else { return self.latest(device) };
        if !newest.returned {
            return Ok(Some(newest));
        }
        returns.retain(|path| step_of(path).is_some_and(|step| step < newest.step));
        match self.first_whole(returns, device) {
            Ok(None) | Err(CheckpointError::NoneWhole { .. }) => Ok(Some(newest)),
            other => other,
        }
    }

    fn is_return(&self, path: &Path) -> bool {
        let every = self.back_every.unwrap_or(1);
        step_of(path).is_some_and(|step| step.is_multiple_of(every))
    }

    fn first_whole(&self, paths: Vec<PathBuf>, device: &Device) -> Result<Option<Checkpoint>, CheckpointError> {
        let mut damaged = 0;
        for path in paths {
            match read(&path, device) {
                Ok(checkpoint) if checkpoint.fingerprint == self.fingerprint => return Ok(Some(checkpoint)),
                Ok(_) => return Err(CheckpointError::OtherRun { path, stage_folder: self.folder.clone() }),
                Err(error @ CheckpointError::Io { .. }) => return Err(error),
                Err(error) => {
                    eprintln!("{error}; set aside, taking the one before");
                    // Out of the way, so that it neither counts as one of the newest nor is mistaken for one again.
                    let aside = path.with_extension("damaged");
                    fs::rename(&path, &aside).map_err(|error| CheckpointError::Io { path, error })?;
                    damaged += 1;
                }
            }
        }
        if damaged > 0 {
            return Err(CheckpointError::NoneWhole { stage_folder: self.folder.clone() });
        }
        Ok(None)
    }

    /// Paths of the checkpoints, newest first. One that was saved after more returns is newer whatever its step: a kill before
    /// those of later steps were removed must not bring them back.
    fn list(&self) -> Vec<PathBuf> {
        let mut paths = self.named("step-");
        paths.retain(|path| age_of(path).is_some());
        paths.sort_by_key(|path| std::cmp::Reverse(age_of(path)));
        paths
    }

    /// Paths of the files of tensors whose names begin so, last first.
    fn named(&self, start: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                name.starts_with(start) && name.ends_with(".safetensors")
            })
            .collect();
        paths.sort();
        paths.reverse();
        paths
    }
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

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.filter(|name| name.ends_with(".safetensors")).collect();
        names.sort();
        names
    }

    #[test]
    fn as_many_are_kept_as_asked_for_and_the_best_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f").keeping(3);
        for (step, score) in [(1, 0.5), (2, 2.5), (3, f64::NAN), (4, 2.5), (5, -1.0)] {
            store.save(checkpoint(step)).unwrap();
            store.save_best(score, || Ok(checkpoint(step))).unwrap();
        }
        let newest = [3, 4, 5].map(|step| format!("step-{step:08}.safetensors"));
        assert_eq!(files(folder.path()), [&["best.step-00000002.safetensors".to_owned()], &newest[..]].concat());
        assert_eq!(latest_step(&store), Some(5), "the best is not the newest");
        store.save_best(3.0, || Ok(checkpoint(5))).unwrap();
        assert_eq!(files(folder.path())[0], "best.step-00000005.safetensors");
    }

    #[test]
    fn going_back_saves_beside_the_checkpoint_it_came_from_and_drops_later_ones() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        [5, 10].into_iter().for_each(|step| store.save(checkpoint(step)).unwrap());
        store.save_returned(Checkpoint { roll_backs: vec![12], ..checkpoint(10) }).unwrap();
        assert_eq!(files(folder.path()), ["step-00000005.safetensors", "step-00000010_1.safetensors"]);
        let back = store.latest(&Device::Cpu).unwrap().unwrap();
        assert_eq!((back.step, back.returned, back.roll_backs), (10, true, vec![12]));
        assert_eq!(store.to_go_back_to(&Device::Cpu).unwrap().unwrap().step, 5, "from 10 it failed twice");
        store.save_returned(Checkpoint { roll_backs: vec![12, 11], ..checkpoint(5) }).unwrap();
        assert_eq!(files(folder.path()), ["step-00000005_2.safetensors"]);
        assert_eq!(store.to_go_back_to(&Device::Cpu).unwrap().unwrap().step, 5, "there is none before it");
        store.save(Checkpoint { roll_backs: vec![12, 11], ..checkpoint(10) }).unwrap();
        let newest = store.latest(&Device::Cpu).unwrap().unwrap();
        assert_eq!((newest.step, newest.returned), (10, false));
        assert_eq!(store.to_go_back_to(&Device::Cpu).unwrap().unwrap().step, 10);
    }

    #[test]
    fn stops_neither_move_where_a_stage_goes_back_to_nor_push_it_out() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f").going_back_by(5);
        [0, 5, 10, 11, 12, 13].into_iter().for_each(|step| store.save(checkpoint(step)).unwrap());
        let kept = [5, 10, 12, 13].map(|step| format!("step-{step:08}.safetensors"));
        assert_eq!(files(folder.path()), kept);
        assert_eq!(latest_step(&store), Some(13));
        assert_eq!(store.to_go_back_to(&Device::Cpu).unwrap().unwrap().step, 10);
    }

    #[test]
    fn a_kill_between_going_back_and_dropping_later_steps_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f").going_back_by(5);
        [5, 10, 13].into_iter().for_each(|step| store.save(checkpoint(step)).unwrap());
        // What `save_returned` does before it removes step 13, which somebody's stop had saved.
        let back = Checkpoint { roll_backs: vec![14], returned: true, ..checkpoint(10) };
        store.write(back, "step-00000010_1", None).unwrap();
        let newest = store.latest(&Device::Cpu).unwrap().unwrap();
        assert_eq!((newest.step, newest.returned, newest.roll_backs), (10, true, vec![14]));
        assert_eq!((store.newest_step(), store.to_go_back_to(&Device::Cpu).unwrap().unwrap().step), (Some(10), 5));
        store.save(Checkpoint { roll_backs: vec![14], ..checkpoint(15) }).unwrap();
        let kept = ["step-00000010_1.safetensors", "step-00000015_1.safetensors"];
        assert_eq!(files(folder.path()), kept, "13 belongs to what the stage went back from");
    }

    // Everything that is written to /dev/full meets a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_and_leaves_the_checkpoints_before_also_one_of_the_same_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Checkpoints::new(folder.path(), "f");
        store.save(checkpoint(5)).unwrap();
        for step in [5, 10] {
            for file in ["safetensors", "sha256"] {
                let full = folder.path().join(format!("step-{step:08}.{file}.tmp"));
                std::os::unix::fs::symlink("/dev/full", full).unwrap();
                let other = Checkpoint { updates: 9, ..checkpoint(step) };
                let error = store.save(other).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("step-{step:08}.safetensors")) && error.contains("free space"),
                    "{error}"
                );
                assert_eq!(latest_step(&store), Some(5));
            }
        }
    }
}
