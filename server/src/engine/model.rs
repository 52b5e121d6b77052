//! What the engine asks of a model. The real one is behind `repository`, a scripted one behind `engine::fake`.

use std::any::Any;
use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use raygen_model::image::Picture;
use raygen_model::sampler::SamplingParams;
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;

/// How long a warm-up may go on measuring patches: start-up stays short with large models, too.
const MEASURING: Duration = Duration::from_secs(1);

/// Grids decoded at once.
const DECODE_BATCH: usize = 4;

/// What is known of a model before it computes anything.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Side of the square picture, in pixels.
    pub image_size: u32,
    /// Rows of its grid.
    pub grid_height: u32,
    /// Columns of its grid.
    pub grid_width: u32,
    /// Ids in the codebook; the mask id is equal to it.
    pub codebook_size: u32,
    /// Longest text in tokens, the two at its ends included.
    pub max_text_tokens: u32,
    /// Whether guidance works.
    pub supports_guidance: bool,
    /// Whether it turns pictures into grids and back.
    pub has_vqgan: bool,
    /// Whether it generates and scores.
    pub has_transformer: bool,
    /// Whether it reads text.
    pub has_text_encoder: bool,
    /// Views that can be asked for; none where it knows no views.
    pub views: Vec<View>,
    /// The view where the request does not say.
    pub default_view: Option<View>,
    /// Sampling where the request does not say.
    pub default_sampling: SamplingParams,
    /// SHA-256 of the bundle, in hexadecimal.
    pub digest: String,
    /// Findings it was trained on.
    pub supported_terms: Vec<String>,
    /// Licence of the weights.
    pub licence: String,
    /// Parameters of all networks.
    pub parameter_count: u64,
}

impl ModelInfo {
    /// Positions in the grid.
    pub fn positions(&self) -> usize {
        self.grid_height as usize * self.grid_width as usize
    }
}

/// A model said no; the text says what is wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// It came to values that are not numbers.
    #[error("{0}")]
    NotFinite(String),
    /// The device itself failed: nothing will ever be computed on it again in this process.
    #[error("the device is lost: {0}")]
    DeviceLost(String),
    /// The batch does not fit into the device's memory; a smaller one may.
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// What a transformer needs to know of a text: computed once per request, read in each of its steps.
#[derive(Clone)]
pub struct Condition(Arc<dyn Any + Send + Sync>);

impl Condition {
    /// Wraps a model's own condition.
    pub fn new<T: Any + Send + Sync>(inner: T) -> Self {
        Self(Arc::new(inner))
    }

    /// The model's own condition.
    ///
    /// # Errors
    /// It was made by another kind of model.
    pub fn of<T: Any>(&self) -> Result<&T, ModelFault> {
        self.0.downcast_ref().ok_or_else(|| ModelFault::Failed("a condition of another model was given".to_owned()))
    }
}

impl Debug for Condition {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Condition")
    }
}

/// Text features.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Number of text tokens, without pads.
    pub token_count: usize,
    /// Features of each.
    pub width: usize,
    /// [token_count, width], row-major.
    pub values: Vec<f32>,
}

/// A row of a step: a grid of ids, and what it is conditioned on.
pub type ModelRow<'a> = (&'a [u32], &'a Condition);

/// A model as the engine sees it. Called from the engine's thread only, but for `info` and the text functions.
pub trait StepModel: Send + Sync {
    /// What is known of it.
    fn info(&self) -> &ModelInfo;

    /// Whether nothing is left of a text to condition on.
    fn is_blank(&self, text: &str) -> bool;

    /// Tokenizes a text; "" is the null condition.
    ///
    /// # Errors
    /// The model has no text encoder, or the tokenizer gave up.
    fn tokenize(&self, text: &str) -> Result<TextTokens, ModelFault>;

    /// What its transformer needs of a text, for a picture of `view` or else of its default view.
    ///
    /// # Errors
    /// A part is missing, the view is none of its own, or the device failed.
    fn condition(&self, text: &TextTokens, view: Option<View>) -> Result<Condition, ModelFault>;

    /// The condition of the empty text; cheap from the second call with a view on.
    ///
    /// # Errors
    /// As [`Self::condition`].
    fn null_condition(&self, view: Option<View>) -> Result<Condition, ModelFault>;

    /// Text features.
    ///
    /// # Errors
    /// As [`Self::condition`].
    fn embed(&self, text: &TextTokens) -> Result<Embedding, ModelFault>;

    /// Logits [positions * codebook size] of each row. A row's are the same alone and in any batch.
    ///
    /// # Errors
    /// A part is missing, or the device failed.
    fn logits(&self, rows: &[ModelRow<'_>]) -> Result<Vec<Vec<f32>>, ModelFault>;

    /// The pictures of complete grids.
    ///
    /// # Errors
    /// As [`Self::logits`].
    fn decode(&self, grids: &[&[u32]]) -> Result<Vec<Picture>, ModelFault>;

    /// A rough picture of a grid, decided or not, out of each id's mean patch. `None` while the patches are being
    /// measured, at most one decode a call; after that no decoder pass at all.
    ///
    /// # Errors
    /// As [`Self::logits`]. A failed measurement is remembered, not tried again.
    fn approximate(&self, ids: &[u32]) -> Result<Option<Picture>, ModelFault>;

    /// The grids of pictures of the model's own size.
    ///
    /// # Errors
    /// As [`Self::logits`].
    fn encode(&self, pictures: &[&Picture]) -> Result<Vec<Vec<u32>>, ModelFault>;
}

/// A model version that is served, and what is computed once for it.
pub struct LoadedModel {
    /// `models/{model}/versions/{version}`.
    pub name: String,
    /// The model.
    pub model: Box<dyn StepModel>,
    /// The most rows of a step that are known not to run out of memory, or no limit yet.
    pub(super) step_rows: BatchLimit,
    /// The same for grids decoded at once.
    pub(super) decode_rows: BatchLimit,
}

/// How many rows may go into one batch: halved whenever one runs out of memory, never raised again.
#[derive(Debug)]
pub(super) struct BatchLimit(AtomicUsize);

impl BatchLimit {
    fn new(rows: usize) -> Self {
        Self(AtomicUsize::new(rows))
    }

    /// Rows that may go into a batch, at least 1.
    pub(super) fn rows(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(1)
    }

    /// A batch of so many rows ran out of memory.
    pub(super) fn halve(&self, rows: usize) {
        self.0.fetch_min((rows / 2).max(1), Ordering::Relaxed);
    }
}

// === impl LoadedModel ===

impl LoadedModel {
    /// A model under its name.
    pub fn new(name: impl Into<String>, model: impl StepModel + 'static) -> Self {
        Self {
            name: name.into(),
            model: Box::new(model),
            step_rows: BatchLimit::new(usize::MAX),
            decode_rows: BatchLimit::new(DECODE_BATCH),
        }
    }

    /// What is known of it.
    pub fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    /// One step of one row, a decode and, as far as a second goes, the mean patches: what the first requests would
    /// wait for otherwise. Patches that take longer are measured decode by decode, when approximate previews are asked
    /// for.
    ///
    /// # Errors
    /// The model fails on an empty grid; it cannot serve then.
    pub fn warm_up(&self) -> Result<(), ModelFault> {
        let info = self.info();
        if info.has_transformer && info.has_text_encoder {
            let null = self.model.null_condition(None)?;
            let grid = vec![info.codebook_size; info.positions()];
            let logits = self.model.logits(&[(&grid, &null)])?;
            let expected = info.positions() * info.codebook_size as usize;
            let found = logits.first().map_or(0, Vec::len);
            if found != expected {
                return Err(ModelFault::Failed(format!(
                    "the transformer gave {found} logits for an empty grid, and {expected} were expected"
                )));
            }
            if logits.iter().flatten().any(|value| !value.is_finite()) {
                return Err(ModelFault::NotFinite(
                    "the transformer gives values that are not numbers for an empty grid".to_owned(),
                ));
            }
        }
        if info.has_vqgan {
            let grid = vec![0; info.positions()];
            self.model.decode(&[&grid])?;
            let began = Instant::now();
            while began.elapsed() < MEASURING {
                match self.model.approximate(&grid) {
                    Ok(None) => {}
                    Ok(Some(_)) => break,
                    Err(ModelFault::DeviceLost(detail)) => return Err(ModelFault::DeviceLost(detail)),
                    // It generates all the same, only without these previews.
                    Err(fault) => {
                        tracing::warn!(model = self.name, %fault, "there will be no approximate previews");
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Debug for LoadedModel {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LoadedModel").field("name", &self.name).finish_non_exhaustive()
    }
}
