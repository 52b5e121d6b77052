//! Finding pictures: by folder and name, and from the manifest's folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::PrepareError;

/// Folders below the given one that are looked into; archives have two or three levels.
const DEPTH: usize = 8;

/// `path` as seen from `folder`, both free of links and dots.
pub(super) fn relative(path: &Path, folder: &Path) -> PathBuf {
    let (mut path_parts, mut folder_parts) = (path.components().peekable(), folder.components().peekable());
    while let (Some(a), Some(b)) = (path_parts.peek(), folder_parts.peek()) {
        if a != b {
            break;
        }
        path_parts.next();
        folder_parts.next();
    }
    folder_parts.map(|_| Component::ParentDir).chain(path_parts).collect()
}

/// The files below `folder`, sorted by path, so that what is found never depends on the file system.
pub(super) fn walk(folder: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(PrepareError::read(&folder))? {
            let path = entry.map_err(PrepareError::read(&folder))?.path();
            if !path.is_dir() {
                files.push(path);
            } else if depth < DEPTH {
                folders.push((path, depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Pictures of an archive by a key made of their name.
pub(super) struct PictureIndex {
    by_key: HashMap<String, PathBuf>,
    key: fn(&str) -> String,
}

impl PictureIndex {
    /// Indexes the pictures below `folder`. Of two with the same key the first by path counts.
    pub(super) fn of(folder: &Path, key: fn(&str) -> String) -> Result<Self, PrepareError> {
        let mut by_key = HashMap::new();
        for path in walk(folder)? {
            let picture = path.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| {
                ["png", "jpg", "jpeg", "dcm"].iter().any(|known| extension.eq_ignore_ascii_case(known))
            });
            if let (true, Some(name)) = (picture, path.file_name().and_then(|name| name.to_str())) {
                by_key.entry(key(name)).or_insert(path);
            }
        }
        Ok(Self { by_key, key })
    }

    /// The picture that a table calls `name`.
    pub(super) fn find(&self, name: &str) -> Option<&Path> {
        self.by_key.get(&(self.key)(name)).map(PathBuf::as_path)
    }
}

/// A file's name without the endings of pictures, of which Open-i has two: `1_IM-0001-4001.dcm.png`.
pub(super) fn stem(name: &str) -> String {
    let mut stem = name;
    while let Some((rest, ending)) = stem.rsplit_once('.') {
        if !["png", "jpg", "jpeg", "dcm"].iter().any(|known| ending.eq_ignore_ascii_case(known)) {
            break;
        }
        stem = rest;
    }
    stem.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_the_manifests_folder() {
        let seen = |path, folder| relative(Path::new(path), Path::new(folder));
        assert_eq!(seen("/a/b/c.png", "/a"), Path::new("b/c.png"));
        assert_eq!(seen("/a/b/c.png", "/a/d/e"), Path::new("../../b/c.png"));
        assert_eq!(seen("/x/c.png", "/a"), Path::new("../x/c.png"));
    }

    #[test]
    fn both_endings_of_a_picture_go() {
        assert_eq!(stem("1_IM-0001-4001.dcm.png"), "1_IM-0001-4001");
        assert_eq!(stem("00000001_000.JPG"), "00000001_000");
        assert_eq!(stem("v1.2"), "v1.2");
    }
}
