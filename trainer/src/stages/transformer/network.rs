//! The two networks that are trained together, and their shapes.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use raygen_model::text_encoder::{TextEncoder, TextEncoderConfig};
use raygen_model::transformer::{RaygenConfig, Transformer, TransformerConfig, initialise_from_codebook};
use raygen_model::vqgan::VqGanConfig;
use raygen_nn::Parameters;

use super::batch::MaskedBatch;
use crate::config::RunConfig;
use crate::stages::tokenizer::Tokenizer;

/// Tensor names of the text encoder start with this.
const TEXT_PREFIX: &str = "bert.";
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

/// The masked transformer and its text encoder, over one set of named tensors.
pub struct Networks {
    parameters: Parameters,
    transformer: Transformer,
    text_encoder: TextEncoder,
    device: Device,
}

// === impl Shapes ===

impl Shapes {
    /// Shapes for the grids of `tokenizer` and a vocabulary of `vocabulary` word pieces.
    #[must_use]
    pub fn new(config: &RunConfig, tokenizer: &VqGanConfig, vocabulary: usize) -> Self {
        let (model, text) = (&config.transformer.model, &config.transformer.text);
        let token_width = model.width / model.token_merge.max(1);
        Self {
            transformer: TransformerConfig::Raygen(RaygenConfig {
                codebook_size: tokenizer.codebook_size,
                positions: tokenizer.positions(),
                grid_side: tokenizer.grid_side(),
                token_merge: model.token_merge,
                token_width,
                local_blocks: model.local_blocks,
                width: model.width,
                layers: model.layers,
                heads: model.heads,
                feed_forward: model.feed_forward,
                text_width: text.width,
                max_text_tokens: text.max_tokens,
                pad_mask: true,
            }),
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

    /// Number of codes.
    #[must_use]
    pub fn codebook_size(&self) -> usize {
        self.transformer.codebook_size()
    }
}

// === impl Networks ===

impl Networks {
    /// Fresh networks, keyed by `seed`.
    ///
    /// # Errors
    /// Where a shape cannot be built.
    pub fn initialised(shapes: &Shapes, seed: u64, device: &Device) -> Result<Self> {
        Self::build(shapes, Parameters::initialised(seed, device), device)
    }

    /// Networks over given tensors.
    ///
    /// # Errors
    /// Names a tensor that is missing or of another shape.
    pub fn from_tensors(shapes: &Shapes, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Self> {
        Self::build(shapes, Parameters::from_tensors(tensors)?, device)
    }

    fn build(shapes: &Shapes, parameters: Parameters, device: &Device) -> Result<Self> {
        let transformer = Transformer::new(&shapes.transformer, parameters.builder(DType::F32))?;
        let text_encoder = TextEncoder::new(&shapes.text_encoder, parameters.builder(DType::F32))?;
        Ok(Self { parameters, transformer, text_encoder, device: device.clone() })
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
        let features = self.text_encoder.forward(&batch.text_ids, &batch.text_mask)?;
        let context = self.transformer.context(&features, &batch.text_mask)?;
        Ok(self.transformer.logits(&batch.ids, &context)?)
    }

    /// All variables, sorted by name.
    #[must_use]
    pub fn variables(&self) -> Vec<(String, Var)> {
        self.parameters.named()
    }

    /// Where the networks compute.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Tensors of the transformer and of the text encoder, by name.
    #[must_use]
    pub fn tensors(&self) -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
        let (text, transformer): (Vec<_>, Vec<_>) =
            self.variables().into_iter().partition(|(name, _)| name.starts_with(TEXT_PREFIX));
        let detach = |variables: Vec<(String, Var)>| {
            variables.into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect()
        };
        (detach(transformer), detach(text))
    }
}
