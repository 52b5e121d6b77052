//! What a file of tensors holds, without reading their values.

use std::path::Path;

use super::{checkpoint::Checkpoint, error::ImportError, stored::Element};

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Type of its elements.
    pub dtype: Element,
}

/// All tensors of a PyTorch or safetensors file, sorted by name.
///
/// # Errors
/// A file that cannot be read, or that is none of tensors.
pub fn list_tensors(path: &Path) -> Result<Vec<TensorInfo>, ImportError> {
    let checkpoint = Checkpoint::open(path, |name| Some(name.to_owned()))?;
    let info = |name: &str| {
        let (shape, dtype) = (checkpoint.shape(name)?, checkpoint.dtype(name)?);
        Some(TensorInfo { name: name.to_owned(), shape, dtype })
    };
    Ok(checkpoint.names().filter_map(info).collect())
}
