//! What can go wrong with a loaded model.

use crate::bundle::{BundleError, Component};
use crate::image::ImageError;
use crate::sampler::SamplingError;
use crate::text::TextError;

/// An answer that a model cannot give.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The model was loaded from a bundle without this network.
    #[error("this model has no {component}")]
    ComponentAbsent {
        /// The network.
        component: Component,
    },
    /// A grid of another size.
    #[error("the grid has {found} ids, but this model's has {expected}")]
    GridSize {
        /// Positions of the model's grid.
        expected: usize,
        /// Ids given.
        found: usize,
    },
    /// An id that is none.
    #[error("id {id} at position {position} is not below {limit}")]
    IdOutOfRange {
        /// The id.
        id: u32,
        /// Where it is, row-major.
        position: usize,
        /// The first id that is not allowed.
        limit: u32,
    },
    /// Text tokens of another length than this model's tokenizer gives.
    #[error("the text has {found} tokens, but this model reads at most {limit}")]
    TextLength {
        /// Tokens given, pads included.
        found: usize,
        /// Tokens allowed.
        limit: usize,
    },
    /// The network's answer is not a number.
    #[error("the {component} returned a number that is not finite for row {row}")]
    NotFinite {
        /// The network.
        component: Component,
        /// Which row of the call, from 0.
        row: usize,
    },
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The tokenizer cannot be built, or gave up.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The picture cannot be prepared.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A step of sampling failed.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A computation failed: out of memory, or a lost device.
    #[error("the computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}
