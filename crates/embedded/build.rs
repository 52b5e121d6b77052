//! Lists the files of `models/default`, so that any bundle there is compiled in, and none is no error.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let models = manifest.join("../../models");
    let directory = models.join("default");
    println!("cargo:rerun-if-changed=build.rs");
    // Cargo also follows a directory that does not exist yet.
    println!("cargo:rerun-if-changed={}", directory.display());

    let mut files = Vec::new();
    if directory.join("config.json").is_file() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if entry.file_type()?.is_file() && !hidden {
                println!("cargo:rerun-if-changed={}", entry.path().display());
                files.push(entry);
            }
        }
    }
    files.sort_by_key(fs::DirEntry::file_name);

    let mut list = String::from("&[\n");
    for file in files {
        let (name, path) = (file.file_name(), file.path().canonicalize()?);
        writeln!(list, "    ({:?}, include_bytes!({:?})),", name.to_string_lossy(), path.to_string_lossy())?;
    }
    list.push_str("]\n");
    fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("files.rs"), list)?;
    Ok(())
}
