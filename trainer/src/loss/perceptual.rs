//! The perceptual loss: how different two pictures are to a network that was trained to see.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use raygen_model::import;
use raygen_model::lpips::Lpips;
use sha2::{Digest, Sha256};

/// A network, and what tells it from others.
pub struct Perceptual {
    network: Lpips,
    /// SHA-256 of its files.
    pub digest: String,
}

// === impl Perceptual ===

impl Perceptual {
    /// Reads the network of `features`, and the weights of its channels where they are in a file of their own.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn read(features: &Path, linear: Option<&Path>, device: &Device) -> Result<Self> {
        let tensors = import::lpips(features, linear)?;
        let network = Lpips::new(&tensors, device).with_context(|| features.display().to_string())?;
        if !network.is_weighted() {
            eprintln!("{}: a VGG-16 without LPIPS's weights; every channel counts once", features.display());
        }
        let mut digest = Sha256::new();
        for path in [Some(features), linear].into_iter().flatten() {
            let mut file = File::open(path).with_context(|| path.display().to_string())?;
            io::copy(&mut file, &mut digest).with_context(|| path.display().to_string())?;
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { network, digest })
    }

    /// The mean distance of `ours` to `theirs`, both [batch, channels, height, width] in [-1, 1].
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn loss(&self, ours: &Tensor, theirs: &Tensor) -> candle_core::Result<Tensor> {
        self.network.distance(ours, theirs)?.mean_all()
    }
}
