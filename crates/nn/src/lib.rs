//! Differentiable operations for candle: fused on the CPU in f32, compositions of candle primitives elsewhere.
//!
//! Every function takes tensors by reference and returns a `candle_core::Result`. On f32 CPU tensors the forward
//! and the backward pass are kernels of this crate; for any other type or device the same function is computed by
//! [`reference`]. All of them carry gradients: several operations of `candle_nn` silently do not.
//!
//! # Promises on the CPU
//! - A row of dimension 0 (one film, one text) has the same bits alone and in any batch.
//! - Forward and backward give the same bits on every run, whatever the number and the timing of threads.
//! - NaN in gives NaN out. Nothing here turns a broken weight into a plausible number.

mod activation;
mod attention;
mod binary_cross_entropy;
mod conv2d;
mod cross_entropy;
mod embedding;
mod kernel;
mod linear;
mod norm;
mod pool;
mod softmax;
mod straight_through;
mod upsample;

pub mod layers;
pub mod parameters;
pub mod reference;

pub use activation::{geglu, gelu, relu, silu};
pub use attention::{Dropout, DropoutKey, attention, attention_with_dropout};
pub use binary_cross_entropy::binary_cross_entropy;
pub use conv2d::{ConvGeometry, Padding, conv2d};
pub use cross_entropy::{cross_entropy, cross_entropy_of_likeness};
pub use embedding::embedding;
pub use linear::linear;
pub use norm::{BatchStatistics, batch_norm, batch_norm_relu, group_norm, group_norm_silu, layer_norm, rms_norm};
pub use parameters::{ParameterError, Parameters};
pub use pool::{avg_pool_2x2, max_pool_3x3};
pub use softmax::softmax;
pub use straight_through::straight_through;
pub use upsample::upsample_nearest_2x;
