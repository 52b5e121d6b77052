//! A loaded model: plain types in and out, tensors inside.

mod codec;
mod condition;
mod error;
mod generate;
mod grid;
mod info;
mod load;
mod patches;
mod step;

pub use condition::{Condition, Embedding};
pub use error::ModelError;
pub use generate::Row;
pub use info::ModelInfo;
pub use load::Model;
