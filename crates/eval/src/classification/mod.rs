//! How well scores tell films with a finding from films without.

mod auroc;

pub use auroc::auroc;
