//! What an import did, for the person who asked for it.

use std::fmt;
use std::path::PathBuf;

use raygen_model::bundle::{Component, StoreType};
use raygen_model::densenet::DenseNetConfig;
use raygen_model::import::Tensors;
use raygen_model::text_encoder::TextEncoderConfig;
use raygen_model::transformer::TransformerConfig;
use raygen_model::vqgan::{QuantiserKind, VqGanConfig};

/// Names that were passed over and are told.
const SHOWN: usize = 3;

/// What an import did.
#[derive(Debug, Clone)]
pub struct Report {
    /// The parts that were read.
    pub parts: Vec<PartReport>,
    /// What could not be told from the files, and what was decided.
    pub notes: Vec<String>,
    /// The bundle.
    pub out: PathBuf,
    /// Its digest.
    pub digest: String,
}

/// What was read of a part.
#[derive(Debug, Clone)]
pub struct PartReport {
    /// The part.
    pub component: Component,
    /// Its architecture in words.
    pub summary: String,
    /// Tensors taken.
    pub tensor_count: usize,
    /// Their elements.
    pub parameter_count: usize,
    /// What they are stored in.
    pub store: StoreType,
    /// Names in the file that were not needed.
    pub passed_over: Vec<String>,
}

impl PartReport {
    pub(super) fn new(
        component: Component,
        summary: String,
        tensors: &Tensors,
        store: StoreType,
        passed_over: &[String],
    ) -> Self {
        Self {
            component,
            summary,
            tensor_count: tensors.len(),
            parameter_count: tensors.values().map(candle_core::Tensor::elem_count).sum(),
            store,
            passed_over: passed_over.to_vec(),
        }
    }

    pub(super) fn stored_as(&self) -> &'static str {
        match self.store {
            StoreType::F16 => "f16",
            StoreType::Bf16 => "bf16",
            StoreType::F32 => "f32",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            writeln!(f, "{}: {}", part.component, part.summary)?;
            writeln!(
                f,
                "  {} tensors, {} parameters, stored in {}",
                part.tensor_count,
                part.parameter_count,
                part.stored_as()
            )?;
            let names = part.passed_over.iter().take(SHOWN).map(|name| name.escape_debug().to_string());
            let names = names.collect::<Vec<_>>().join(", ");
            match part.passed_over.len() {
                0 => {}
                count if count > SHOWN => writeln!(f, "  passed over {count} names: {names}, ...")?,
                count => writeln!(f, "  passed over {count}: {names}")?,
            }
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "wrote {} ({})", self.out.display(), self.digest)
    }
}

pub(super) fn vqgan(config: &VqGanConfig) -> String {
    let kind = match config.quantiser {
        QuantiserKind::Nearest => "VQ-GAN",
        QuantiserKind::Gumbel => "Gumbel VQ-GAN",
    };
    format!(
        "{kind} of {0} x {0} px, {1} codes of length {2}, grid {3} x {3}",
        config.resolution,
        config.codebook_size,
        config.embed_dim,
        config.grid_side()
    )
}

pub(super) fn transformer(config: &TransformerConfig) -> String {
    format!(
        "published transformer of width {}, {} layers, {} heads, feed-forward {}; {} codes, {} positions; text of width {}, \
         {} tokens",
        config.width(),
        config.layers(),
        config.heads(),
        config.feed_forward(),
        config.codebook_size(),
        config.positions(),
        config.text_width(),
        config.max_text_tokens()
    )
}

pub(super) fn text_encoder(config: &TextEncoderConfig) -> String {
    format!(
        "BERT of width {}, {} layers, {} heads, {} word pieces, {} positions",
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.vocab_size,
        config.max_position_embeddings
    )
}

pub(super) fn classifier(config: &DenseNetConfig) -> String {
    let named = config.classes.iter().filter(|class| !class.is_empty()).count();
    format!("DenseNet of {named} classes, {} channels of {1} x {1} px", config.in_channels, config.image_size)
}
