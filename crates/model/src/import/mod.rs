//! Reads other people's checkpoints: RayGen's Lightning files, taming-transformers' VQ-GANs, Hugging Face BERT folders.
//!
//! Every importer gives a configuration of ours and the tensors that its network needs, by the names that our bundles
//! use. What a network doesn't need (losses, optimisers, unused heads) is passed over and listed.

mod architecture;
mod checkpoint;
mod densenet;
mod error;
mod expected;
mod list;
mod lpips;
mod pickle;
mod safetensors;
mod small_file;
mod stored;
mod text_encoder;
mod transformer;
mod vqgan;

use std::collections::BTreeMap;

use candle_core::Tensor;

pub use self::{
    architecture::Architecture,
    densenet::{DenseNetOptions, ImportedDenseNet, densenet},
    error::ImportError,
    list::{TensorInfo, list_tensors},
    lpips::lpips,
    stored::Element,
    text_encoder::{ImportedTextEncoder, TextEncoderFolder, text_encoder},
    transformer::{ImportedTransformer, TransformerOptions, transformer},
    vqgan::{ImportedVqGan, vqgan},
};

/// Tensors by the names that our bundles use.
pub type Tensors = BTreeMap<String, Tensor>;
