//! Sets of pictures to be judged: films of a manifest, or pictures from anywhere, all square and of one size. Small sets are held
//! in memory, training films are read when they are asked for: archives have hundreds of thousands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use raygen_manifest::{Film, Labels, Manifest, Split, View};
use raygen_model::image::{self, DecodeLimits, Picture};
use rayon::prelude::*;

/// What is known of a picture.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The manifest's path of it.
    pub(super) id: String,
    /// Whose film it is; of a generated one, whose words it was made from.
    pub(super) group: String,
    pub(super) view: Option<View>,
    pub(super) impression: Option<String>,
    pub(super) labels: Labels,
    /// Classes of which nobody can say whether it shows them.
    pub(super) uncertain: Vec<String>,
    /// Of a generated picture the film whose impression it was made from.
    pub(super) prompt: Option<String>,
}

/// Pictures of one size.
#[derive(Debug, Clone)]
pub(super) struct PictureSet {
    pub(super) side: usize,
    pub(super) items: Vec<Item>,
    paths: Vec<PathBuf>,
    /// 8 bits a pixel, row-major, one picture after another; none where they are read each time.
    held: Option<Vec<u8>>,
}

// === impl PictureSet ===

impl PictureSet {
    /// The frontal films of `split` in `manifest`, or of all splits, as squares of `side` pixels, read when they are asked for.
    pub(super) fn list(manifest: &Path, split: Option<Split>, side: usize) -> Result<Self> {
        let manifest = Manifest::read(manifest)?;
        let films: Vec<&Film> = manifest
            .films
            .iter()
            .filter(|film| film.view != Some(View::Lateral))
            .filter(|film| split.is_none_or(|split| manifest.split_of(film) == split))
            .collect();
        if films.is_empty() {
            let of = split.map_or_else(String::new, |split| format!(" of split {split}"));
            bail!("{}: no frontal film{of}", manifest.file.display());
        }
        if let Some(film) = films.iter().find(|film| !film.path.is_file()) {
            bail!("{}, line {}: there is no {}", manifest.file.display(), film.line, film.path.display());
        }
        let paths = films.iter().map(|film| film.path.clone()).collect();
        Ok(Self { side, items: films.into_iter().map(Item::of).collect(), paths, held: None })
    }

    /// The pictures of a folder, held: those of its `manifest.csv`, or else every picture in it, of which nothing more is known.
    pub(super) fn of_folder(folder: &Path, side: usize) -> Result<Self> {
        let manifest = folder.join("manifest.csv");
        if manifest.is_file() {
            return Self::list(&manifest, None, side)?.hold();
        }
        let mut paths: Vec<_> = std::fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
            .with_context(|| folder.display().to_string())?;
        let endings = ["png", "jpg", "jpeg", "dcm"];
        paths.retain(|path| {
            let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
            ending.is_some_and(|ending| endings.contains(&ending.as_str()))
        });
        paths.sort();
        if paths.is_empty() {
            bail!("{}: neither a manifest.csv nor a picture (.png, .jpg, .dcm)", folder.display());
        }
        Self { side, items: paths.iter().map(|path| Item::unknown(path)).collect(), paths, held: None }.hold()
    }

    /// The same in memory.
    pub(super) fn hold(self) -> Result<Self> {
        let area = self.side * self.side;
        let mut held = vec![0u8; self.paths.len() * area];
        held.par_chunks_mut(area).zip(&self.paths).try_for_each(|(pixels, path)| -> Result<()> {
            pixels.copy_from_slice(&decode(path, self.side)?.to_u8());
            Ok(())
        })?;
        Ok(Self { held: Some(held), ..self })
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// A picture, its pixels in [0, 1] in steps of 1/255.
    pub(super) fn picture(&self, index: usize) -> Result<Picture> {
        let (side, area) = (self.side, self.side * self.side);
        let bytes = match &self.held {
            Some(held) => held[index * area..][..area].to_vec(),
            None => decode(&self.paths[index], side)?.to_u8(),
        };
        let pixels = bytes.into_iter().map(|byte| f32::from(byte) / 255.0).collect();
        Ok(Picture { width: side, height: side, pixels })
    }

    /// Pictures at these places.
    pub(super) fn pictures(&self, places: &[usize]) -> Result<Vec<Picture>> {
        places.par_iter().map(|place| self.picture(*place)).collect()
    }

    /// Whose each picture is.
    pub(super) fn groups(&self) -> Vec<&str> {
        self.items.iter().map(|item| item.group.as_str()).collect()
    }

    /// Pictures of the same words, in order: each prompt's places.
    pub(super) fn prompts(&self) -> Vec<Vec<usize>> {
        let mut places = std::collections::BTreeMap::<&str, Vec<usize>>::new();
        for (place, item) in self.items.iter().enumerate() {
            places.entry(item.prompt.as_deref().unwrap_or(&item.id)).or_default().push(place);
        }
        places.into_values().collect()
    }
}

// === impl Item ===

impl Item {
    fn of(film: &Film) -> Self {
        Self {
            id: film.id.clone(),
            group: film.group().to_owned(),
            view: film.view,
            impression: film.impression.clone(),
            labels: film.labels.clone(),
            uncertain: film.uncertain.clone(),
            prompt: film.other.get("prompt_of").cloned(),
        }
    }

    /// A picture of which nothing is known but its name.
    fn unknown(path: &Path) -> Self {
        let id = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            group: id.clone(),
            id,
            view: None,
            impression: None,
            labels: Labels::Unlabelled,
            uncertain: Vec::new(),
            prompt: None,
        }
    }

    /// Whether it shows a class, as far as anybody knows.
    pub(super) fn shows(&self, class: &str) -> Option<bool> {
        raygen_manifest::shows(&self.labels, &self.uncertain, class)
    }
}

fn decode(path: &Path, side: usize) -> Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let picture = image::decode(&bytes, None, None, &DecodeLimits::default());
    picture.and_then(|picture| image::prepare(&picture, side)).with_context(|| path.display().to_string())
}
