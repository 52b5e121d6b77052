//! What the integration tests share: seeded random tensors and every operation as a named case.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod cases;

use candle_core::{DType, Device, Result, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Seeded source of shapes and values.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A whole number in `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() % (high - low + 1) as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub(crate) fn value(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// f64 on the CPU, uniform in [-1, 1); the values are exact in f32, so that both precisions see the same input.
    pub(crate) fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        let count = dims.iter().product();
        let values: Vec<f64> = (0..count).map(|_| f64::from(self.value() as f32)).collect();
        Tensor::from_vec(values, dims, &Device::Cpu)
    }

    /// u32 ids below `count`.
    pub(crate) fn ids(&mut self, dims: &[usize], count: usize) -> Result<Tensor> {
        let length = dims.iter().product();
        let ids: Vec<u32> = (0..length).map(|_| self.between(0, count - 1) as u32).collect();
        Tensor::from_vec(ids, dims, &Device::Cpu)
    }
}

/// What an operation does with its inputs.
type Run = dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync;

/// An operation with all its differentiable inputs, in f64.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) inputs: Vec<Tensor>,
    /// How many of the inputs, from the first, carry the batch in dimension 0.
    pub(crate) batched: usize,
    pub(crate) run: Box<Run>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        inputs: Vec<Tensor>,
        batched: usize,
        run: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), inputs, batched, run: Box::new(run) }
    }
}

/// The value of an operation and the gradient of every input, for the loss `sum(out * factors)` with fixed factors.
pub(crate) fn value_and_gradients(case: &Case, dtype: DType) -> Result<(Tensor, Vec<Tensor>)> {
    let variables =
        case.inputs.iter().map(|input| Var::from_tensor(&input.to_dtype(dtype)?)).collect::<Result<Vec<_>>>()?;
    let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let out = (case.run)(&inputs)?;
    let loss = (&out * factors(&out)?)?.sum_all()?;
    let gradients = loss.backward()?;
    let gradients = variables
        .iter()
        .enumerate()
        .map(|(index, variable)| match gradients.get(variable.as_tensor()) {
            Some(gradient) => Ok(gradient.clone()),
            None => candle_core::bail!("{}: input {index} has no gradient", case.name),
        })
        .collect::<Result<_>>()?;
    Ok((out.detach(), gradients))
}

/// Fixed factors in [-1, 1] that differ between neighbours, as the gradient of the result.
pub(crate) fn factors(out: &Tensor) -> Result<Tensor> {
    let values: Vec<f64> = (0..out.elem_count()).map(|i| ((i * 37 + 11) % 64) as f64 / 32.0 - 1.0).collect();
    Tensor::from_vec(values, out.shape(), out.device())?.to_dtype(out.dtype())
}

/// The bits of an f32 tensor.
pub(crate) fn bits(tensor: &Tensor) -> Result<Vec<u32>> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}
