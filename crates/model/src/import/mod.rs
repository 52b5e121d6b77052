//! Reads other people's checkpoints: RayGen's Lightning files, taming-transformers' VQ-GANs, Hugging Face BERT folders.
//!
//! Every importer gives a configuration of ours and the tensors that its network needs, by the names that our bundles
//! use. What a network doesn't need (losses, optimisers, unused heads) is passed over and listed.

mod checkpoint;
mod error;
mod expected;
mod text_encoder;
mod transformer;
mod vqgan;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use self::{
    error::ImportError,
    text_encoder::{ImportedTextEncoder, text_encoder},
    transformer::{ImportedTransformer, TransformerOptions, transformer},
    vqgan::{ImportedVqGan, vqgan},
};

/// Tensors by the names that our bundles use.
pub type Tensors = BTreeMap<String, Tensor>;
