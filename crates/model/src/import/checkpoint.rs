//! One file full of named tensors: PyTorch's formats or safetensors. Nothing in a pickle is executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use candle_core::Tensor;

use super::{
    error::ImportError,
    pickle, safetensors,
    stored::{Element, ReadError, StoredTensor},
};

/// Tensors may share bytes, or repeat them, up to this many times the file's length, and this much in any file.
const MAX_SHARING: u64 = 8;
const MIN_ALLOWED: u64 = 64 << 20;

/// A file of tensors, opened; tensors are read when they are asked for.
pub(super) struct Checkpoint {
    path: PathBuf,
    /// Locked while a tensor is read: the place in a file belongs to whoever reads.
    file: Mutex<File>,
    /// Every tensor by its name in the file.
    tensors: BTreeMap<String, StoredTensor>,
    /// Our name of every tensor to its name in the file.
    names: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a file. `rename` gives a tensor's name in our bundles, or none for a tensor that is passed over.
    pub(super) fn open(path: &Path, rename: impl Fn(&str) -> Option<String>) -> Result<Self, ImportError> {
        let io = |source| ImportError::io(path, source);
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            return Err(ImportError::unreadable(path, "is not a file"));
        }
        let file = File::open(path).map_err(io)?;
        let length = metadata.len();
        let named_safetensors = path.extension().is_some_and(|extension| extension == "safetensors");
        let tensors = if named_safetensors || safetensors::is_safetensors(&file, length).map_err(io)? {
            safetensors::tensors(path, &file, length)?
        } else {
            pickle::tensors(path, &file, length)?
        };
        if tensors.is_empty() {
            return Err(ImportError::unreadable(
                path,
                "holds no tensors, neither at its top nor under `state_dict`, `model_state_dict` or `model`",
            ));
        }
        check_sharing(path, &tensors, length)?;
        let names = tensors.keys().filter_map(|name| rename(name).map(|ours| (ours, name.clone()))).collect();
        Ok(Self { path: path.to_owned(), file: Mutex::new(file), tensors, names })
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
        let taken: BTreeSet<&String> =
            self.names.iter().filter(|(ours, _)| wanted.contains_key(*ours)).map(|(_, name)| name).collect();
        self.tensors.keys().filter(|name| !taken.contains(name)).cloned().collect()
    }

    /// The shape of a tensor by our name; none if the file lacks it.
    pub(super) fn shape(&self, ours: &str) -> Option<Vec<usize>> {
        self.stored(ours).map(|(_, stored)| stored.shape.clone())
    }

    /// The type of a tensor by our name; none if the file lacks it.
    pub(super) fn dtype(&self, ours: &str) -> Option<Element> {
        self.stored(ours).map(|(_, stored)| stored.element)
    }

    /// Reads a tensor by our name and checks it: the shape, a floating-point type, no NaN or infinity.
    /// Half precision stays as it is; f64 becomes f32.
    pub(super) fn tensor(&self, ours: &str, expected: &[usize]) -> Result<Tensor, ImportError> {
        self.read(ours, expected, StoredTensor::read)
    }

    /// The same of a tensor in which NaN means something: it may hold any value.
    pub(super) fn tensor_of_any_values(&self, ours: &str, expected: &[usize]) -> Result<Tensor, ImportError> {
        self.read(ours, expected, StoredTensor::read_any)
    }

    fn read(
        &self,
        ours: &str,
        expected: &[usize],
        read: impl FnOnce(&StoredTensor, &mut File) -> Result<Tensor, ReadError>,
    ) -> Result<Tensor, ImportError> {
        let (name, stored) = self.stored(ours).ok_or_else(|| self.missing(ours, expected))?;
        if stored.shape != expected {
            return Err(ImportError::Shape {
                path: self.path.clone(),
                tensor: ours.to_owned(),
                expected: expected.to_vec(),
                found: stored.shape.clone(),
            });
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        read(stored, &mut file).map_err(|error| match error {
            ReadError::Tensor(problem) => ImportError::tensor(&self.path, name, problem),
            ReadError::NotFinite => ImportError::NotFinite { path: self.path.clone(), tensor: ours.to_owned() },
        })
    }

    /// The error for a tensor that the file lacks.
    pub(super) fn missing(&self, ours: &str, expected: &[usize]) -> ImportError {
        let shown: Vec<String> = self.tensors.keys().take(3).map(|name| name.escape_debug().to_string()).collect();
        let found = format!("{} tensors ({}, ...)", self.tensors.len(), shown.join(", "));
        ImportError::Missing { path: self.path.clone(), tensor: ours.to_owned(), expected: expected.to_vec(), found }
    }

    /// A tensor's name in the file and its place, by our name.
    fn stored(&self, ours: &str) -> Option<(&str, &StoredTensor)> {
        let name = self.names.get(ours)?;
        self.tensors.get(name).map(|stored| (name.as_str(), stored))
    }
}

/// Tensors may look into the same bytes, and repeat them: a small file could describe more than any memory holds.
fn check_sharing(path: &Path, tensors: &BTreeMap<String, StoredTensor>, length: u64) -> Result<(), ImportError> {
    let allowed = length.saturating_mul(MAX_SHARING).max(MIN_ALLOWED);
    let total = tensors.values().try_fold(0u64, |total, stored| total.checked_add(stored.size()?));
    if total.is_some_and(|total| total <= allowed) {
        return Ok(());
    }
    let problem = format!("describes tensors of more than {allowed} bytes in a file of {length}");
    Err(ImportError::unreadable(path, problem))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
