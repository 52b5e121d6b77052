//! What can go wrong with a loaded model.

use crate::bundle::{BundleError, Component};
use crate::image::ImageError;
use crate::sampler::SamplingError;
use crate::text::TextError;
use crate::transformer::View;

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
    /// A view that the model has not learnt.
    #[error("this model has not learnt the view {view}; it knows {}", named(.trained))]
    UnknownView {
        /// The view asked for.
        view: View,
        /// Those that it knows.
        trained: Vec<View>,
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
    /// The mean patches could not be measured; they are not tried again.
    #[error("there are no rough pictures of this model: {0}")]
    NoPatches(String),
    /// A computation failed: out of memory, or a lost device.
    #[error("the computation failed: {0}")]
    Compute(#[from] candle_core::Error),
}

fn named(views: &[View]) -> String {
    if views.is_empty() {
        return "none".to_owned();
    }
    views.iter().map(|view| view.name()).collect::<Vec<_>>().join(", ")
}

impl ModelError {
    /// Whether the device itself failed, so that nothing will ever be computed on it again in this process. A device that
    /// is only out of memory is not lost.
    pub fn is_device_lost(&self) -> bool {
        matches!(self.driver_fault(), Some(DriverFault::Lost))
    }

    /// Whether the device had too little memory: less at once may fit.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self.driver_fault(), Some(DriverFault::OutOfMemory))
    }

    fn driver_fault(&self) -> Option<DriverFault> {
        match self {
            Self::Compute(error) | Self::Bundle(BundleError::Tensor { source: error, .. }) => driver_fault(error),
            _ => None,
        }
    }
}

/// What an error of CUDA's driver or libraries means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DriverFault {
    OutOfMemory,
    Lost,
}

fn driver_fault(error: &candle_core::Error) -> Option<DriverFault> {
    use candle_core::Error;
    match error {
        Error::Cuda(driver) => {
            // The driver's types are known to CUDA builds only, its names are not.
            let said = driver.to_string();
            let memory = ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"].iter().any(|memory| said.contains(memory));
            Some(if memory { DriverFault::OutOfMemory } else { DriverFault::Lost })
        }
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => {
            driver_fault(inner)
        }
        Error::WrappedContext { wrapped, .. } => wrapped.downcast_ref::<Error>().and_then(driver_fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Context, Error};

    use super::*;

    fn driver(said: &str) -> Error {
        Error::Cuda(said.into())
    }

    #[test]
    fn errors_of_the_driver_are_a_lost_device_however_they_are_wrapped() {
        let lost = || driver("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")");
        for error in [
            lost(),
            lost().context("in a step"),
            lost().with_path("x"),
            Err::<(), _>(lost()).context("in a step").expect_err("an error"),
        ] {
            assert!(ModelError::from(error).is_device_lost());
        }
    }

    #[test]
    fn a_device_out_of_memory_and_errors_of_shape_are_no_lost_device() {
        let full = driver("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        let full = ModelError::from(full.context("in a step"));
        assert!(!full.is_device_lost());
        assert!(full.is_out_of_memory());
        assert!(!ModelError::from(driver("DriverError(CUDA_ERROR_ECC_UNCORRECTABLE)")).is_out_of_memory());
        assert!(!ModelError::from(Error::Msg("shape mismatch".to_owned())).is_device_lost());
        assert!(!ModelError::GridSize { expected: 1, found: 2 }.is_device_lost());
    }
}
