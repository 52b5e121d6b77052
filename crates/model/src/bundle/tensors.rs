//! One component's safetensors file: every tensor's name, shape, type and values checked before it is used.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{BundleError, Component};

/// Reads a component's tensors onto a device. `expected` names all of them, with shapes; without it any are taken.
pub(super) fn read(
    component: Component,
    bytes: &[u8],
    expected: Option<&BTreeMap<String, Vec<usize>>>,
    device: &Device,
    dtype: DType,
) -> Result<BTreeMap<String, Tensor>, BundleError> {
    let file = component.file();
    let safetensors = SafeTensors::deserialize(bytes)
        .map_err(|error| BundleError::Safetensors { file: file.clone(), problem: error.to_string() })?;
    if let Some(expected) = expected {
        check_shapes(&file, &safetensors, expected)?;
    }
    let mut tensors = BTreeMap::new();
    for (name, view) in safetensors.iter() {
        let values = values(&file, name, &view)?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let value = values[index];
            return Err(BundleError::NotFinite { file, tensor: name.to_owned(), index, value });
        }
        let tensor = Tensor::from_vec(values, view.shape(), &Device::Cpu)
            .and_then(|tensor| tensor.to_device(device))
            .and_then(|tensor| tensor.to_dtype(dtype))
            .map_err(|source| BundleError::Tensor { component, source })?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

fn check_shapes(
    file: &str,
    safetensors: &SafeTensors<'_>,
    expected: &BTreeMap<String, Vec<usize>>,
) -> Result<(), BundleError> {
    let file = || file.to_owned();
    for (tensor, shape) in expected {
        let Ok(view) = safetensors.tensor(tensor) else {
            return Err(BundleError::MissingTensor { file: file(), tensor: tensor.clone(), expected: shape.clone() });
        };
        if view.shape() != shape {
            let (expected, found) = (shape.clone(), view.shape().to_vec());
            return Err(BundleError::Shape { file: file(), tensor: tensor.clone(), expected, found });
        }
    }
    // The file's own order is a hash map's: the first by name is told.
    let unexpected = safetensors.iter().filter(|(name, _)| !expected.contains_key(*name)).min_by_key(|(name, _)| *name);
    match unexpected {
        Some((name, view)) => {
            let found = view.shape().to_vec();
            Err(BundleError::UnexpectedTensor { file: file(), tensor: name.to_owned(), found })
        }
        None => Ok(()),
    }
}

fn values(file: &str, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, BundleError> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => Ok(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Dtype::F16 => Ok(data.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
        Dtype::BF16 => Ok(data.as_chunks::<2>().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()),
        other => {
            let found = format!("{other:?}");
            Err(BundleError::StoredType { file: file.to_owned(), tensor: name.to_owned(), found })
        }
    }
}
