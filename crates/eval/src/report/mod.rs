//! Pictures of what the metrics found: ROC curves and histograms, as panels of a [`crate::plot::Figure`].

mod histogram;
mod roc;

pub use self::histogram::{Sample, histogram_panel};
pub use self::roc::roc_panel;
