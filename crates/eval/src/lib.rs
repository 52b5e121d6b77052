//! Metrics over pictures, and sheets of pictures and plots of numbers to look at.
//!
//! Everything here works on plain gray pixels ([`GrayImage`]): no network, no server, no tensor library.

#![forbid(unsafe_code)]

pub mod classification;
mod diversity;
mod error;
mod font;
mod gray;
pub mod plot;
mod psnr;
pub mod sheet;
mod similarity;

pub use diversity::{Measure, mean_pairwise};
pub use error::EvalError;
pub use gray::GrayImage;
pub use psnr::{PSNR_CAP, psnr, psnr_capped};
pub use similarity::{MS_SSIM_SMALLEST_SIDE, SSIM_SMALLEST_SIDE, ms_ssim, ssim};
