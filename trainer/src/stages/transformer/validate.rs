//! What the transformer makes of films that it was not trained on, and pictures of what it generates.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{DType, Tensor};
use raygen_model::image::ImageError;
use raygen_model::sampler::{self, SampleState, SamplingError, SamplingParams};
use raygen_model::text::TextTokenizer;
use raygen_nn::cross_entropy;

use super::batch::{Batches, MaskedBatch};
use super::network::Networks;
use crate::run::write_sheet;
use crate::stages::Stage;
use crate::stages::tokenizer::{Tokenizer, pictures};

/// Samples of each impression on the sheet.
const SAMPLES: usize = 8;
/// Impressions on the sheet, where the films name none of their own: the commonest of the training films.
const IMPRESSIONS: usize = 3;

/// Means over the validation films, each at four fixed masks; of each mask the mean over its tokens counts, however many they are.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Negative log-likelihood in nats per masked token, given the film's impression.
    pub nll: f64,
    /// The same given the empty text: what the text is worth is the difference.
    pub nll_without_text: f64,
    /// Share of masked tokens whose true id is the likeliest, given the impression.
    pub accuracy: f64,
}

pub(super) fn validate(networks: &Networks, batches: &Batches<'_>) -> Result<Report> {
    let (nll, accuracy) = score(networks, &batches.validation(true)?)?;
    let (nll_without_text, _) = score(networks, &batches.validation(false)?)?;
    Ok(Report { nll, nll_without_text, accuracy })
}

/// The published validation loss: of each batch the mean cross-entropy over its masked tokens, so that films with many masks
/// weigh more; over batches the mean, weighted by their films.
pub(super) fn masked_loss(networks: &Networks, batches: &[MaskedBatch]) -> Result<f64> {
    let (mut total, mut films) = (0.0, 0.0);
    for batch in batches {
        let logits = networks.logits(batch)?.detach().flatten(0, 1)?;
        let loss = cross_entropy(&logits, &batch.targets.flatten_all()?, &batch.weights.flatten_all()?, 0.0)?;
        let count = batch.targets.dim(0)? as f64;
        total += count * f64::from(loss.to_scalar::<f32>()?);
        films += count;
    }
    Ok(total / films)
}

fn score(networks: &Networks, batches: &[MaskedBatch]) -> Result<(f64, f64)> {
    let (mut total, mut right, mut count) = (0.0, 0.0, 0.0);
    for batch in batches {
        let logits = networks.logits(batch)?.detach();
        let codes = logits.dim(2)?;
        let logits = logits.flatten_all()?.to_vec1::<f32>()?;
        let targets = batch.targets.flatten_all()?.to_vec1::<u32>()?;
        let weights = batch.weights.flatten_all()?.to_vec1::<f32>()?;
        let positions = batch.targets.dim(1)?;
        let rows = logits.chunks_exact(positions * codes);
        for ((logits, targets), weights) in
            rows.zip(targets.chunks_exact(positions)).zip(weights.chunks_exact(positions))
        {
            let (nll, hits) = score_row(logits, targets, weights, codes);
            total += nll;
            right += hits;
            count += 1.0;
        }
    }
    Ok((total / count, right / count))
}

/// Means over the hidden tokens of one grid: negative log-likelihood in nats, and share of hits.
fn score_row(logits: &[f32], targets: &[u32], weights: &[f32], codes: usize) -> (f64, f64) {
    let (mut nll, mut hits, mut count) = (0.0, 0.0, 0.0);
    for ((row, target), hidden) in logits.chunks_exact(codes).zip(targets).zip(weights) {
        if *hidden == 0.0 {
            continue;
        }
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|l| f64::from(l - largest).exp()).sum();
        let own = f64::from(row[*target as usize] - largest);
        nll += sum.ln() - own;
        hits += f64::from(u8::from(own == 0.0));
        count += 1.0;
    }
    (nll / count, hits / count)
}

/// Draws eight samples of each of the commonest impressions, a row an impression; the same seeds in each row.
/// False where the networks gave what is no number: then nothing is drawn.
pub(super) fn draw(
    networks: &Networks,
    stage: &Stage<'_>,
    tokenizer: &Tokenizer,
    text: &TextTokenizer,
    path: &Path,
) -> Result<bool> {
    match draw_sheet(networks, stage, tokenizer, text, path) {
        Ok(()) => Ok(true),
        Err(error) if is_not_finite(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_not_finite(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(SamplingError::NotFinite { .. }))
        || matches!(error.downcast_ref(), Some(ImageError::NotFinite { .. }))
}

fn draw_sheet(
    networks: &Networks,
    stage: &Stage<'_>,
    tokenizer: &Tokenizer,
    text: &TextTokenizer,
    path: &Path,
) -> Result<()> {
    let params = &stage.config.export.sampling;
    let mut sheet = Vec::new();
    for impression in common_impressions(stage) {
        let grids = sample(networks, tokenizer, text, &impression, params)?;
        let side = tokenizer.config.grid_side();
        let ids = Tensor::from_vec(grids.concat(), (grids.len(), side, side), stage.device)?;
        sheet.push((impression, pictures(&tokenizer.network.decode(&ids)?)?));
    }
    write_sheet(path, &sheet, SAMPLES)
}

fn common_impressions(stage: &Stage<'_>) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for film in &stage.films.train {
        *counts.entry(stage.films.texts[*film].impression.as_str()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().filter(|(text, _)| !text.is_empty()).collect();
    // Common ones first; among equals the alphabet decides, so that every sheet of a run shows the same ones.
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(IMPRESSIONS).map(|(text, _)| text.to_owned()).collect()
}

/// Generates [`SAMPLES`] grids for `impression`.
fn sample(
    networks: &Networks,
    tokenizer: &Tokenizer,
    text: &TextTokenizer,
    impression: &str,
    params: &SamplingParams,
) -> Result<Vec<Vec<u32>>> {
    let positions = tokenizer.config.positions();
    let mask_id = u32::try_from(tokenizer.config.codebook_size).context("codebook size")?;
    let mut states: Vec<_> = (0..SAMPLES).map(|i| SampleState::new(positions, mask_id, i as u32)).collect();
    let texts = [impression, ""].map(|t| text.tokenize(t));
    let [conditional, empty] = texts;
    let (conditional, empty) = (conditional?, empty?);
    for step in 0..params.step_count {
        let ids: Vec<u32> = states.iter().flat_map(|s| s.ids.iter().copied()).collect();
        let run = |tokens: &raygen_model::text::TextTokens| -> Result<Vec<f32>> {
            let length = tokens.ids.len();
            let tile = |values: Tensor| values.repeat((SAMPLES, 1));
            let device = networks.device();
            let batch = MaskedBatch {
                ids: Tensor::from_slice(&ids, (SAMPLES, positions), device)?,
                targets: Tensor::zeros((SAMPLES, positions), DType::U32, device)?,
                weights: Tensor::zeros((SAMPLES, positions), DType::F32, device)?,
                text_ids: tile(Tensor::from_slice(&tokens.ids, (1, length), device)?)?,
                text_mask: tile(Tensor::from_slice(&tokens.mask, (1, length), device)?)?,
                views: vec![None; SAMPLES],
                masked: 0,
                places: Vec::new(),
            };
            Ok(networks.logits(&batch)?.detach().flatten_all()?.to_vec1::<f32>()?)
        };
        let mut logits = run(&conditional)?;
        let scale = sampler::guidance_at(params, step);
        if scale != 1.0 {
            logits = sampler::combine(&logits, &run(&empty)?, scale);
        }
        let each = logits.len() / SAMPLES;
        for (state, logits) in states.iter_mut().zip(logits.chunks_exact(each)) {
            sampler::advance(state, params, logits)?;
        }
    }
    Ok(states.into_iter().map(|s| s.ids).collect())
}
