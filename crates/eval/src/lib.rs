//! Metrics over pictures, and sheets of pictures and plots of numbers to look at.
//!
//! Everything here works on plain numbers: gray pixels ([`GrayImage`]), [`Features`], tokens, probabilities and labels. No
//! network, no server, no tensor library. A [`Measurement`] is the form in which a number leaves: with interval, protocol,
//! extractor and sample count, and it refuses what it does not compare with.

#![forbid(unsafe_code)]

pub mod classification;
pub mod comparison;
pub mod distribution;
mod diversity;
mod error;
mod features;
mod font;
mod gray;
mod measurement;
pub mod memorisation;
pub mod plot;
mod products;
mod psnr;
pub mod report;
pub mod set_similarity;
pub mod sheet;
mod similarity;
pub mod statistics;

pub use diversity::{Measure, mean_pairwise};
pub use error::EvalError;
pub use features::{Extractor, FeatureError, Features};
pub use gray::GrayImage;
pub use measurement::{Incomparable, Measurement, MeasurementDifference, Metric, Mismatch, UnknownMetric};
pub use psnr::{PSNR_CAP, psnr, psnr_capped};
pub use similarity::{MS_SSIM_SMALLEST_SIDE, SSIM_SMALLEST_SIDE, ms_ssim, ssim};
