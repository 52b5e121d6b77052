//! Sheets to look at: each class, one picture's emergence, the most suspicious pictures.

use std::path::Path;

use anyhow::{Context as _, Result};
use raygen_manifest::CLASSES;
use raygen_model::model::{Model, Row};
use raygen_model::sampler::SamplingParams;

use super::memorisation::{Found, Sets};
use super::pictures::PictureSet;
use crate::run::{SheetRow, write_sheet};

/// Pictures in a row.
const COLUMNS: usize = 8;
/// Pairs of a generated picture and its nearest film.
const PAIRS: usize = 8;

/// Films and pictures of each class (Figure 2 of the paper); false where nothing has a label.
pub(super) fn classes(real: &PictureSet, generated: &PictureSet, path: &Path) -> Result<bool> {
    let mut rows: Vec<SheetRow> = Vec::new();
    for class in CLASSES.into_iter().map(Some).chain([None]) {
        let of = |set: &PictureSet| {
            let wanted = |place: &usize| {
                let item = &set.items[*place];
                match class {
                    Some(class) => item.shows(class) == Some(true),
                    None => CLASSES.iter().all(|class| item.shows(class) == Some(false)),
                }
            };
            (0..set.len()).filter(wanted).take(COLUMNS).map(|place| set.picture(place)).collect::<Result<Vec<_>>>()
        };
        let (films, pictures) = (of(real)?, of(generated)?);
        let name = class.unwrap_or("none of these");
        if !pictures.is_empty() {
            rows.push((format!("{name}: films"), films));
            rows.push((format!("{name}: generated"), pictures));
        }
    }
    rows.retain(|(_, pictures)| !pictures.is_empty());
    if rows.is_empty() {
        return Ok(false);
    }
    write_sheet(path, &rows, COLUMNS)?;
    Ok(true)
}

/// One picture from the first step to the last (Figure 3 of the paper).
pub(super) fn emergence(model: &Model, impression: &str, params: &SamplingParams, path: &Path) -> Result<()> {
    let condition = model.condition(&model.tokenize(impression)?)?;
    let mut state = model.empty_state(0);
    let mut rows = [Row { condition: &condition, negative: None, params, state: &mut state }];
    let mut grids = Vec::new();
    model.generate_rows_watched(&mut rows, |rows| grids.extend(rows.first().map(|row| row.state.latest().to_vec())))?;
    let shown = COLUMNS.min(grids.len());
    let steps: Vec<usize> = (1..=shown).map(|place| place * grids.len() / shown - 1).collect();
    let mask = model.info().mask_token_id;
    let pictures = steps
        .iter()
        .map(|step| {
            // What is not decided yet is shown as the code that comes first: the decoder knows no undecided token.
            let decided: Vec<u32> = grids[*step].iter().map(|id| if *id == mask { 0 } else { *id }).collect();
            let mut picture = model.decode(&[&decided])?.pop().context("no picture")?;
            shade(&mut picture.pixels, &grids[*step], mask, (model.info().grid_width, picture.width));
            Ok(picture)
        })
        .collect::<Result<Vec<_>>>()?;
    let label = format!(
        "{impression}: after steps {}",
        steps.iter().map(|s| (s + 1).to_string()).collect::<Vec<_>>().join(", ")
    );
    write_sheet(path, &[(label, pictures)], COLUMNS)
}

/// Makes what is not decided black.
fn shade(pixels: &mut [f32], grid: &[u32], mask: u32, (columns, width): (usize, usize)) {
    let side = width / columns.max(1);
    for (place, pixel) in pixels.iter_mut().enumerate() {
        let (y, x) = (place / width, place % width);
        if grid.get((y / side) * columns + x / side) == Some(&mask) {
            *pixel = 0.0;
        }
    }
}

/// The most suspicious pictures above the training films that they are nearest to.
pub(super) fn suspects(sets: &Sets<'_>, found: &Found, path: &Path) -> Result<()> {
    let pairs: Vec<(usize, usize)> = found.suspects.iter().take(PAIRS).map(|suspect| suspect.places).collect();
    let (generated, training): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
    let rows = [
        (format!("generated, nearest by {}", found.space), sets.generated.pictures(&generated)?),
        ("the training films".to_owned(), sets.training.pictures(&training)?),
    ];
    write_sheet(path, &rows, PAIRS)
}
