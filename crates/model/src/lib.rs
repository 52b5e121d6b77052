//! Networks, samplers, bundles and picture codecs of RayGen.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod config;
mod dense;
pub mod densenet;
pub mod image;
pub mod import;
pub mod lpips;
pub mod model;
pub mod random;
pub mod sampler;
pub mod text;
pub mod text_encoder;
pub mod transformer;
pub mod vqgan;
