//! What the engine is asked for: plain data, checked before it gets here.

use std::sync::Arc;
use std::time::Instant;

use raygen_model::sampler::SamplingParams;
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;
use tracing::Span;

use super::admission::{Ticket, Work};
use super::model::LoadedModel;

/// What to send before the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preview {
    /// Nothing.
    None,
    /// Grids.
    Tokens,
    /// Grids, and a picture put together from mean patches.
    Approximate,
    /// Grids, and a decoded picture.
    Decoded,
}

/// A generation.
#[derive(Debug)]
pub struct Generation {
    /// The model; kept until the last sample is done, whatever becomes of the repository.
    pub model: Arc<LoadedModel>,
    /// The impression.
    pub text: TextTokens,
    /// What guidance moves away from; `None` is the empty text.
    pub negative: Option<TextTokens>,
    /// The view of the pictures; `None` is the model's default.
    pub view: Option<View>,
    /// How to sample.
    pub params: SamplingParams,
    /// The grid that each sample starts from: undecided positions hold the mask id. One entry per sample.
    pub starts: Vec<Vec<u32>>,
    /// What to send before the result.
    pub preview: Preview,
    /// Preview every n-th step, at least 1.
    pub preview_interval: u32,
    /// Whether to send the confidence of each position.
    pub include_confidence: bool,
    /// When to give up.
    pub deadline: Option<Instant>,
}

impl Generation {
    /// What admission reckons with.
    pub fn work(&self) -> Work {
        Work { samples: self.starts.len() as u64, steps: u64::from(self.params.step_count) }
    }
}

/// A message to the engine's thread.
pub(super) enum Command {
    /// Generate; the ticket is the request's place in the queue, the span what its own spans hang below.
    Generate(Box<Generation>, super::outbox::Outbox, Ticket, Span),
    /// Anything else that needs the model, run between steps.
    Task(Box<dyn super::task::Task>),
}
