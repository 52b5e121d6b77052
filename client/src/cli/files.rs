//! Files that commands read and write. A written file is complete or absent.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use raygen_client::wire::{Image, ImageFormat};

use super::failure::Failure;

/// The format that a picture file's name asks for.
pub(crate) fn picture_format(path: &Path) -> Result<ImageFormat, Failure> {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    match extension.as_str() {
        "png" => Ok(ImageFormat::Png),
        "jpg" | "jpeg" => Ok(ImageFormat::Jpeg),
        "dcm" => Ok(ImageFormat::Dicom),
        _ => Err(Failure::Usage(format!("{}: a picture's name must end in .png, .jpg or .dcm", path.display()))),
    }
}

/// The extension of an encoded picture.
pub(crate) fn extension(image: &Image) -> &'static str {
    match image.format() {
        ImageFormat::Jpeg => "jpg",
        ImageFormat::Dicom => "dcm",
        ImageFormat::Raw => "raw",
        ImageFormat::Png | ImageFormat::Unspecified => "png",
    }
}

/// `film.png` becomes `film-2.png` for number 2, and stays itself without a number.
pub(crate) fn numbered(path: &Path, number: Option<u32>) -> PathBuf {
    let Some(number) = number else { return path.to_owned() };
    let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Refuses a target that cannot be written, before any work is done for it.
pub(crate) fn check_target(path: &Path) -> Result<(), Failure> {
    let usage = |problem: &str| Err(Failure::Usage(format!("{}: {problem}", path.display())));
    if path.file_name().is_none() || path.is_dir() {
        return usage("is a folder; name a file in it");
    }
    if path.exists() && !path.is_file() {
        return usage("is not a regular file; name another");
    }
    match folder_of(path) {
        folder if folder.is_dir() => Ok(()),
        folder => usage(&format!("there is no folder {}; make it first", folder.display())),
    }
}

/// Writes a file under another name beside it, then renames it: whoever reads it never sees half.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder_of(path).join(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of it is of no use; if it cannot be removed either, the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        Failure::Local(format!("{}: cannot be written: {error}", path.display()))
    })
}

/// Reads a file that the command line names.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let usage = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(usage("is a folder; name a file in it".to_owned())),
        Ok(_) => fs::read(path).map_err(|error| usage(format!("cannot be read: {error}"))),
        Err(error) => Err(usage(format!("cannot be read: {error}"))),
    }
}

/// Reads a picture to send; the server finds out its format.
pub(crate) fn read_picture(path: &Path) -> Result<Image, Failure> {
    Ok(Image { data: read(path)?, ..Image::default() })
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_picture_decides_its_format() {
        assert_eq!(picture_format(Path::new("a/b.JPEG")).ok(), Some(ImageFormat::Jpeg));
        assert_eq!(picture_format(Path::new("b.dcm")).ok(), Some(ImageFormat::Dicom));
        let refused =
            picture_format(Path::new("film.bmp")).err().map(|failure| (failure.exit_code(), failure.message()));
        assert_eq!(refused, Some((2, "error: film.bmp: a picture's name must end in .png, .jpg or .dcm".to_owned())));
        assert!(picture_format(Path::new("film")).is_err());
    }

    #[test]
    fn numbers_go_before_the_extension() {
        assert_eq!(numbered(Path::new("out/film.png"), Some(0)), Path::new("out/film-0.png"));
        assert_eq!(numbered(Path::new("film"), Some(11)), Path::new("film-11"));
        assert_eq!(numbered(Path::new("film.png"), None), Path::new("film.png"));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let target = folder.path().join("film.png");
        assert!(write_whole(&target, b"first").is_ok());
        assert!(write_whole(&target, b"second").is_ok());
        assert_eq!(fs::read(&target)?, b"second");
        // A folder in the way of the rename.
        let blocked = folder.path().join("blocked.png");
        fs::create_dir_all(blocked.join("inside"))?;
        assert_eq!(write_whole(&blocked, b"third").err().map(|failure| failure.exit_code()), Some(1));
        let mut names: Vec<_> =
            fs::read_dir(folder.path())?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
        names.sort();
        assert_eq!(names, ["blocked.png", "film.png"]);
        Ok(())
    }

    #[test]
    fn a_target_without_a_folder_is_refused_beforehand() {
        let message = check_target(Path::new("no/such/folder/film.png")).err().map(|failure| failure.message());
        assert!(message.is_some_and(|message| message.contains("there is no folder no/such/folder")));
        assert!(check_target(Path::new("film-that-is-not-there.png")).is_ok());
    }
}
