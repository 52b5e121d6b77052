#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use raygen_manifest::{Film, Manifest};

use super::{FilmPixels, FilmStore, Stored};
use crate::data::FilmError;
use crate::run::StopSignal;

const SIDE: usize = 8;

/// Seven films of one gray each, and the manifest.
struct Archive {
    folder: tempfile::TempDir,
    films: Vec<Film>,
}

impl Archive {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = "path\n".to_owned();
        for film in 0..7 {
            gray_film(&folder.path().join(format!("film-{film}.png")), 30 * film + 10);
            manifest.push_str(&format!("film-{film}.png\n"));
        }
        let path = folder.path().join("manifest.csv");
        fs::write(&path, manifest).unwrap();
        let films = Manifest::read(&path).unwrap().films;
        Self { folder, films }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The store `name`, of shards of three films.
    fn store(&self, name: &str) -> FilmStore {
        FilmStore::new(&self.path(name), SIDE).with_films_per_shard(3)
    }

    fn fill(&self, name: &str) -> Vec<Stored> {
        self.fill_or_stop(name, &StopSignal::default()).unwrap()
    }

    fn fill_or_stop(&self, name: &str, stop: &StopSignal) -> Option<Vec<Stored>> {
        let films: Vec<&Film> = self.films.iter().collect();
        self.store(name).fill(&films, stop).unwrap()
    }

    fn pixels(&self, name: &str) -> FilmPixels {
        let slots = self.fill(name).into_iter().map(|stored| match stored {
            Stored::Pixels(slot) => slot,
            Stored::Problem(problem) => panic!("{problem}"),
        });
        FilmPixels::new(self.store(name), slots.collect())
    }

    /// Makes a film's file another, of the same size and time, so that only reading it tells.
    fn replace_secretly(&self, film: usize) {
        let path = self.path(&format!("film-{film}.png"));
        let (bytes, modified) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
        fs::write(&path, vec![0; bytes.len()]).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
}

fn gray_film(path: &Path, gray: u8) {
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), SIDE as u32, SIDE as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_image_data(&[gray; SIDE * SIDE]).unwrap();
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

fn grays(pixels: &FilmPixels) -> Vec<u8> {
    let gray = |film| {
        let film = pixels.film(film).unwrap();
        assert!(film.len() == SIDE * SIDE && film.iter().all(|pixel| *pixel == film[0]));
        film[0]
    };
    (0..7).map(gray).collect()
}

#[test]
fn decoding_that_is_stopped_goes_on_with_the_next_shard_and_ends_the_same() {
    let archive = Archive::new();
    assert_eq!(grays(&archive.pixels("whole")), [10, 40, 70, 100, 130, 160, 190]);
    let stop = StopSignal::default();
    // Raised before it begins: one shard is made, then it stops.
    stop.raise();
    assert!(archive.fill_or_stop("pieces", &stop).is_none());
    assert!(archive.fill_or_stop("pieces", &stop).is_none());
    fs::write(archive.path("pieces/shard-00002.u8.tmp"), "half").unwrap();
    assert!(archive.fill_or_stop("pieces", &stop).is_some());
    assert_eq!(contents(&archive.path("whole")), contents(&archive.path("pieces")));
}

#[test]
fn later_starts_decode_nothing_but_what_has_changed() {
    let archive = Archive::new();
    archive.fill("store");
    (0..7).for_each(|film| archive.replace_secretly(film));
    assert_eq!(grays(&archive.pixels("store")), [10, 40, 70, 100, 130, 160, 190], "nothing was decoded again");
    gray_film(&archive.path("film-4.png"), 77);
    let path = archive.path("film-4.png");
    File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(grays(&archive.pixels("store")), [10, 40, 70, 100, 77, 160, 190], "only this one was decoded");
}

#[test]
fn films_that_are_gone_from_the_manifest_take_their_shards_along() {
    let mut archive = Archive::new();
    archive.fill("store");
    archive.films.truncate(4);
    assert_eq!(archive.fill("store").len(), 4);
    let names: Vec<String> = contents(&archive.path("store")).into_keys().collect();
    assert_eq!(names, ["lock", "shard-00000.json", "shard-00000.u8", "shard-00001.json", "shard-00001.u8"]);
}

#[test]
fn a_truncated_shard_is_made_anew_and_an_altered_one_when_it_is_read() {
    let archive = Archive::new();
    archive.fill("store");
    let whole = contents(&archive.path("store"));
    let shard = archive.path("store/shard-00001.u8");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    archive.fill("store");
    assert_eq!(contents(&archive.path("store")), whole);
    fs::remove_file(&shard).unwrap();
    archive.fill("store");
    assert_eq!(contents(&archive.path("store")), whole);
    let mut altered = bytes;
    altered[SIDE * SIDE] ^= 1;
    fs::write(&shard, altered).unwrap();
    let pixels = archive.pixels("store");
    assert!(pixels.film(3).is_ok(), "the film before is whole");
    let error = pixels.film(4).unwrap_err();
    assert!(matches!(&error, FilmError::Damaged { shard: named, .. } if *named == shard), "{error}");
    archive.fill("store");
    assert_eq!(contents(&archive.path("store")), whole);
}

#[test]
fn a_film_that_is_no_picture_is_a_problem_of_its_own_until_it_is_repaired() {
    let archive = Archive::new();
    fs::write(archive.path("film-1.png"), "no picture").unwrap();
    fs::remove_file(archive.path("film-5.png")).unwrap();
    for _ in 0..2 {
        let stored = archive.fill("store");
        let problems = stored.iter().enumerate().filter(|(_, stored)| matches!(stored, Stored::Problem(_)));
        assert_eq!(problems.map(|(film, _)| film).collect::<Vec<_>>(), [1, 5]);
    }
    // Beside it pixels that were altered are not taken for what was written.
    let shard = archive.path("store/shard-00000.u8");
    let mut pixels = fs::read(&shard).unwrap();
    let whole = pixels.clone();
    pixels[0] ^= 1;
    fs::write(&shard, pixels).unwrap();
    archive.fill("store");
    assert_eq!(fs::read(&shard).unwrap(), whole);
    gray_film(&archive.path("film-1.png"), 41);
    gray_film(&archive.path("film-5.png"), 161);
    assert_eq!(grays(&archive.pixels("store")), [10, 41, 70, 100, 130, 161, 190]);
}

// Everything that is written to /dev/full meets a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_the_shards_that_are_there() {
    let archive = Archive::new();
    archive.fill("store");
    let whole = contents(&archive.path("store"));
    let store = archive.store("store");
    let index = store.shard(1).read_index(SIDE).unwrap().unwrap();
    for file in ["u8", "json"] {
        let full = archive.path(&format!("store/shard-00001.{file}.tmp"));
        std::os::unix::fs::symlink("/dev/full", full).unwrap();
        let error = store.shard(1).write(&index, &whole["shard-00001.u8"]).unwrap_err().to_string();
        assert!(error.contains(&format!("shard-00001.{file}")) && error.contains("free space"), "{error}");
        assert_eq!(contents(&archive.path("store")), whole);
    }
}
