//! Losses of the tokenizer.

mod structure;

pub use structure::structure_loss;
