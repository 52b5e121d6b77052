//! Reads golden files and compares with them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{collections::HashMap, error::Error, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_model::import::Tensors;

/// What a golden test returns: any error fails it, by name.
pub(crate) type TestResult = Result<(), Box<dyn Error>>;

/// A file under `tests/golden`.
pub(crate) fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The tensors of a golden safetensors file.
pub(crate) fn expected(name: &str) -> Result<HashMap<String, Tensor>, Box<dyn Error>> {
    Ok(candle_core::safetensors::load(golden(name), &Device::Cpu)?)
}

/// A golden JSON file.
pub(crate) fn json<T: serde::de::DeserializeOwned>(name: &str) -> Result<T, Box<dyn Error>> {
    Ok(serde_json::from_str(&std::fs::read_to_string(golden(name))?)?)
}

/// A tensor of a golden file by name.
pub(crate) fn pick<'a>(tensors: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor, Box<dyn Error>> {
    tensors.get(name).ok_or_else(|| format!("the golden file has no `{name}`").into())
}

/// Frozen weights for a network.
pub(crate) fn weights(tensors: &Tensors) -> VarBuilder<'static> {
    let tensors = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}

/// All values of a tensor as f32, row-major.
pub(crate) fn floats(tensor: &Tensor) -> Result<Vec<f32>, Box<dyn Error>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// All values of a tensor of ids, row-major.
pub(crate) fn ids(tensor: &Tensor) -> Result<Vec<u32>, Box<dyn Error>> {
    Ok(tensor.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?)
}

/// Asserts max |ours - expected| <= tolerance * max |expected|, and equal shapes.
pub(crate) fn assert_close(what: &str, ours: &Tensor, expected: &Tensor, tolerance: f32) -> TestResult {
    assert_eq!(ours.dims(), expected.dims(), "{what}: shapes differ");
    let (ours, expected) = (floats(ours)?, floats(expected)?);
    assert!(ours.iter().all(|value| value.is_finite()), "{what}: a value is not finite");
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let error = ours.iter().zip(&expected).fold(0f32, |error, (a, b)| error.max((a - b).abs()));
    println!("{what}: largest difference {:.2e} of the largest value", error / largest);
    assert!(error <= tolerance * largest, "{what}: differs by {error:e}; largest expected value {largest:e}");
    Ok(())
}
