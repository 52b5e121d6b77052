//! The trainable tensors of a network by name, created or loaded the same way on every run.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor, Var};
use candle_nn::init::{FanInOut, NormalOrUniform};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A tensor that a network asked for and that is not there as asked.
#[derive(Debug, thiserror::Error)]
pub enum ParameterError {
    /// No tensor of this name was given.
    #[error("tensor {name} is missing; the network expects it with shape {expected:?}")]
    Missing {
        /// Full name of the tensor.
        name: String,
        /// Shape that the network expects, empty where it did not say.
        expected: Vec<usize>,
    },
    /// The tensor has another shape than the network expects.
    #[error("tensor {name} has shape {found:?}; the network expects {expected:?}")]
    Shape {
        /// Full name of the tensor.
        name: String,
        /// Shape that the network expects.
        expected: Vec<usize>,
        /// Shape of the tensor.
        found: Vec<usize>,
    },
}

/// Named variables behind a `VarBuilder`. Clones share the same variables.
///
/// For training: whatever is computed from variables keeps its intermediate results for a backward pass. Build a
/// network that only predicts from plain tensors.
#[derive(Clone)]
pub struct Parameters {
    store: Arc<Store>,
}

struct Store {
    /// Seed of tensors that do not exist yet; `None` where all of them were given.
    seed: Option<u64>,
    device: Device,
    variables: Mutex<BTreeMap<String, Var>>,
}

impl Parameters {
    /// Creates each tensor when the network first asks for it.
    ///
    /// Its values depend on `seed`, its name, its shape and the `Init` hint, and on nothing else: not on the order in
    /// which a network is built, not on threads, not on the device.
    pub fn initialised(seed: u64, device: &Device) -> Self {
        Self::with_store(Some(seed), device.clone(), BTreeMap::new())
    }

    /// Makes variables of existing tensors. A network that asks for a missing name or another shape gets a
    /// [`ParameterError`].
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let device = match tensors.values().next() {
            Some(tensor) => tensor.device().clone(),
            None => Device::Cpu,
        };
        let variables =
            tensors.into_iter().map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?))).collect::<Result<_>>()?;
        Ok(Self::with_store(None, device, variables))
    }

    fn with_store(seed: Option<u64>, device: Device, variables: BTreeMap<String, Var>) -> Self {
        let store = Store { seed, device, variables: Mutex::new(variables) };
        Self { store: Arc::new(store) }
    }

    /// A builder that hands out these variables. One of another type is converted on the way out, and its gradient
    /// comes back to the variable.
    pub fn builder(&self, dtype: DType) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self.clone()), dtype, self.store.device.clone())
    }

    /// All variables that exist by now, sorted by name.
    pub fn named(&self) -> Vec<(String, Var)> {
        self.variables().iter().map(|(name, variable)| (name.clone(), variable.clone())).collect()
    }

    fn variables(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        // A panic elsewhere cannot leave the map half changed: it is only ever inserted into.
        self.store.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut variables = self.variables();
        let variable = match (variables.get(name), self.store.seed) {
            (Some(variable), _) => variable.clone(),
            (None, Some(seed)) => {
                let values = initial_values(seed, name, &shape, init);
                let tensor = Tensor::from_vec(values, &shape, device)?.to_dtype(dtype)?;
                let variable = Var::from_tensor(&tensor)?;
                variables.insert(name.to_owned(), variable.clone());
                variable
            }
            (None, None) => {
                return Err(Error::wrap(ParameterError::Missing {
                    name: name.to_owned(),
                    expected: shape.into_dims(),
                }));
            }
        };
        if variable.shape() != &shape {
            return Err(Error::wrap(ParameterError::Shape {
                name: name.to_owned(),
                expected: shape.into_dims(),
                found: variable.dims().to_vec(),
            }));
        }
        variable.to_device(device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        match self.variables().get(name) {
            Some(variable) => variable.to_device(device)?.to_dtype(dtype),
            None => Err(Error::wrap(ParameterError::Missing { name: name.to_owned(), expected: Vec::new() })),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.variables().contains_key(name)
    }
}

/// The values of a new tensor, drawn in row-major order from ChaCha8 keyed by the seed and the name.
fn initial_values(seed: u64, name: &str, shape: &Shape, init: Init) -> Vec<f32> {
    let count = shape.elem_count();
    let mut generator = ChaCha8Rng::from_seed(key(seed, name));
    match init {
        Init::Const(value) => vec![value as f32; count],
        Init::Uniform { lo, up } => uniform(&mut generator, count, lo, up),
        Init::Randn { mean, stdev } => normal(&mut generator, count, mean, stdev),
        Init::Kaiming { dist, fan, non_linearity } => {
            let fan = match fan {
                FanInOut::FanIn => FanInOut::FanIn.for_shape(shape),
                FanInOut::FanOut => FanInOut::FanOut.for_shape(shape),
            };
            let deviation = non_linearity.gain() / (fan.max(1) as f64).sqrt();
            match dist {
                NormalOrUniform::Uniform => {
                    let bound = 3f64.sqrt() * deviation;
                    uniform(&mut generator, count, -bound, bound)
                }
                NormalOrUniform::Normal => normal(&mut generator, count, 0.0, deviation),
            }
        }
    }
}

/// 32 bytes of key: the seed (little-endian), then three 64-bit FNV-1a hashes of the name, started from the offset
/// basis plus 0, 1 and 2.
fn key(seed: u64, name: &str) -> [u8; 32] {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = |start: u64| {
        name.bytes().fold(BASIS.wrapping_add(start), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
    };
    let words = [seed, hash(0), hash(1), hash(2)];
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    key
}

/// Uniform in [0, 1) with 53 random bits.
fn unit(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 * (0.5f64).powi(53)
}

fn uniform(generator: &mut ChaCha8Rng, count: usize, low: f64, high: f64) -> Vec<f32> {
    (0..count).map(|_| (low + (high - low) * unit(generator)) as f32).collect()
}

/// Box and Muller's transform, in f64; both numbers of a pair are used.
fn normal(generator: &mut ChaCha8Rng, count: usize, mean: f64, deviation: f64) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // 1 - u is in (0, 1], so the logarithm is finite.
        let radius = deviation * (-2.0 * (1.0 - unit(generator)).ln()).sqrt();
        let (sine, cosine) = (TAU * unit(generator)).sin_cos();
        values.push((mean + radius * cosine) as f32);
        values.push((mean + radius * sine) as f32);
    }
    values.truncate(count);
    values
}
