//! Bundles: a model as a directory (or as bytes), checked before anything is served.
//!
//! `config.json`, one `.safetensors` per component, `tokenizer.json`, `README.md`, `metrics.json`, and `SHA256SUMS`
//! over all of them. The digest of a bundle is the SHA-256 of its `SHA256SUMS`.

mod checksum;
mod component;
mod config;
mod error;
mod expected;
mod read;
mod temporary;
mod tensors;
mod write;

pub use crate::text::TextConfig;
pub use component::Component;
pub use config::{BundleConfig, Components, FORMAT_VERSION, Grid};
pub use error::BundleError;
pub use expected::expected_tensors;
pub use read::Bundle;
pub use write::{BundleWriter, StoreType};

/// The configuration of a bundle.
pub const CONFIG_FILE: &str = "config.json";
/// The tokenizer of its text encoder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
/// The checksums of all other files.
pub const CHECKSUM_FILE: &str = "SHA256SUMS";
