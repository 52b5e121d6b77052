//! A scripted model: small, quick, and able to be slow, to fail, to give NaN, to lose its device and to panic. For tests of the engine and the wire.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raygen_model::image::Picture;
use raygen_model::sampler::SamplingParams;
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;

use super::model::{Condition, Embedding, ModelFault, ModelInfo, ModelRow, StepModel};

/// A word that makes a row's logits NaN.
pub const NAN: &str = "makenan";
/// A word that makes any batch with its row fail.
pub const FAIL: &str = "makefail";
/// A word that makes a step panic.
pub const PANIC: &str = "makepanic";

/// A word that makes any batch with its row lose the device.
pub const LOST: &str = "makelost";

/// Words that the fake model "knows".
const KNOWN: [&str; 9] = ["no", "acute", "pneumonia", "effusion", "edema", NAN, FAIL, PANIC, LOST];

/// What the test sees and sets while the model is served.
#[derive(Debug, Default)]
pub struct Controls {
    step_millis: AtomicU64,
    batches: Mutex<Vec<usize>>,
    conditions: AtomicU64,
    to_measure: AtomicU64,
    memory_rows: AtomicU64,
}

/// A model whose logits are a hash of the grid and the words.
#[derive(Debug)]
pub struct FakeModel {
    info: ModelInfo,
    controls: Arc<Controls>,
}

struct FakeCondition(String);

// === impl Controls ===

impl Controls {
    /// Makes each step take this long.
    pub fn slow(&self, step: Duration) {
        self.step_millis.store(u64::try_from(step.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Makes steps and decodes of more rows run out of memory; 0 is memory for all.
    pub fn memory_for(&self, rows: u64) {
        self.memory_rows.store(rows, Ordering::Relaxed);
    }

    fn check_memory(&self, rows: usize) -> Result<(), ModelFault> {
        match self.memory_rows.load(Ordering::Relaxed) {
            0 => Ok(()),
            most if rows as u64 <= most => Ok(()),
            most => Err(ModelFault::OutOfMemory(format!("{rows} rows where {most} fit"))),
        }
    }

    /// Makes so many calls of `approximate` measure, instead of giving a picture.
    pub fn measures(&self, calls: u64) {
        self.to_measure.store(calls, Ordering::Relaxed);
    }

    /// Calls of `approximate` that will still measure.
    pub fn left_to_measure(&self) -> u64 {
        self.to_measure.load(Ordering::Relaxed)
    }

    /// Rows of each step so far.
    pub fn batches(&self) -> Vec<usize> {
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Texts turned into conditions so far.
    pub fn conditions(&self) -> u64 {
        self.conditions.load(Ordering::Relaxed)
    }
}

// === impl FakeModel ===

impl Default for FakeModel {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeModel {
    /// 4 by 4 positions, 16 ids, pictures of 8 by 8 pixels; guidance works.
    pub fn new() -> Self {
        let sampling = SamplingParams { step_count: 4, ..SamplingParams::default() };
        let info = ModelInfo {
            image_size: 8,
            grid_height: 4,
            grid_width: 4,
            codebook_size: 16,
            max_text_tokens: 16,
            supports_guidance: true,
            has_vqgan: true,
            has_transformer: true,
            has_text_encoder: true,
            views: Vec::new(),
            default_view: None,
            default_sampling: sampling,
            digest: "0".repeat(64),
            supported_terms: vec!["Pneumonia".to_owned()],
            licence: "MIT".to_owned(),
            parameter_count: 1,
        };
        Self { info, controls: Arc::default() }
    }

    /// The same with other facts.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(&mut ModelInfo)) -> Self {
        change(&mut self.info);
        self
    }

    /// What a test sees and sets later.
    pub fn controls(&self) -> Arc<Controls> {
        Arc::clone(&self.controls)
    }

    fn row(&self, ids: &[u32], text: &str) -> Vec<f32> {
        if text.contains(NAN) {
            return vec![f32::NAN; self.info.positions() * self.info.codebook_size as usize];
        }
        let mut hash = ids.iter().fold(fnv(text), |hash, &id| mix(hash ^ u64::from(id)));
        (0..self.info.positions() * self.info.codebook_size as usize)
            .map(|_| {
                hash = mix(hash);
                (hash >> 40) as f32 / (1u64 << 24) as f32 * 8.0 - 4.0
            })
            .collect()
    }
}

impl StepModel for FakeModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn is_blank(&self, text: &str) -> bool {
        !text.chars().any(char::is_alphanumeric)
    }

    fn tokenize(&self, text: &str) -> Result<TextTokens, ModelFault> {
        let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
        let room = self.info.max_text_tokens as usize - 2;
        let truncated = words.len() > room;
        let full_count = words.len() + 2;
        let unsupported_terms = words.iter().filter(|word| !KNOWN.contains(&word.as_str())).cloned().collect();
        let tokens: Vec<String> = words.into_iter().take(room).collect();
        Ok(TextTokens {
            ids: tokens.iter().map(|word| fnv(word) as u32 % 100).collect(),
            mask: vec![1.0; tokens.len()],
            tokens,
            unsupported_terms,
            full_count,
            truncated,
        })
    }

    fn condition(&self, text: &TextTokens, view: Option<View>) -> Result<Condition, ModelFault> {
        self.controls.conditions.fetch_add(1, Ordering::Relaxed);
        Ok(Condition::new(FakeCondition(seen(&text.tokens.join(" "), view.or(self.info.default_view)))))
    }

    fn null_condition(&self, view: Option<View>) -> Result<Condition, ModelFault> {
        Ok(Condition::new(FakeCondition(seen("", view.or(self.info.default_view)))))
    }

    fn embed(&self, text: &TextTokens) -> Result<Embedding, ModelFault> {
        let values = text.ids.iter().flat_map(|&id| [id as f32, -(id as f32)]).collect();
        Ok(Embedding { token_count: text.ids.len(), width: 2, values })
    }

    fn logits(&self, rows: &[ModelRow<'_>]) -> Result<Vec<Vec<f32>>, ModelFault> {
        let millis = self.controls.step_millis.load(Ordering::Relaxed);
        if millis > 0 {
            std::thread::sleep(Duration::from_millis(millis));
        }
        self.controls.check_memory(rows.len())?;
        self.controls.batches.lock().unwrap_or_else(PoisonError::into_inner).push(rows.len());
        let mut logits = Vec::with_capacity(rows.len());
        for (ids, condition) in rows {
            let text = &condition.of::<FakeCondition>()?.0;
            if text.contains(FAIL) {
                return Err(ModelFault::Failed("a row was told to fail".to_owned()));
            }
            if text.contains(LOST) {
                return Err(ModelFault::DeviceLost("a row was told to lose it".to_owned()));
            }
            #[expect(clippy::panic, reason = "what this fake is for")]
            if text.contains(PANIC) {
                panic!("a row was told to panic");
            }
            logits.push(self.row(ids, text));
        }
        Ok(logits)
    }

    fn decode(&self, grids: &[&[u32]]) -> Result<Vec<Picture>, ModelFault> {
        self.controls.check_memory(grids.len())?;
        let side = self.info.image_size as usize;
        let columns = self.info.grid_width as usize;
        let patch = side / columns;
        let picture = |grid: &&[u32]| {
            let pixel = |at: usize| {
                let position = at / side / patch * columns + at % side / patch;
                grid[position] as f32 / self.info.codebook_size as f32
            };
            Picture { width: side, height: side, pixels: (0..side * side).map(pixel).collect() }
        };
        Ok(grids.iter().map(picture).collect())
    }

    fn approximate(&self, ids: &[u32]) -> Result<Option<Picture>, ModelFault> {
        let left = |left: u64| left.checked_sub(1);
        if self.controls.to_measure.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            return Ok(None);
        }
        self.decode(&[ids]).map(|mut pictures| pictures.pop())
    }

    fn encode(&self, pictures: &[&Picture]) -> Result<Vec<Vec<u32>>, ModelFault> {
        let columns = self.info.grid_width as usize;
        let grid = |picture: &&Picture| {
            (0..self.info.positions())
                .map(|position| {
                    let x = (position % columns) * picture.width / columns;
                    let y = (position / columns) * picture.height / self.info.grid_height as usize;
                    let value = picture.pixels[y * picture.width + x] * self.info.codebook_size as f32;
                    (value.round().max(0.0) as u32).min(self.info.codebook_size - 1)
                })
                .collect()
        };
        Ok(pictures.iter().map(grid).collect())
    }
}

/// A view stands before the words, as in a real model.
fn seen(words: &str, view: Option<View>) -> String {
    view.map_or_else(|| words.to_owned(), |view| format!("<{view}> {words}"))
}

fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
