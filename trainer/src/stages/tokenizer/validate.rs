//! What the tokenizer loses on films that it was not trained on.

use std::path::Path;

use anyhow::Result;
use candle_core::{Device, Tensor};
use raygen_model::image::Picture;
use raygen_model::vqgan::VqGan;

use super::film_tensor;
use crate::data::FilmSet;
use crate::run::write_sheet;

/// Films decoded at once.
const BATCH: usize = 8;
/// Films on the sheet.
const DRAWN: usize = 8;

/// Reconstruction on the validation films.
pub(super) struct Report {
    /// Mean over films of the peak signal-to-noise ratio, in dB.
    pub(super) psnr: f64,
}

pub(super) fn validate(network: &VqGan, films: &FilmSet, device: &Device) -> Result<Report> {
    let mut total = 0.0;
    for indices in films.val.chunks(BATCH) {
        let images = film_tensor(films, indices, device)?;
        let back = network.decode(&network.encode(&images)?)?;
        // Both are in [-1, 1]: half the difference is the error in [0, 1].
        let errors = ((images - back)? * 0.5)?.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        total += errors.iter().map(|e| -10.0 * f64::from(e.max(1e-12)).log10()).sum::<f64>();
    }
    Ok(Report { psnr: total / films.val.len() as f64 })
}

/// Draws validation films above their reconstructions.
pub(super) fn draw(network: &VqGan, films: &FilmSet, device: &Device, path: &Path) -> Result<()> {
    let indices: Vec<usize> = films.val.iter().copied().take(DRAWN).collect();
    let images = film_tensor(films, &indices, device)?;
    let back = network.decode(&network.encode(&images)?)?;
    let mut pictures = pictures(&images)?;
    pictures.extend(self::pictures(&back)?);
    write_sheet(path, &pictures, indices.len())?;
    Ok(())
}

/// Images [batch, channels, side, side] in [-1, 1] as pictures; the mean of the channels.
pub(in crate::stages) fn pictures(images: &Tensor) -> Result<Vec<Picture>> {
    let (batch, _, height, width) = images.dims4()?;
    let gray = ((images.mean(1)? + 1.0)? * 0.5)?;
    (0..batch)
        .map(|i| {
            let pixels = gray.get(i)?.flatten_all()?.to_vec1::<f32>()?;
            Ok(Picture { width, height, pixels })
        })
        .collect()
}
