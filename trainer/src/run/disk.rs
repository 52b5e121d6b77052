//! Writing files so that a reader never sees half of one, and a full disk that is named with what to do.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Ends the names of files that are being written.
const TEMPORARY: &str = ".tmp";

/// Writes through a temporary name, so that the final name only ever holds whole content.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes)?;
    put_in_place(&temporary, path)
}

/// Writes and syncs `bytes` beside `path`, whose content stays; the name it has until it is put in place.
pub(crate) fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    let temporary = PathBuf::from(name);
    let result = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match result {
        Ok(()) => Ok(temporary),
        Err(error) => {
            // What did not fit would keep its space.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// Gives a file its final name.
pub(crate) fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::rename(temporary, path).inspect_err(|_| {
        let _ = fs::remove_file(temporary);
    })
}

/// Makes the names in `folder` last.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Opening a folder as a file is a Unix notion.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes what a killed trainer left half-written in `folder`: it is of no use, and its space may be needed.
pub(crate) fn remove_temporaries(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.to_str().is_some_and(|path| path.ends_with(TEMPORARY)) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What to do where `error` says that no more can be written; empty where it says something else.
pub(crate) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull => {
            "; free space on this disk, then run the same command: it goes on from what was saved"
        }
        ErrorKind::QuotaExceeded => {
            "; free space in your quota, then run the same command: it goes on from what was saved"
        }
        ErrorKind::FileTooLarge => {
            "; raise the limit on the size of files (ulimit -f), then run the same command: it goes on from what was saved"
        }
        ErrorKind::ReadOnlyFilesystem => "; make the disk writable, then run the same command",
        _ => "",
    }
}

/// `error` with the file that it is about and what to do; of the same kind.
pub(crate) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}{}", path.display(), advice(error)))
}

/// `error` with what to do, where a cause of it says that no more can be written and nothing has said yet what to do.
pub(crate) fn advised(error: anyhow::Error) -> anyhow::Error {
    let advice = error.chain().filter_map(|cause| cause.downcast_ref()).map(advice).find(|advice| !advice.is_empty());
    let text = format!("{error:#}");
    match advice {
        Some(advice) if !text.contains(advice) => anyhow::anyhow!("{text}{advice}"),
        _ => error,
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_a_killed_writer_left_goes_and_whole_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        write_synced(&path, b"whole").unwrap();
        write_temporary(&path, b"half").unwrap();
        remove_temporaries(folder.path());
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["file.json"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn what_to_do_about_a_full_disk_is_said_once_whoever_met_it() {
        let full = || io::Error::from(ErrorKind::StorageFull);
        let of_a_bundle = advised(anyhow::Error::new(full()).context("bundle/vqgan.safetensors"));
        let of_metrics = advised(anyhow::Error::new(named(Path::new("metrics.jsonl"), &full())).context("stage"));
        for (error, file) in [(of_a_bundle, "bundle/vqgan.safetensors"), (of_metrics, "metrics.jsonl")] {
            let text = format!("{error:#}");
            assert!(text.contains(file) && text.matches("free space").count() == 1, "{text}");
        }
        assert_eq!(format!("{:#}", advised(anyhow::anyhow!("another").context("stage"))), "stage: another");
    }

    // Everything that is written to /dev/full meets a full disk.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_what_was_there_and_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        write_synced(&path, b"before").unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.path().join("file.json.tmp")).unwrap();
        let error = write_synced(&path, b"after").unwrap_err();
        assert_eq!((error.kind(), fs::read(&path).unwrap()), (ErrorKind::StorageFull, b"before".to_vec()));
        let named = named(&path, &error);
        let text = named.to_string();
        assert!(text.contains("file.json") && text.contains("free space"), "{text}");
        assert_eq!(named.kind(), ErrorKind::StorageFull);
        assert!(!folder.path().join("file.json.tmp").exists());
    }
}
