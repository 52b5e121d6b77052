//! Which tensors a configuration asks for: the network is built over a recorder, and says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::densenet::DenseNet;
use crate::text_encoder::TextEncoder;
use crate::transformer::Transformer;
use crate::vqgan::VqGan;

use super::{BundleConfig, BundleError, Component};

/// Name and shape of every tensor of a component; none where the bundle only passes the component on.
///
/// # Errors
/// The component is absent, or no network can be built from its configuration.
pub fn expected_tensors(
    config: &BundleConfig,
    component: Component,
) -> std::result::Result<Option<BTreeMap<String, Vec<usize>>>, BundleError> {
    let recorder = Recorder::default();
    let builder = || VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu);
    let components = &config.components;
    let absent = BundleError::ComponentAbsent { component };
    let built = match component {
        Component::VqGan => VqGan::new(components.vqgan.as_ref().ok_or(absent)?, builder()).map(drop),
        Component::Transformer => Transformer::new(components.transformer.as_ref().ok_or(absent)?, builder()).map(drop),
        Component::TextEncoder => {
            TextEncoder::new(components.text_encoder.as_ref().ok_or(absent)?, builder()).map(drop)
        }
        Component::Classifier => DenseNet::new(components.classifier.as_ref().ok_or(absent)?, builder()).map(drop),
    };
    built.map_err(|source| BundleError::Tensor { component, source })?;
    let recorded = recorder.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Some(recorded))
}

/// Answers every request for a tensor with zeros, and remembers it.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), shape.dims().to_vec());
        // One zero seen through strides of zero: a network of any size costs no memory.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("tensor {name} was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
