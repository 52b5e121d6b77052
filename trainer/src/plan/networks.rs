//! How large the networks of a run are, counted without making a single weight.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use raygen_model::text_encoder::TextEncoder;
use raygen_model::transformer::Transformer;
use raygen_model::vqgan::VqGan;
use serde::Serialize;

use crate::config::{AdversarialConfig, RunConfig};
use crate::loss::Discriminator;
use crate::stages::tokenizer::{CODEBOOK, network_config};
use crate::stages::transformer::{Freeze, Shapes};

/// A network of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Which.
    pub name: &'static str,
    /// Numbers in all its tensors.
    pub parameters: u64,
    /// Those that follow a gradient.
    pub trained: u64,
    /// Those whose moving average is kept: all that are not taken as they are.
    pub averaged: u64,
    /// Whether all of it is taken as it is: without moments and average.
    pub frozen: bool,
}

/// The networks of `config`, the text encoder with the shape that `shapes` has.
pub(super) fn count(config: &RunConfig, shapes: &Shapes) -> Result<[Network; 3]> {
    let tokenizer = tensor_sizes(|vb| VqGan::new(&network_config(config), vb).map(drop).map_err(Into::into))?;
    let transformer = tensor_sizes(|vb| Transformer::new(&shapes.transformer, vb).map(drop).map_err(Into::into))?;
    let text = tensor_sizes(|vb| TextEncoder::new(&shapes.text_encoder, vb).map(drop).map_err(Into::into))?;
    let sum = |sizes: &BTreeMap<String, u64>, of: &dyn Fn(&str) -> bool| {
        sizes.iter().filter(|(name, _)| of(name)).map(|(_, size)| size).sum::<u64>()
    };
    let network = |name, sizes: &BTreeMap<String, u64>, stays: &dyn Fn(&str) -> bool, learns: &dyn Fn(&str) -> bool| {
        let averaged = sum(sizes, &|name| !stays(name));
        Network {
            name,
            parameters: sum(sizes, &|_| true),
            trained: sum(sizes, &|name| !stays(name) && learns(name)),
            averaged,
            frozen: averaged == 0,
        }
    };
    let freeze = Freeze::of(&config.transformer).map_err(|problem| anyhow!("transformer.freeze {problem}"))?;
    Ok([
        network("tokenizer", &tokenizer, &|_| config.tokenizer.steps == 0, &|name| name != CODEBOOK),
        network("transformer", &transformer, &|name| freeze.holds(name), &|name| !shapes.transformer.is_unused(name)),
        network("text encoder", &text, &|name| freeze.holds(name), &|_| true),
    ])
}

/// What the stage `decoder` has in memory: the tokenizer, of which the decoder learns, and the discriminator where there is one.
pub(super) fn decoder(config: &RunConfig) -> Vec<Network> {
    let tokenizer = tensor_sizes(|vb| VqGan::new(&network_config(config), vb).map(drop).map_err(Into::into));
    let mut networks = vec![learning("decoder", tokenizer, &crate::stages::decoder_learns)];
    networks.extend(discriminator(config, config.decoder.as_ref().and_then(|decoder| decoder.adversarial.as_ref())));
    networks
}

/// The discriminator of a stage, where it has one: it learns as the pictures do. No average of it is kept, so that what is told of
/// that is rather too much.
pub(super) fn discriminator(config: &RunConfig, adversarial: Option<&AdversarialConfig>) -> Option<Network> {
    let (config, channels) = (adversarial?, config.tokenizer.model.image_channels);
    let sizes = tensor_sizes(|vb| {
        Discriminator::new(channels, config.channels, config.layers, vb).map(drop).map_err(Into::into)
    });
    Some(learning("discriminator", sizes, &|_| true))
}

fn learning(name: &'static str, sizes: Result<BTreeMap<String, u64>>, learns: &dyn Fn(&str) -> bool) -> Network {
    let sizes = sizes.unwrap_or_default();
    let trained = sizes.iter().filter(|(name, _)| learns(name)).map(|(_, size)| size).sum();
    Network { name, parameters: sizes.values().sum(), trained, averaged: trained, frozen: false }
}

/// Sizes by tensor name of what a network asks for while it is built.
pub(crate) fn tensor_sizes(build: impl FnOnce(VarBuilder<'static>) -> Result<()>) -> Result<BTreeMap<String, u64>> {
    let counter = Counter::default();
    build(VarBuilder::from_backend(Box::new(counter.clone()), DType::F32, Device::Cpu))?;
    let sizes = counter.0.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(sizes.clone())
}

/// Hands out tensors of the right shape behind which there is one zero.
#[derive(Clone, Default)]
struct Counter(Arc<Mutex<BTreeMap<String, u64>>>);

impl SimpleBackend for Counter {
    fn get(&self, shape: Shape, name: &str, _init: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut sizes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.insert(name.to_owned(), shape.elem_count() as u64);
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _dtype: DType, _device: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("the shape of tensor {name} is known only when it is read")
    }

    fn contains_tensor(&self, _name: &str) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use raygen_nn::Parameters;

    use super::*;

    #[test]
    fn what_is_counted_is_what_is_made() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/quickstart.toml");
        let config = RunConfig::read(&path).unwrap();
        let shapes = Shapes::new(&config, &network_config(&config), 50);
        let made = |build: &dyn Fn(VarBuilder<'static>)| {
            let parameters = Parameters::initialised(0, &Device::Cpu);
            build(parameters.builder(DType::F32));
            parameters.named().iter().map(|(_, var)| var.elem_count() as u64).sum::<u64>()
        };
        let [tokenizer, transformer, text] = count(&config, &shapes).unwrap();
        assert_eq!(tokenizer.parameters, made(&|vb| drop(VqGan::new(&network_config(&config), vb).unwrap())));
        assert_eq!(transformer.parameters, made(&|vb| drop(Transformer::new(&shapes.transformer, vb).unwrap())));
        assert_eq!(text.parameters, made(&|vb| drop(TextEncoder::new(&shapes.text_encoder, vb).unwrap())));
        let codebook = config.tokenizer.model.codebook_size * config.tokenizer.model.embed_dim;
        assert_eq!(tokenizer.parameters - tokenizer.trained, codebook as u64);
        assert_eq!((transformer.trained, text.trained), (transformer.parameters, text.parameters));
    }
}
