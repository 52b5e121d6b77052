//! Batches of masked grids with their texts. What a film's batch row looks like depends on (seed, film, epoch) alone.

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use raygen_model::random::{Purpose, Randomness, below, shuffle, uniform};
use raygen_model::text::{TextTokenizer, TextTokens};
use raygen_model::transformer::View;

use crate::config::{MaskCount, PlateauMasks, TransformerStageConfig};
use crate::data::{FilmOrder, FilmSet, class_weights, told};
use crate::optim::Reduce;
use crate::stages::Stage;
use crate::stages::encode::Tokens;

use super::Shapes;
use super::regions::Regions;

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
    /// View of each row; none where the model knows no views.
    pub views: Vec<Option<View>>,
    /// Hidden positions of all rows.
    pub masked: usize,
    /// Film and epoch of each row in training; empty elsewhere.
    pub places: Vec<(u64, u64)>,
}

/// Makes the batches of a run.
pub(super) struct Batches<'a> {
    films: &'a FilmSet,
    tokens: &'a Tokens,
    config: &'a TransformerStageConfig,
    device: &'a Device,
    order: FilmOrder,
    /// Which of the ranks takes which films of a step.
    reduce: &'a dyn Reduce,
    regions: Regions,
    masks: Randomness,
    validation_masks: Randomness,
    dropout: Randomness,
    mask_id: u32,
    /// The texts of the films, and the empty text, all as long as the longest, or as the model pads them.
    texts: Vec<PaddedText>,
    empty: PaddedText,
    /// Views of the films, where the model is told them.
    views: Option<Vec<View>>,
}

/// A text, padded.
#[derive(Clone)]
struct PaddedText {
    ids: Vec<u32>,
    mask: Vec<f32>,
}

/// One row of a batch.
struct Row<'b> {
    grid: &'b [u16],
    hidden: Vec<bool>,
    text: &'b PaddedText,
    view: Option<View>,
}

// === impl Batches ===

impl<'a> Batches<'a> {
    /// Batches over the films and grids of `stage`, for a model of the shapes `shapes`.
    ///
    /// # Errors
    /// Where an impression cannot be tokenised.
    pub(super) fn new(stage: &'a Stage<'_>, tokens: &'a Tokens, text: &TextTokenizer, shapes: &Shapes) -> Result<Self> {
        let pad_to_maximum = shapes.transformer.pads_text_to_maximum();
        let config = &stage.config.transformer;
        let encode = |impression: &str| text.tokenize(impression);
        let empty = encode("").context("the empty text")?;
        let mut encoded = Vec::with_capacity(stage.films.len());
        let mut truncated = 0;
        for film in &stage.films.texts {
            let tokens = encode(&config.text.cleaning.apply(&film.impression))
                .with_context(|| format!("the impression of {}", film.id))?;
            truncated += usize::from(tokens.truncated);
            encoded.push(tokens);
        }
        if truncated > 0 {
            stage.notice(&format!(
                "{truncated} impressions are longer than transformer.text.max_tokens = {} and were cut",
                config.text.max_tokens
            ));
        }
        let length = if pad_to_maximum {
            config.text.max_tokens
        } else {
            encoded.iter().map(real_length).max().unwrap_or(0).max(real_length(&empty))
        };
        Ok(Self {
            films: stage.films,
            tokens,
            config,
            device: stage.device,
            order: order(stage),
            reduce: stage.reduce,
            regions: Regions::new(stage.config.seed, config.region_masks, tokens.positions),
            masks: Randomness::new(stage.config.seed, Purpose::Mask),
            dropout: Randomness::new(stage.config.seed, Purpose::ConditionDropout),
            validation_masks: Randomness::new(stage.config.seed, Purpose::ValidationMask),
            mask_id: shapes.transformer.mask_id(),
            texts: encoded.iter().map(|t| PaddedText::new(t, length)).collect(),
            empty: PaddedText::new(&empty, length),
            views: shapes.transformer.views().map(|_| stage.films.texts.iter().map(|film| told(film.view)).collect()),
        })
    }

    /// The batches of training step `step` (from 0), this rank's share of them.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub(super) fn train(&mut self, step: u64) -> Result<Vec<MaskedBatch>> {
        let films = self.config.films_a_step();
        let drawn = self.order.batch_of(step, films, self.reduce.place()).into_iter();
        let places: Vec<(usize, u64)> = drawn.map(|(place, epoch)| (self.films.train[place], epoch)).collect();
        places.chunks(self.config.batch).map(|places| self.batch(places)).collect()
    }

    /// A batch of these films in these epochs.
    fn batch(&self, places: &[(usize, u64)]) -> Result<MaskedBatch> {
        let rows = places
            .iter()
            .map(|&(film, epoch)| {
                let mut stream = self.masks.stream(film as u64, epoch);
                let view = below(&mut stream, self.tokens.views);
                let region = self.regions.draw(film as u64, epoch);
                let hidden = region.unwrap_or_else(|| self.hide_some(&mut stream));
                let dropped =
                    f64::from(uniform(&mut self.dropout.stream(film as u64, epoch))) < self.config.condition_dropout;
                let text = if dropped { &self.empty } else { &self.texts[film] };
                Row { grid: self.tokens.grid(film, view), hidden, text, view: self.view(film) }
            })
            .collect::<Vec<_>>();
        let batch = self.masked(&rows)?;
        Ok(MaskedBatch { places: places.iter().map(|(film, epoch)| (*film as u64, *epoch)).collect(), ..batch })
    }

    /// The epoch (from 0) of the training films that ended when `steps` steps were done, if the last of them ended one.
    pub(super) fn ended_epoch(&self, steps: u64) -> Option<u64> {
        let films = (self.config.films_a_step() * self.reduce.ranks()) as u64;
        let epochs = |steps: u64| steps * films / self.films.train.len().max(1) as u64;
        let ended = epochs(steps);
        (steps > 0 && ended > epochs(steps - 1)).then(|| ended - 1)
    }

    /// Batches over the validation films with their impressions, each film once, masked as in training; the masks are
    /// `epoch`'s own or always the same.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub(super) fn validation_once(&self, masks: PlateauMasks, epoch: u64) -> Result<Vec<MaskedBatch>> {
        let turn = match masks {
            PlateauMasks::Fresh => epoch,
            PlateauMasks::Fixed => u64::MAX,
        };
        let rows = self
            .films
            .val
            .iter()
            .map(|film| {
                let hidden = self.hide_some(&mut self.validation_masks.stream(*film as u64, turn));
                Row { grid: self.tokens.grid(*film, 0), hidden, text: &self.texts[*film], view: self.view(*film) }
            })
            .collect::<Vec<_>>();
        rows.chunks(self.config.batch).map(|rows| self.masked(rows)).collect()
    }

    /// Which positions are hidden by MaskGIT's cosine schedule: the share is cos(pi/2 * u).
    fn hide_some(&self, stream: &mut impl rand_core::Rng) -> Vec<bool> {
        let ratio = (std::f64::consts::FRAC_PI_2 * f64::from(uniform(stream))).cos();
        hide(stream, self.tokens.positions, self.config.mask_count.of(self.tokens.positions, ratio))
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
                    let count = MaskCount::Round.of(self.tokens.positions, *ratio);
                    let hidden = hide(&mut stream, self.tokens.positions, count);
                    let text = if with_text { &self.texts[*film] } else { &self.empty };
                    Row { grid: self.tokens.grid(*film, 0), hidden, text, view: self.view(*film) }
                })
            })
            .collect::<Vec<_>>();
        rows.chunks(self.config.batch).map(|rows| self.masked(rows)).collect()
    }

    fn view(&self, film: usize) -> Option<View> {
        self.views.as_ref().map(|views| views[film])
    }

    fn masked(&self, rows: &[Row<'_>]) -> Result<MaskedBatch> {
        let (count, positions, length) = (rows.len(), self.tokens.positions, self.empty.ids.len());
        let mut ids = Vec::with_capacity(count * positions);
        let mut targets = Vec::with_capacity(count * positions);
        let mut weights = Vec::with_capacity(count * positions);
        let mut text_ids = Vec::with_capacity(count * length);
        let mut text_mask = Vec::with_capacity(count * length);
        for row in rows {
            let grid = row.grid.iter().map(|id| u32::from(*id));
            targets.extend(grid.clone());
            ids.extend(grid.zip(&row.hidden).map(|(id, hidden)| if *hidden { self.mask_id } else { id }));
            weights.extend(row.hidden.iter().map(|hidden| if *hidden { 1.0f32 } else { 0.0 }));
            text_ids.extend_from_slice(&row.text.ids);
            text_mask.extend_from_slice(&row.text.mask);
        }
        let masked = rows.iter().flat_map(|row| &row.hidden).filter(|hidden| **hidden).count();
        Ok(MaskedBatch {
            ids: Tensor::from_vec(ids, (count, positions), self.device)?,
            targets: Tensor::from_vec(targets, (count, positions), self.device)?,
            weights: Tensor::from_vec(weights, (count, positions), self.device)?,
            text_ids: Tensor::from_vec(text_ids, (count, length), self.device)?,
            text_mask: Tensor::from_vec(text_mask, (count, length), self.device)?,
            views: rows.iter().map(|row| row.view).collect(),
            masked,
            places: Vec::new(),
        })
    }
}

// === impl PaddedText ===

impl PaddedText {
    fn new(tokens: &TextTokens, length: usize) -> Self {
        let real = real_length(tokens);
        // Pads are read too where the model has no padding mask, so they must be the tokenizer's own.
        let pad = tokens.ids.get(real).copied().unwrap_or(0);
        let mut ids: Vec<u32> = tokens.ids[..real].to_vec();
        ids.resize(length, pad);
        let mut mask = vec![1.0; real];
        mask.resize(length, 0.0);
        Self { ids, mask }
    }
}

/// The order of the training films: each once an epoch, or as often as class balance has it.
fn order(stage: &Stage<'_>) -> FilmOrder {
    let (seed, films) = (stage.config.seed, stage.films);
    match stage.config.transformer.class_balance {
        0.0 => FilmOrder::new(seed, films.train.len()),
        balance => {
            let train = films.train.iter().map(|film| &films.texts[*film]);
            let labels = train.map(|film| (&film.labels, film.uncertain.as_slice()));
            FilmOrder::weighted(seed, class_weights(labels, balance))
        }
    }
}

/// Word pieces of a text, without the pads.
fn real_length(tokens: &TextTokens) -> usize {
    tokens.mask.iter().filter(|m| **m > 0.0).count()
}

/// Which positions are hidden: `count` of them.
fn hide(stream: &mut impl rand_core::Rng, positions: usize, count: usize) -> Vec<bool> {
    let mut order: Vec<usize> = (0..positions).collect();
    shuffle(stream, &mut order);
    let mut hidden = vec![false; positions];
    for position in &order[..count] {
        hidden[*position] = true;
    }
    hidden
}
