//! The two networks that are trained together, and their shapes.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::text_encoder::{TextEncoder, TextEncoderConfig};
use raygen_model::transformer::{
    AttentionDropout, Context, PublishedConfig, RaygenConfig, Transformer, TransformerConfig, View, Views,
    initialise_from_codebook,
};
use raygen_model::vqgan::VqGanConfig;
use raygen_nn::Parameters;

use super::batch::MaskedBatch;
use super::freeze::Freeze;
use super::layered::Layered;
use super::start::Starts;
use super::text::TextStart;
use crate::config::{RunConfig, Variant};
use crate::stages::tokenizer::Tokenizer;

/// Tensor names of the text encoder start with this.
pub(super) const TEXT_PREFIX: &str = "bert.";
/// Type vocabulary and epsilon of BERT.
const LAYER_NORM_EPS: f64 = 1e-12;

/// Shapes of the two networks.
#[derive(Debug, Clone)]
pub struct Shapes {
    /// The masked transformer.
    pub transformer: TransformerConfig,
    /// The text encoder.
    pub text_encoder: TextEncoderConfig,
}

/// The masked transformer and its text encoder.
pub struct Networks {
    /// What is trained, of both networks.
    parameters: Parameters,
    /// Tensors of both that stay as they are.
    frozen: BTreeMap<String, Tensor>,
    transformer: Transformer,
    text_encoder: TextEncoder,
    device: Device,
}

// === impl Shapes ===

impl Shapes {
    /// Shapes for the grids of `tokenizer` and a vocabulary of `vocabulary` word pieces.
    #[must_use]
    pub fn new(config: &RunConfig, tokenizer: &VqGanConfig, vocabulary: usize) -> Self {
        let text = &config.transformer.text;
        Self {
            transformer: match config.transformer.model.variant {
                Variant::Raygen => TransformerConfig::Raygen(raygen(config, tokenizer)),
                Variant::Published => TransformerConfig::Published(published(config, tokenizer)),
            },
            text_encoder: TextEncoderConfig {
                vocab_size: vocabulary,
                hidden_size: text.width,
                num_hidden_layers: text.layers,
                num_attention_heads: text.heads,
                intermediate_size: 4 * text.width,
                max_position_embeddings: text.max_tokens,
                type_vocab_size: 1,
                layer_norm_eps: LAYER_NORM_EPS,
                hidden_act: "gelu".to_owned(),
                position_embedding_type: "absolute".to_owned(),
                pad_token_id: 0,
                initializer_range: 0.02,
            },
        }
    }

    /// The same with the text encoder that the run starts from, if it starts from one.
    #[must_use]
    pub fn with_text_encoder(self, start: Option<&TextStart>) -> Self {
        match start {
            Some(start) => Self { text_encoder: start.config.clone(), ..self },
            None => self,
        }
    }

    /// The same for training films of these views, and those that were `known` before. Without a view token nothing changes.
    #[must_use]
    pub(super) fn with_views(mut self, films: &[View], known: &[View]) -> Self {
        let TransformerConfig::Raygen(RaygenConfig { views: Some(views), .. }) = &mut self.transformer else {
            return self;
        };
        let count = |view: View| films.iter().filter(|of| **of == view).count();
        let trained = View::ALL.into_iter().filter(|view| count(*view) > 0 || known.contains(view)).collect();
        // The first of equals, so that it does not depend on anything else.
        let commonest = View::ALL.into_iter().rev().max_by_key(|view| count(*view)).unwrap_or(View::Frontal);
        *views = Views { default: commonest, trained };
        self
    }
}

fn raygen(config: &RunConfig, tokenizer: &VqGanConfig) -> RaygenConfig {
    let (model, text) = (&config.transformer.model, &config.transformer.text);
    RaygenConfig {
        codebook_size: tokenizer.codebook_size,
        positions: tokenizer.positions(),
        grid_side: tokenizer.grid_side(),
        token_merge: model.token_merge,
        token_width: model.width / model.token_merge.max(1),
        local_blocks: model.local_blocks,
        width: model.width,
        layers: model.layers,
        heads: model.heads,
        feed_forward: model.feed_forward,
        text_width: text.width,
        max_text_tokens: text.max_tokens,
        pad_mask: true,
        // Which of them the films have is known when there are films.
        views: model.views.then(|| Views { default: View::Frontal, trained: View::ALL.to_vec() }),
    }
}

fn published(config: &RunConfig, tokenizer: &VqGanConfig) -> PublishedConfig {
    let (model, text) = (&config.transformer.model, &config.transformer.text);
    let quirks = model.quirks.unwrap_or_default();
    PublishedConfig {
        codebook_size: tokenizer.codebook_size,
        positions: tokenizer.positions(),
        width: model.width,
        layers: model.layers,
        heads: model.heads,
        feed_forward: model.feed_forward,
        text_width: text.width,
        max_text_tokens: text.max_tokens,
        text_norm: quirks.text_norm,
        pad_mask: quirks.pad_mask,
        unused_attention_norms: quirks.unused_attention_norms,
        activation: quirks.activation,
    }
}

// === impl Networks ===

impl Networks {
    /// Fresh networks, keyed by `seed`. What `starts` has is taken from there, and what `freeze` holds is not trained.
    ///
    /// # Errors
    /// Where a shape cannot be built, or a tensor that shall not be trained is not in `starts`.
    pub(super) fn initialised(
        shapes: &Shapes,
        starts: &Starts,
        freeze: &Freeze,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let frozen = starts.tensors(|name| freeze.holds(name));
        let networks = Self::build(shapes, Parameters::initialised(seed, device), frozen, device, DType::F32)?;
        for (name, var) in networks.variables() {
            if freeze.holds(&name) {
                bail!("transformer.freeze holds {name}, which is not in the bundle of start_from");
            }
            if let Some(tensor) = starts.tensor(&name) {
                var.set(tensor)?;
            }
        }
        Ok(networks)
    }

    /// The same networks over copies of their tensors in `dtype`, as they are now; gradients come back to the variables.
    ///
    /// # Errors
    /// Where a tensor cannot be converted.
    pub(super) fn computing_in(&self, shapes: &Shapes, dtype: DType) -> Result<Self> {
        Self::build(shapes, self.parameters.clone(), self.frozen.clone(), &self.device, dtype)
    }

    /// The same networks over other values of what is trained.
    ///
    /// # Errors
    /// Names a tensor that is missing or of another shape.
    pub fn with_tensors(&self, shapes: &Shapes, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        Self::build(shapes, Parameters::from_tensors(tensors)?, self.frozen.clone(), &self.device, DType::F32)
    }

    fn build(
        shapes: &Shapes,
        parameters: Parameters,
        frozen: BTreeMap<String, Tensor>,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let builder = || Layered::builder(frozen.clone(), &parameters, dtype, device);
        let transformer = Transformer::new(&shapes.transformer, builder())?;
        let text_encoder = TextEncoder::new(&shapes.text_encoder, builder())?;
        Ok(Self { parameters, frozen, transformer, text_encoder, device: device.clone() })
    }

    /// Starts token embedding and head from the geometry of the tokenizer's codebook.
    ///
    /// # Errors
    /// Where the sizes disagree.
    pub fn start_from_codebook(&self, tokenizer: &Tokenizer, seed: u64) -> Result<()> {
        Ok(initialise_from_codebook(tokenizer.network.codebook(), &self.parameters, seed)?)
    }

    /// Logits [batch, positions, codes] of a batch.
    ///
    /// # Errors
    /// Where a shape disagrees.
    pub fn logits(&self, batch: &MaskedBatch) -> Result<Tensor> {
        Ok(self.transformer.logits(&batch.ids, &self.context(batch)?)?)
    }

    /// The same in training, with the share `dropout` of the transformer's attention probabilities falling out.
    ///
    /// # Errors
    /// Where a shape disagrees.
    pub fn logits_in_training(&self, batch: &MaskedBatch, dropout: f64, seed: u64) -> Result<Tensor> {
        if dropout == 0.0 {
            return self.logits(batch);
        }
        let dropout = AttentionDropout::new(dropout, seed, batch.places.clone());
        Ok(self.transformer.logits_in_training(&batch.ids, &self.context(batch)?, &dropout)?)
    }

    fn context(&self, batch: &MaskedBatch) -> Result<Context> {
        let features = self.text_encoder.forward(&batch.text_ids, &batch.text_mask)?;
        Ok(self.transformer.context_of_views(&features, &batch.text_mask, &batch.views)?)
    }

    /// All variables, sorted by name.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    /// Those that take part in what is computed: each has a gradient.
    #[must_use]
    pub fn trained(&self) -> Vec<(String, Var)> {
        let config = self.transformer.config();
        self.variables().into_iter().filter(|(name, _)| !config.is_unused(name)).collect()
    }

    /// Where the networks compute.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tensors of the transformer and of the text encoder, by name.
    #[must_use]
    pub fn tensors(&self) -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
        let variables = self.variables().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        let (text, transformer) =
            variables.chain(self.frozen.clone()).partition(|(name, _)| name.starts_with(TEXT_PREFIX));
        (transformer, text)
    }
}
