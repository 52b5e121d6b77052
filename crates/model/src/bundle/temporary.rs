//! Where a bundle is written before it is complete, and what killed writers left there.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::BundleError;
use super::read::io;

/// What stands at the end of the names of such directories.
const SUFFIX: &str = "tmp";

/// A hidden directory beside a target. While its writer lives it is locked; it goes away with this value unless kept.
#[derive(Debug)]
pub(super) struct Temporary {
    path: PathBuf,
    /// The system opens the lock when the process ends, however it does.
    _lock: Option<File>,
    kept: bool,
}

impl Temporary {
    /// Makes the directory; parents are made. Removes those that killed writers of the same target left.
    pub(super) fn create(target: &Path) -> Result<Self, BundleError> {
        let path = sibling(target, SUFFIX)?;
        remove_abandoned(target);
        remove_if_there(&path)?;
        fs::create_dir_all(&path).map_err(|source| io(&path, source))?;
        Ok(Self { _lock: lock(&path), path, kept: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds is elsewhere now, or no longer this writer's.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to tell; the next writer of the same target removes it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// `.{name}.{pid}.{suffix}` beside the target: on the same file system, so that a rename is one step.
pub(super) fn sibling(target: &Path, suffix: &str) -> Result<PathBuf, BundleError> {
    let name = name(target).ok_or_else(|| BundleError::FileName(target.display().to_string()))?;
    Ok(target.with_file_name(format!(".{name}.{}.{suffix}", std::process::id())))
}

pub(super) fn remove_if_there(directory: &Path) -> Result<(), BundleError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(directory, error)),
        _ => Ok(()),
    }
}

fn name(target: &Path) -> Option<String> {
    target.file_name().map(|name| name.to_string_lossy().into_owned())
}

/// Removes directories that nobody holds a lock on. What cannot be read or removed is clutter, not a failure.
fn remove_abandoned(target: &Path) {
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Some(name), Ok(entries)) = (name(target), fs::read_dir(parent)) else { return };
    for entry in entries.flatten() {
        let is_abandoned = is_temporary_of(&name, &entry.file_name().to_string_lossy())
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
            && lock(&entry.path()).is_some();
        if is_abandoned {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether this is the name of a temporary directory for a target, of any process.
fn is_temporary_of(target: &str, name: &str) -> bool {
    let pid = name.strip_prefix('.').and_then(|rest| rest.strip_prefix(target)?.strip_prefix('.'));
    let pid = pid.and_then(|rest| rest.strip_suffix(SUFFIX)?.strip_suffix('.'));
    pid.is_some_and(|pid| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Locks a directory; none where another has it, or where the system locks no directories.
fn lock(directory: &Path) -> Option<File> {
    let file = File::open(directory).ok()?;
    match file.try_lock() {
        Ok(()) => Some(file),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_directories_of_the_same_target_are_told_as_such() {
        assert!(is_temporary_of("bundle", ".bundle.41.tmp"));
        for other in
            ["bundle.41.tmp", ".bundle.41.old", ".bundle..tmp", ".bundle.v2.41.tmp", ".bundle2.41.tmp", "bundle"]
        {
            assert!(!is_temporary_of("bundle", other), "{other}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("bundle");
        let [left, living, old] =
            [".bundle.1.tmp", ".bundle.2.tmp", ".bundle.1.old"].map(|name| folder.path().join(name));
        for path in [&left, &living, &old] {
            fs::create_dir(path).expect("a folder");
            fs::write(path.join("vqgan.safetensors"), "half").expect("a file");
        }
        let held = lock(&living).expect("a lock");
        drop(Temporary::create(&target).expect("a temporary folder"));
        assert!(!left.exists() && living.exists() && old.exists());
        drop(held);
        drop(Temporary::create(&target).expect("a temporary folder"));
        assert!(!living.exists());
        assert_eq!(fs::read_dir(folder.path()).expect("entries").count(), 1, "only what was moved aside");
    }
}
