//! One file full of named tensors: PyTorch's zip format or safetensors. Nothing in a pickle is executed.

use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor, pickle::PthTensors};

use super::error::ImportError;

/// Where trainers put the tensors: Lightning and taming under `state_dict`, RayGen's debug dump under `model`.
const WRAPPERS: [&str; 2] = ["state_dict", "model"];

/// A file of tensors, opened; tensors are read when they are asked for.
pub(super) struct Checkpoint {
    path: PathBuf,
    source: Source,
    /// Our name of every tensor to its name in the file.
    names: BTreeMap<String, String>,
    /// Length of the file in bytes: no tensor is larger.
    length: u64,
}

enum Source {
    Torch(PthTensors),
    Safetensors(HashMap<String, Tensor>),
}

impl Checkpoint {
    /// Opens a file. `rename` gives a tensor's name in our bundles, or none for a tensor that is passed over.
    pub(super) fn open(path: &Path, rename: impl Fn(&str) -> Option<String>) -> Result<Self, ImportError> {
        let metadata = std::fs::metadata(path).map_err(|source| ImportError::io(path, source))?;
        if !metadata.is_file() {
            return Err(ImportError::unreadable(path, "is not a file"));
        }
        let source = if path.extension().is_some_and(|extension| extension == "safetensors") {
            let tensors = candle_core::safetensors::load(path, &Device::Cpu)
                .map_err(|error| ImportError::unreadable(path, format!("is not a safetensors file: {error}")))?;
            Source::Safetensors(tensors)
        } else {
            Source::Torch(open_torch(path)?)
        };
        let mut checkpoint = Self { path: path.to_owned(), source, names: BTreeMap::new(), length: metadata.len() };
        let in_file = checkpoint.names_in_file();
        if in_file.is_empty() {
            return Err(ImportError::unreadable(
                path,
                "holds no tensors, neither at its top nor under `state_dict` or `model`",
            ));
        }
        checkpoint.names = in_file.into_iter().filter_map(|name| rename(&name).map(|ours| (ours, name))).collect();
        Ok(checkpoint)
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Our names of all tensors that are not passed over, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Names in the file that `rename` passed over or that are not among `wanted`, sorted.
    pub(super) fn passed_over(&self, wanted: &BTreeMap<String, Tensor>) -> Vec<String> {
        let taken: Vec<&String> =
            self.names.iter().filter(|(ours, _)| wanted.contains_key(*ours)).map(|(_, name)| name).collect();
        self.names_in_file().into_iter().filter(|name| !taken.contains(&name)).collect()
    }

    /// The shape of a tensor by our name; none if the file lacks it.
    pub(super) fn shape(&self, ours: &str) -> Option<Vec<usize>> {
        let name = self.names.get(ours)?;
        match &self.source {
            Source::Torch(tensors) => tensors.tensor_infos().get(name).map(|info| info.layout.dims().to_vec()),
            Source::Safetensors(tensors) => tensors.get(name).map(|tensor| tensor.dims().to_vec()),
        }
    }

    /// Reads a tensor by our name and checks it: the shape, a floating-point type, no NaN or infinity.
    /// Half precision stays as it is; f64 becomes f32.
    pub(super) fn tensor(&self, ours: &str, expected: &[usize]) -> Result<Tensor, ImportError> {
        let (Some(name), Some(found)) = (self.names.get(ours), self.shape(ours)) else {
            return Err(self.missing(ours, expected));
        };
        if found != expected {
            return Err(ImportError::Shape {
                path: self.path.clone(),
                tensor: ours.to_owned(),
                expected: expected.to_vec(),
                found,
            });
        }
        let bad = |problem: String| ImportError::tensor(&self.path, name, problem);
        let tensor = match &self.source {
            Source::Safetensors(tensors) => tensors.get(name).cloned(),
            Source::Torch(tensors) => {
                self.check_length(tensors, name)?;
                guarded(|| tensors.get(name)).map_err(bad)?
            }
        };
        let tensor = tensor.ok_or_else(|| self.missing(ours, expected))?;
        let tensor = match tensor.dtype() {
            DType::F32 | DType::F16 | DType::BF16 => tensor.contiguous(),
            DType::F64 => tensor.contiguous().and_then(|tensor| tensor.to_dtype(DType::F32)),
            other => return Err(bad(format!("has type {other:?}; expected a floating-point type"))),
        };
        let tensor = tensor.map_err(|error| bad(error.to_string()))?;
        match is_finite(&tensor) {
            Ok(true) => Ok(tensor),
            Ok(false) => Err(ImportError::NotFinite { path: self.path.clone(), tensor: ours.to_owned() }),
            Err(error) => Err(bad(error.to_string())),
        }
    }

    /// The error for a tensor that the file lacks.
    pub(super) fn missing(&self, ours: &str, expected: &[usize]) -> ImportError {
        let names = self.names_in_file();
        let shown: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        let found = format!("{} tensors ({}, ...)", names.len(), shown.join(", "));
        ImportError::Missing { path: self.path.clone(), tensor: ours.to_owned(), expected: expected.to_vec(), found }
    }

    /// A damaged header can name any shape: nothing larger than the file is allocated.
    fn check_length(&self, tensors: &PthTensors, name: &str) -> Result<(), ImportError> {
        let Some(info) = tensors.tensor_infos().get(name) else { return Ok(()) };
        let bytes = info
            .layout
            .dims()
            .iter()
            .try_fold(info.dtype.size_in_bytes() as u64, |bytes, dim| bytes.checked_mul(*dim as u64));
        match bytes {
            Some(bytes) if bytes <= self.length => Ok(()),
            _ => {
                Err(ImportError::tensor(&self.path, name, "is larger than its file; the file is damaged or compressed"))
            }
        }
    }

    fn names_in_file(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.source {
            Source::Torch(tensors) => tensors.tensor_infos().keys().cloned().collect(),
            Source::Safetensors(tensors) => tensors.keys().cloned().collect(),
        };
        names.sort_unstable();
        names
    }
}

fn open_torch(path: &Path) -> Result<PthTensors, ImportError> {
    let root = guarded(|| PthTensors::new(path, None)).map_err(|problem| {
        let advice = "expected a complete file written by torch.save of PyTorch 1.6 or later";
        ImportError::unreadable(path, format!("is not a readable PyTorch file ({problem}); {advice}"))
    })?;
    for wrapper in WRAPPERS {
        // A missing wrapper is an error to candle, and no error here: the next one is tried.
        if let Ok(tensors) = guarded(|| PthTensors::new(path, Some(wrapper)))
            && !tensors.tensor_infos().is_empty()
        {
            return Ok(tensors);
        }
    }
    Ok(root)
}

/// Runs candle's pickle reader. It indexes into what a file gave it, so a damaged file could make it panic.
fn guarded<T>(read: impl FnOnce() -> candle_core::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its pickle is damaged".to_owned()),
    }
}

fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(values.iter().all(|value| value.is_finite()))
}
