//! Sample sheets: labelled rows of pictures in one gray PNG.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use raygen_eval::GrayImage;
use raygen_eval::sheet::Sheet;
use raygen_model::image::Picture;

use super::disk::{named, write_synced};

/// A row of a sheet: its label and its pictures.
pub type SheetRow = (String, Vec<Picture>);

/// Writes `rows`, at most `columns` pictures in a line, to `path`. A longer row goes on in the next line.
///
/// # Errors
/// Where a picture has no pixels or the file cannot be written.
pub fn write_sheet(path: &Path, rows: &[SheetRow], columns: usize) -> Result<()> {
    let mut sheet = Sheet::new(columns);
    for (label, pictures) in rows {
        for (line, pictures) in pictures.chunks(columns.max(1)).enumerate() {
            let images =
                pictures.iter().map(|p| GrayImage::new(p.width, p.height, &p.pixels)).collect::<Result<Vec<_>, _>>()?;
            sheet.row(if line == 0 { label.as_str() } else { "" }, &images)?;
        }
    }
    let png = sheet.to_png()?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(write_synced(path, &png).map_err(|error| named(path, &error))?)
}
