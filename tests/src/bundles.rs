//! Copies of the shipped bundle, to be damaged.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{TestResult, repository};

/// A copy of `models/default` in a folder of its own.
#[derive(Debug)]
pub struct BundleCopy {
    path: PathBuf,
    _folder: TempDir,
}

/// A tensor as a file holds it.
#[derive(Debug, Clone)]
pub struct StoredTensor {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, little-endian, row-major.
    pub bytes: Vec<u8>,
}

impl BundleCopy {
    /// Copies the shipped bundle.
    ///
    /// # Errors
    /// It is not there.
    pub fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("damaged");
        copy_bundle(&path)?;
        Ok(Self { path, _folder: folder })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the tensors of a file, and the checksums with it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn change_tensors(&self, file: &str, change: impl FnOnce(&mut BTreeMap<String, StoredTensor>)) -> TestResult {
        let path = self.path.join(file);
        let bytes = fs::read(&path)?;
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let stored =
                StoredTensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
            tensors.insert(name, stored);
        }
        change(&mut tensors);
        let mut views = Vec::new();
        for (name, stored) in &tensors {
            views.push((name.clone(), TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes)?));
        }
        fs::write(&path, safetensors::serialize(views, None)?)?;
        self.seal()
    }

    /// Changes `config.json`, and the checksums with it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn change_config(&self, change: impl FnOnce(&mut serde_json::Value)) -> TestResult {
        let path = self.path.join("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut config);
        fs::write(path, serde_json::to_vec_pretty(&config)?)?;
        self.seal()
    }

    /// Cuts a file to a share of its length. The checksums stay as they were.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn truncate(&self, file: &str, numerator: usize, denominator: usize) -> TestResult {
        let path = self.path.join(file);
        let bytes = fs::read(&path)?;
        Ok(fs::write(&path, &bytes[..bytes.len() * numerator / denominator])?)
    }

    /// Writes the checksums of the files as they are now, as an author of a bad bundle would.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn seal(&self) -> TestResult {
        let sums = self.path.join("SHA256SUMS");
        let mut text = String::new();
        for line in fs::read_to_string(&sums)?.lines() {
            let Some((_, name)) = line.split_once("  ") else { continue };
            for byte in Sha256::digest(fs::read(self.path.join(name))?) {
                write!(text, "{byte:02x}")?;
            }
            writeln!(text, "  {name}")?;
        }
        Ok(fs::write(sums, text)?)
    }
}

fn copy_bundle(target: &Path) -> TestResult {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(repository("models/default"))? {
        let entry = entry?;
        fs::copy(entry.path(), target.join(entry.file_name()))?;
    }
    Ok(())
}
