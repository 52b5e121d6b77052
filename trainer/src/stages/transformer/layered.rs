//! A builder over two stores: tensors that stay as they are, and before what they lack, the trained ones.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use raygen_nn::Parameters;

/// Hands out a frozen tensor where there is one of the name, else a variable.
pub(super) struct Layered {
    frozen: BTreeMap<String, Tensor>,
    parameters: Parameters,
}

impl Layered {
    /// A builder in `dtype`: what is stored in another type is converted on the way out, and gradients come back.
    pub(super) fn builder(
        frozen: BTreeMap<String, Tensor>,
        parameters: &Parameters,
        dtype: DType,
        device: &Device,
    ) -> VarBuilder<'static> {
        let layered = Self { frozen, parameters: parameters.clone() };
        VarBuilder::from_backend(Box::new(layered), dtype, device.clone())
    }
}

impl SimpleBackend for Layered {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(tensor) = self.frozen.get(name) else {
            return self.parameters.get(shape, name, init, dtype, device);
        };
        if tensor.shape() != &shape {
            candle_core::bail!("frozen tensor {name} has shape {:?}; the network expects {shape:?}", tensor.shape());
        }
        tensor.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        match self.frozen.get(name) {
            Some(tensor) => tensor.to_device(device)?.to_dtype(dtype),
            None => self.parameters.get_unchecked(name, dtype, device),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.frozen.contains_key(name) || self.parameters.contains_tensor(name)
    }
}
