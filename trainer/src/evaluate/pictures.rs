//! Sets of pictures to be judged: films of a manifest, or pictures from anywhere, all square and of one size.

use std::path::Path;

use anyhow::{Context, Result, bail};
use raygen_eval::GrayImage;
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
    /// Of a generated picture the film whose impression it was made from.
    pub(super) prompt: Option<String>,
}

/// Pictures of one size, in [0, 1].
#[derive(Debug, Clone)]
pub(super) struct PictureSet {
    pub(super) side: usize,
    pub(super) items: Vec<Item>,
    /// Row-major, one picture after another.
    pixels: Vec<f32>,
}

// === impl PictureSet ===

impl PictureSet {
    /// The frontal films of `split` in `manifest`, or of all splits, as squares of `side` pixels.
    pub(super) fn read(manifest: &Path, split: Option<Split>, side: usize) -> Result<Self> {
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
        let pixels: Vec<Vec<f32>> =
            films.par_iter().map(|film| Ok(decode(&film.path, side)?.pixels)).collect::<Result<_>>()?;
        let items = films.into_iter().map(Item::of).collect();
        Ok(Self { side, items, pixels: pixels.concat() })
    }

    /// The pictures of a folder: those of its `manifest.csv`, or else every picture in it, of which nothing more is known.
    pub(super) fn of_folder(folder: &Path, side: usize) -> Result<Self> {
        let manifest = folder.join("manifest.csv");
        if manifest.is_file() {
            return Self::read(&manifest, None, side);
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
        let pixels: Vec<Vec<f32>> =
            paths.par_iter().map(|path| Ok(decode(path, side)?.pixels)).collect::<Result<_>>()?;
        let items = paths
            .iter()
            .map(|path| {
                let id = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                Item { group: id.clone(), id, view: None, impression: None, labels: Labels::Unlabelled, prompt: None }
            })
            .collect();
        Ok(Self { side, items, pixels: pixels.concat() })
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Pixels of a picture, row by row.
    pub(super) fn pixels(&self, index: usize) -> &[f32] {
        let area = self.side * self.side;
        &self.pixels[index * area..][..area]
    }

    pub(super) fn picture(&self, index: usize) -> Picture {
        Picture { width: self.side, height: self.side, pixels: self.pixels(index).to_vec() }
    }

    /// All pictures, as metrics read them.
    pub(super) fn images(&self) -> Result<Vec<GrayImage<'_>>> {
        (0..self.len()).map(|index| Ok(GrayImage::new(self.side, self.side, self.pixels(index))?)).collect()
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
            prompt: film.other.get("prompt_of").cloned(),
        }
    }
}

fn decode(path: &Path, side: usize) -> Result<Picture> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let picture = image::decode(&bytes, None, None, &DecodeLimits::default());
    picture.and_then(|picture| image::prepare(&picture, side)).with_context(|| path.display().to_string())
}
