//! Batches of masked grids with their texts. What a film's batch row looks like depends on (seed, film, epoch) alone.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use raygen_model::random::{Purpose, Randomness, below, shuffle, uniform};
use raygen_model::text::{Normaliser, TextTokenizer, TextTokens};

use crate::config::TransformerStageConfig;
use crate::data::{FilmOrder, FilmSet};
use crate::stages::Stage;
use crate::stages::encode::Tokens;

/// Shares of the positions masked in validation; each film is scored at each.
const VALIDATION_RATIOS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// Masked grids and texts.
pub struct MaskedBatch {
    /// [batch, positions] u32, the mask id where hidden.
    pub ids: Tensor,
    /// [batch, positions] u32, the true ids.
    pub targets: Tensor,
    /// [batch, positions] f32, 1 where hidden and 0 elsewhere.
    pub weights: Tensor,
    /// [batch, text tokens] u32.
    pub text_ids: Tensor,
    /// [batch, text tokens] f32, 1 for a word piece and 0 for a pad.
    pub text_mask: Tensor,
}

/// Makes the batches of a run.
pub(super) struct Batches<'a> {
    films: &'a FilmSet,
    tokens: &'a Tokens,
    config: &'a TransformerStageConfig,
    device: &'a Device,
    order: FilmOrder,
    masks: Randomness,
    dropout: Randomness,
    mask_id: u32,
    /// The texts of the films, and the empty text, all as long as the longest.
    texts: Vec<PaddedText>,
    empty: PaddedText,
}

/// A text, padded.
#[derive(Clone)]
struct PaddedText {
    ids: Vec<u32>,
    mask: Vec<f32>,
}

/// One row of a batch.
struct Row<'b> {
    grid: &'b [u32],
    hidden: Vec<bool>,
    text: &'b PaddedText,
}

/// The distinct words of the training impressions, normalised, in alphabetical order.
pub(super) fn training_words(films: &FilmSet) -> Vec<String> {
    let normaliser = Normaliser::Plain;
    let words: BTreeSet<String> = films
        .train
        .iter()
        .flat_map(|film| {
            let text = normaliser.apply(&films.texts[*film].impression);
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    words.into_iter().collect()
}

// === impl Batches ===

impl<'a> Batches<'a> {
    /// Batches over the films and grids of `stage`.
    ///
    /// # Errors
    /// Where an impression cannot be tokenised.
    pub(super) fn new(stage: &'a Stage<'_>, tokens: &'a Tokens, text: &TextTokenizer, codes: usize) -> Result<Self> {
        let config = &stage.config.transformer;
        let encode = |impression: &str| text.tokenize(impression);
        let empty = encode("").context("the empty text")?;
        let mut encoded = Vec::with_capacity(stage.films.len());
        let mut truncated = 0;
        for film in &stage.films.texts {
            let tokens = encode(&film.impression).with_context(|| format!("the impression of {}", film.id))?;
            truncated += usize::from(tokens.truncated);
            encoded.push(tokens);
        }
        if truncated > 0 {
            eprintln!(
                "{truncated} impressions are longer than transformer.text.max_tokens = {} and were cut",
                config.text.max_tokens
            );
        }
        let length = encoded.iter().map(real_length).max().unwrap_or(0).max(real_length(&empty));
        Ok(Self {
            films: stage.films,
            tokens,
            config,
            device: stage.device,
            order: FilmOrder::new(stage.config.seed, stage.films.train.len()),
            masks: Randomness::new(stage.config.seed, Purpose::Mask),
            dropout: Randomness::new(stage.config.seed, Purpose::ConditionDropout),
            mask_id: codes as u32,
            texts: encoded.iter().map(|t| PaddedText::new(t, length)).collect(),
            empty: PaddedText::new(&empty, length),
        })
    }

    /// The batch of training step `step` (from 0).
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub(super) fn train(&mut self, step: u64) -> Result<MaskedBatch> {
        let places = self.order.batch(step, self.config.batch);
        let rows = places
            .into_iter()
            .map(|(place, epoch)| {
                let film = self.films.train[place];
                let mut stream = self.masks.stream(film as u64, epoch);
                let view = below(&mut stream, self.tokens.views);
                // MaskGIT's cosine schedule: the share of masked positions is cos(pi/2 * u), at least one position.
                let ratio = (std::f64::consts::FRAC_PI_2 * f64::from(uniform(&mut stream))).cos();
                let hidden = hide(&mut stream, self.tokens.positions, ratio);
                let dropped =
                    f64::from(uniform(&mut self.dropout.stream(film as u64, epoch))) < self.config.condition_dropout;
                let text = if dropped { &self.empty } else { &self.texts[film] };
                Row { grid: self.tokens.grid(film, view), hidden, text }
            })
            .collect::<Vec<_>>();
        self.masked(&rows)
    }

    /// Batches over the validation films, always with the same masks; `with_text` or with the empty text.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub(super) fn validation(&self, with_text: bool) -> Result<Vec<MaskedBatch>> {
        let rows = self
            .films
            .val
            .iter()
            .enumerate()
            .flat_map(|(place, film)| {
                VALIDATION_RATIOS.iter().enumerate().map(move |(turn, ratio)| {
                    // The same masks whatever the run's seed, so that runs compare.
                    let mut stream = Randomness::new(0, Purpose::ScoreMask).stream(place as u64, turn as u64);
                    let hidden = hide(&mut stream, self.tokens.positions, *ratio);
                    let text = if with_text { &self.texts[*film] } else { &self.empty };
                    Row { grid: self.tokens.grid(*film, 0), hidden, text }
                })
            })
            .collect::<Vec<_>>();
        rows.chunks(self.config.batch).map(|rows| self.masked(rows)).collect()
    }

    fn masked(&self, rows: &[Row<'_>]) -> Result<MaskedBatch> {
        let (count, positions, length) = (rows.len(), self.tokens.positions, self.empty.ids.len());
        let mut ids = Vec::with_capacity(count * positions);
        let mut targets = Vec::with_capacity(count * positions);
        let mut weights = Vec::with_capacity(count * positions);
        let mut text_ids = Vec::with_capacity(count * length);
        let mut text_mask = Vec::with_capacity(count * length);
        for row in rows {
            targets.extend_from_slice(row.grid);
            ids.extend(row.grid.iter().zip(&row.hidden).map(|(id, hidden)| if *hidden { self.mask_id } else { *id }));
            weights.extend(row.hidden.iter().map(|hidden| if *hidden { 1.0f32 } else { 0.0 }));
            text_ids.extend_from_slice(&row.text.ids);
            text_mask.extend_from_slice(&row.text.mask);
        }
        Ok(MaskedBatch {
            ids: Tensor::from_vec(ids, (count, positions), self.device)?,
            targets: Tensor::from_vec(targets, (count, positions), self.device)?,
            weights: Tensor::from_vec(weights, (count, positions), self.device)?,
            text_ids: Tensor::from_vec(text_ids, (count, length), self.device)?,
            text_mask: Tensor::from_vec(text_mask, (count, length), self.device)?,
        })
    }
}

// === impl PaddedText ===

impl PaddedText {
    fn new(tokens: &TextTokens, length: usize) -> Self {
        let real = real_length(tokens);
        let mut ids: Vec<u32> = tokens.ids[..real].to_vec();
        ids.resize(length, 0);
        let mut mask = vec![1.0; real];
        mask.resize(length, 0.0);
        Self { ids, mask }
    }
}

/// Word pieces of a text, without the pads.
fn real_length(tokens: &TextTokens) -> usize {
    tokens.mask.iter().filter(|m| **m > 0.0).count()
}

/// Which positions are hidden: `ratio` of them, rounded, at least one.
fn hide(stream: &mut impl rand_core::Rng, positions: usize, ratio: f64) -> Vec<bool> {
    let count = ((positions as f64 * ratio).round() as usize).clamp(1, positions);
    let mut order: Vec<usize> = (0..positions).collect();
    shuffle(stream, &mut order);
    let mut hidden = vec![false; positions];
    for position in &order[..count] {
        hidden[*position] = true;
    }
    hidden
}
