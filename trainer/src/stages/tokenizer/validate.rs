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

/// Reconstruction of the validation films.
pub(super) struct Report {
    /// Mean over films of the peak signal-to-noise ratio, in dB.
    pub(super) psnr: f64,
    /// The same of at most as many films that it learnt from: how far it does worse on films that it has not seen.
    pub(super) train_psnr: f64,
    /// Codes that occur in the films' grids.
    pub(super) codes_used: usize,
    /// Perplexity of the codes' use: the number of equally common codes that would be as varied.
    pub(super) perplexity: f64,
}

pub(super) fn validate(network: &VqGan, films: &FilmSet, device: &Device) -> Result<Report> {
    let (psnr, counts) = reconstruct(network, films, &films.val, device)?;
    let (train_psnr, _) = reconstruct(network, films, &spread(&films.train, films.val.len()), device)?;
    let tokens = counts.iter().sum::<u64>() as f64;
    let entropy: f64 = counts.iter().filter(|c| **c > 0).map(|c| *c as f64 / tokens).map(|p| -p * p.ln()).sum();
    Ok(Report { psnr, train_psnr, codes_used: counts.iter().filter(|c| **c > 0).count(), perplexity: entropy.exp() })
}

/// At most `count` of `films`, evenly spread over them.
fn spread(films: &[usize], count: usize) -> Vec<usize> {
    let count = count.min(films.len());
    (0..count).map(|place| films[place * films.len() / count]).collect()
}

/// Of the films `indices` the mean PSNR of their reconstructions, and how often each code occurs in their grids.
fn reconstruct(network: &VqGan, films: &FilmSet, indices: &[usize], device: &Device) -> Result<(f64, Vec<u64>)> {
    let mut total = 0.0;
    let mut counts = vec![0u64; network.codebook().dim(0)?];
    for batch in indices.chunks(BATCH) {
        let images = film_tensor(films, batch, network.config().in_channels, device)?;
        let ids = network.encode(&images)?;
        for id in ids.flatten_all()?.to_vec1::<u32>()? {
            counts[id as usize] += 1;
        }
        total += sum_of_psnr(&images, &network.decode(&ids)?)?;
    }
    Ok((total / indices.len() as f64, counts))
}

/// The sum over films of their PSNR in dB; `films` and `pictures` are [batch, channels, height, width] in [-1, 1].
pub(in crate::stages) fn sum_of_psnr(films: &Tensor, pictures: &Tensor) -> Result<f64> {
    // Half the difference is the error in [0, 1].
    let errors = ((films - pictures)? * 0.5)?.sqr()?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
    // `max` alone would take a NaN for a perfect reconstruction.
    let floored = |e: &f32| if e.is_nan() { *e } else { e.max(1e-12) };
    Ok(errors.iter().map(|e| -10.0 * f64::from(floored(e)).log10()).sum())
}

/// Draws validation films above their reconstructions.
pub(super) fn draw(network: &VqGan, films: &FilmSet, device: &Device, path: &Path) -> Result<()> {
    let indices: Vec<usize> = films.val.iter().copied().take(DRAWN).collect();
    let images = film_tensor(films, &indices, network.config().in_channels, device)?;
    let back = network.decode(&network.encode(&images)?)?;
    let rows = [("films".to_owned(), pictures(&images)?), ("reconstructions".to_owned(), pictures(&back)?)];
    write_sheet(path, &rows, indices.len())
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
