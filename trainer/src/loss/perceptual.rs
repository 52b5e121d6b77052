//! The perceptual loss: how different two pictures are to a network that was trained to see.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_model::bundle::{Bundle, Component};
use raygen_model::densenet::DenseNet;
use raygen_model::import;
use raygen_model::lpips::{Lpips, unit_length};
use sha2::{Digest, Sha256};

use crate::run::disk::{hex, sha256};

/// A network, and what tells it from others.
pub struct Perceptual {
    network: Network,
    /// SHA-256 of its files.
    pub digest: String,
}

/// Whose features are compared.
enum Network {
    /// A VGG-16, as LPIPS compares them.
    Lpips(Box<Lpips>),
    /// A classifier of films: the maps after each of its blocks, compared the same way, each channel counting once.
    DenseNet(Box<DenseNet>),
}

// === impl Perceptual ===

impl Perceptual {
    /// Reads the network of `features`: a file of a VGG-16, with the weights of its channels where they are in a file of their
    /// own, or a bundle with a classifier.
    ///
    /// # Errors
    /// Names the file, and what is wrong with it.
    pub fn read(features: &Path, linear: Option<&Path>, device: &Device) -> Result<Self> {
        if features.is_dir() {
            if let Some(linear) = linear {
                bail!("{}: these weights are for a VGG-16, {} is a bundle", linear.display(), features.display());
            }
            return Self::of_bundle(features, device).with_context(|| features.display().to_string());
        }
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
        let digest = hex(&digest.finalize());
        Ok(Self { network: Network::Lpips(Box::new(network)), digest })
    }

    fn of_bundle(path: &Path, device: &Device) -> Result<Self> {
        let bundle = Bundle::open(path)?;
        let Some(config) = &bundle.config().components.classifier else { bail!("the bundle has no classifier") };
        let tensors = bundle.tensors(Component::Classifier, device, DType::F32)?.into_iter().collect();
        let network = DenseNet::new(config, VarBuilder::from_tensors(tensors, DType::F32, device))?;
        let weights = bundle.checksum(&Component::Classifier.file()).context("SHA256SUMS lists no classifier")?;
        // How it reads pixels changes what it sees.
        let digest = sha256(format!("{weights} {}", serde_json::to_string(config)?).as_bytes());
        Ok(Self { network: Network::DenseNet(Box::new(network)), digest })
    }

    /// The mean distance of `ours` to `theirs`, both [batch, channels, height, width] in [-1, 1].
    ///
    /// # Errors
    /// Where a tensor operation fails.
    pub fn loss(&self, ours: &Tensor, theirs: &Tensor) -> candle_core::Result<Tensor> {
        match &self.network {
            Network::Lpips(network) => network.distance(ours, theirs)?.mean_all(),
            Network::DenseNet(network) => {
                let seen = |pictures: &Tensor| network.block_maps(&network.config().scaled(pictures)?);
                let mut total = Tensor::zeros((), DType::F32, ours.device())?;
                for (ours, theirs) in seen(ours)?.iter().zip(&seen(theirs)?) {
                    let squares = (unit_length(ours)? - unit_length(theirs)?)?.sqr()?;
                    total = (total + squares.sum(1)?.mean_all()?)?;
                }
                Ok(total)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use candle_core::Var;
    use raygen_model::densenet::{DENSENET_121, DenseNetConfig};
    use raygen_nn::Parameters;

    use super::*;

    const SIDE: usize = 32;

    /// A small DenseNet whose maps have negative parts.
    fn perceptual() -> Perceptual {
        let config = DenseNetConfig {
            growth_rate: 4,
            block_layers: vec![2, 1],
            initial_features: 8,
            bottleneck: 2,
            in_channels: 1,
            image_size: SIDE,
            ..DenseNetConfig::published(DENSENET_121, vec!["Mass".to_owned()])
        };
        let parameters = Parameters::initialised(2, &Device::Cpu);
        DenseNet::new(&config, parameters.builder(DType::F32)).unwrap();
        let tensors = parameters.named().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
        let network = DenseNet::new(&config, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap();
        Perceptual { network: Network::DenseNet(Box::new(network)), digest: String::new() }
    }

    fn picture(phase: f32) -> Vec<f32> {
        (0..SIDE * SIDE).map(|i| ((i as f32) * 0.23 + phase).sin() * 0.8).collect()
    }

    fn tensor(pixels: Vec<f32>) -> Tensor {
        Tensor::from_vec(pixels, (1, 1, SIDE, SIDE), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_densenets_gradient_in_the_pictures_agrees_with_finite_differences() {
        let perceptual = perceptual();
        let target = tensor(picture(1.0));
        let at = |pixels: Vec<f32>| {
            f64::from(perceptual.loss(&tensor(pixels), &target).unwrap().to_scalar::<f32>().unwrap())
        };
        assert!(at(picture(1.0)) < 1e-6 && at(picture(0.0)) > 1e-3);
        let ours = Var::from_tensor(&tensor(picture(0.0))).unwrap();
        let gradients = perceptual.loss(ours.as_tensor(), &target).unwrap().backward().unwrap();
        let gradient = gradients.get(ours.as_tensor()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Along the gradient a step changes the loss by the square of its length: one number, large against rounding.
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let moved = |by: f64| {
            let step = |(pixel, g): (f32, &f32)| (f64::from(pixel) + by * f64::from(*g) / length) as f32;
            at(picture(0.0).into_iter().zip(&gradient).map(step).collect())
        };
        let numeric = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!((numeric - length).abs() < 0.03 * length, "{numeric} {length}");
    }
}
