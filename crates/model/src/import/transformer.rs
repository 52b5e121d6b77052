//! RayGen's transformer: Lightning `.ckpt` files and bare `.pth` dumps, with or without the text encoder inside.

use std::path::Path;

use super::{
    Tensors,
    architecture::{self, Architecture},
    checkpoint::Checkpoint,
    error::ImportError,
    expected::take,
};
use crate::transformer::{Activation, PublishedConfig, TextNorm, Transformer, TransformerConfig};

/// What no tensor of the file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerOptions {
    /// Attention heads; 8 in the published model.
    pub heads: usize,
    /// Text tokens per impression; 256 in the published model.
    pub max_text_tokens: usize,
}

impl Default for TransformerOptions {
    fn default() -> Self {
        Self { heads: 8, max_text_tokens: 256 }
    }
}

/// A transformer as it was in a file.
#[derive(Debug, Clone)]
pub struct ImportedTransformer {
    /// The published variant, with the sizes that the tensors tell.
    pub config: TransformerConfig,
    /// The transformer's tensors.
    pub tensors: Tensors,
    /// Tensors of the text encoder that the file holds too (`bert.*`); empty where it holds none. Their configuration
    /// and vocabulary are in the encoder's own folder.
    pub text_encoder: Tensors,
    /// Names in the file that were not needed.
    pub passed_over: Vec<String>,
}

/// Reads a RayGen checkpoint.
///
/// # Errors
/// A file that is no PyTorch checkpoint or no RayGen transformer; missing, extra, misshapen or non-finite tensors; a number of
/// heads that doesn't divide the width.
pub fn transformer(path: &Path, options: TransformerOptions) -> Result<ImportedTransformer, ImportError> {
    let checkpoint = Checkpoint::open(path, |name| {
        let name = name.strip_prefix("model.").unwrap_or(name);
        Some(name.strip_prefix("tokenizer.").unwrap_or(name).to_owned())
    })?;
    architecture::check(&checkpoint, Architecture::RaygenTransformer)?;
    let config = infer_config(&checkpoint, options)?;
    config.validate().map_err(|source| ImportError::config(path, source))?;
    let tensors = take(&checkpoint, |vb| Transformer::new(&config, vb))?;
    let mut text_encoder = Tensors::new();
    for name in checkpoint.names().filter(|name| is_bert_parameter(name)) {
        let shape = checkpoint.shape(name).unwrap_or_default();
        text_encoder.insert(name.to_owned(), checkpoint.tensor(name, &shape)?);
    }
    let mut taken = tensors.clone();
    taken.extend(text_encoder.clone());
    let passed_over = checkpoint.passed_over(&taken);
    if let Some(name) = passed_over.iter().find(|name| is_of_the_network(name)) {
        let problem = "the published transformer has no such tensor".to_owned();
        return Err(ImportError::Unexpected { path: path.to_owned(), tensor: name.clone(), problem });
    }
    Ok(ImportedTransformer { config, tensors, text_encoder, passed_over })
}

/// Whether a grid or a text would pass through this tensor: to leave one out is to compute something else.
fn is_of_the_network(name: &str) -> bool {
    let name = name.strip_prefix("model.").unwrap_or(name);
    let roots = ["image_embedding.", "image_pos_emb.", "text_projector.", "transformer.", "final_dense."];
    roots.iter().any(|root| name.starts_with(root))
}

/// BERT's parameters; its integer buffer of positions is none.
fn is_bert_parameter(name: &str) -> bool {
    name.starts_with("bert.") && (name.ends_with(".weight") || name.ends_with(".bias"))
}

fn infer_config(checkpoint: &Checkpoint, options: TransformerOptions) -> Result<TransformerConfig, ImportError> {
    let dims = |name: &str, rank: usize| -> Result<Vec<usize>, ImportError> {
        let shape = checkpoint.shape(name).ok_or_else(|| checkpoint.missing(name, &[]))?;
        if shape.len() == rank {
            Ok(shape)
        } else {
            let problem = format!("has shape {shape:?}; expected {rank} dimensions");
            Err(ImportError::tensor(checkpoint.path(), name, problem))
        }
    };
    let at = |shape: &[usize], index: usize| shape.get(index).copied().unwrap_or_default();
    let embedding = dims("image_embedding.weight", 2)?;
    let width = at(&embedding, 1);
    let positions = at(&dims("image_pos_emb.pos_emb", 3)?, 1);
    let feed_forward = at(&dims("transformer.dec_layers.0.ffn.linear_2.weight", 2)?, 1);
    let text_width = match checkpoint.shape("text_projector.weight") {
        Some(_) => at(&dims("text_projector.weight", 2)?, 1),
        None => width,
    };
    if !width.is_multiple_of(options.heads.max(1)) || options.heads == 0 {
        let problem = format!("{} heads don't divide the width {width} of the weights", options.heads);
        return Err(ImportError::field(checkpoint.path(), "heads", problem));
    }
    let unused = "transformer.dec_layers.0.layer_norm_1.weight";
    Ok(TransformerConfig::Published(PublishedConfig {
        codebook_size: at(&embedding, 0).saturating_sub(1),
        positions,
        width,
        layers: count_layers(checkpoint),
        heads: options.heads,
        feed_forward,
        text_width,
        max_text_tokens: options.max_text_tokens,
        text_norm: TextNorm::TokenAxis,
        pad_mask: false,
        unused_attention_norms: checkpoint.shape(unused).is_some(),
        activation: Activation::Geglu,
    }))
}

/// One more than the highest layer that any tensor names, so that a gap shows as a missing tensor.
fn count_layers(checkpoint: &Checkpoint) -> usize {
    checkpoint
        .names()
        .filter_map(|name| name.strip_prefix("transformer.dec_layers.")?.split('.').next()?.parse::<usize>().ok())
        .map(|index| index.saturating_add(1))
        .max()
        .unwrap_or(0)
}
