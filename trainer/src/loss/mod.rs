//! Losses of decoded pictures.

mod discriminator;
mod perceptual;
mod structure;

pub use discriminator::{Discriminator, adversarial_loss, hinge_loss};
pub use perceptual::Perceptual;
pub use structure::structure_loss;
