//! Finding pictures: by folder and name, and from the manifest's folder.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::PrepareError;

/// Levels of folders; archives have two or three. More are refused, not passed over.
const DEPTH: usize = 100;

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

/// The files below `folder`, sorted by path, so that what is found never depends on the file system. Links are followed, but
/// for one that leads back to a folder that it is in.
pub(super) fn walk(folder: &Path) -> Result<Vec<PathBuf>, PrepareError> {
    let mut files = Vec::new();
    walk_into(folder, &mut Vec::new(), &mut files)?;
    files.sort();
    Ok(files)
}

/// `above` are the folders that lead here, free of links.
fn walk_into(folder: &Path, above: &mut Vec<PathBuf>, files: &mut Vec<PathBuf>) -> Result<(), PrepareError> {
    let real = folder.canonicalize().map_err(PrepareError::read(folder))?;
    if above.contains(&real) {
        return Ok(());
    }
    if above.len() == DEPTH {
        let deep = io::Error::other(format!("folders are nested deeper than {DEPTH} levels"));
        return Err(PrepareError::read(folder)(deep));
    }
    above.push(real);
    for entry in fs::read_dir(folder).map_err(PrepareError::read(folder))? {
        let path = entry.map_err(PrepareError::read(folder))?.path();
        if path.is_dir() {
            walk_into(&path, above, files)?;
        } else {
            files.push(path);
        }
    }
    above.pop();
    Ok(())
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
    #![allow(clippy::unwrap_used)]

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

    #[test]
    fn deep_folders_are_looked_into_and_links_to_folders_above_end() {
        let root = tempfile::tempdir().unwrap();
        let deep = (0..20).fold(root.path().to_owned(), |path, level| path.join(level.to_string()));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("film.png"), "").unwrap();
        fs::write(root.path().join("a.png"), "").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.path(), root.path().join("0/1/back")).unwrap();
        assert_eq!(walk(root.path()).unwrap(), [deep.join("film.png"), root.path().join("a.png")]);
        let too_deep = (0..DEPTH).fold(deep, |path, level| path.join(level.to_string()));
        fs::create_dir_all(&too_deep).unwrap();
        assert!(walk(root.path()).unwrap_err().to_string().contains("deeper than 100 levels"));
    }
}
