//! Writing a bundle so that a reader never sees half of one, and a failure leaves the previous one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::read::io;
use super::temporary::{Temporary, remove_if_there, sibling};
use super::{BundleConfig, BundleError, CHECKSUM_FILE, CONFIG_FILE, Component, checksum};

/// The type that tensors are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreType {
    /// 16 bits: half the size, about three decimal digits.
    F16,
    /// 16 bits with the range of f32, about two decimal digits.
    Bf16,
    /// 32 bits: exact.
    F32,
}

/// A bundle being written, into a hidden directory beside its target. Nothing of the target changes before
/// [`Self::finish`]; dropped without it, the hidden directory goes away.
#[derive(Debug)]
pub struct BundleWriter {
    target: PathBuf,
    temporary: Temporary,
    sums: BTreeMap<String, String>,
}

impl BundleWriter {
    /// Starts a bundle that will be at `target`; parent directories are made. What a killed writer left is removed.
    ///
    /// # Errors
    /// The directory beside the target cannot be made.
    pub fn create(target: impl AsRef<Path>) -> Result<Self, BundleError> {
        let target = target.as_ref().to_owned();
        let temporary = Temporary::create(&target)?;
        Ok(Self { target, temporary, sums: BTreeMap::new() })
    }

    /// Writes `config.json`.
    ///
    /// # Errors
    /// The configuration is not sound, or the file cannot be written.
    pub fn write_config(&mut self, config: &BundleConfig) -> Result<(), BundleError> {
        config.validate()?;
        let mut text = serde_json::to_string_pretty(config)?;
        text.push('\n');
        self.write_file(CONFIG_FILE, text.as_bytes())
    }

    /// Writes a component's tensors.
    ///
    /// # Errors
    /// A value is not finite in the stored type (65504 is the largest of f16), or the file cannot be written.
    pub fn write_tensors(
        &mut self,
        component: Component,
        tensors: &BTreeMap<String, Tensor>,
        store: StoreType,
    ) -> Result<(), BundleError> {
        let file = component.file();
        let mut stored = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            stored.push((name, tensor.dims().to_vec(), stored_bytes(component, name, tensor, store)?));
        }
        let dtype = match store {
            StoreType::F16 => Dtype::F16,
            StoreType::Bf16 => Dtype::BF16,
            StoreType::F32 => Dtype::F32,
        };
        let failed = |error: safetensors::SafeTensorError| BundleError::Safetensors {
            file: file.clone(),
            problem: error.to_string(),
        };
        let views = stored
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let bytes = safetensors::serialize(views, None).map_err(failed)?;
        self.write_file(&file, &bytes)
    }

    /// Writes any other file, such as `tokenizer.json`, `README.md` or `metrics.json`. A second write replaces the first.
    ///
    /// # Errors
    /// The name is not a plain file name, or the file cannot be written.
    pub fn write_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        if !checksum::is_plain_name(name) || name == CHECKSUM_FILE {
            return Err(BundleError::FileName(name.to_owned()));
        }
        self.write_synced(name, bytes)?;
        self.sums.insert(name.to_owned(), checksum::sha256(bytes));
        Ok(())
    }

    /// Writes `SHA256SUMS` and puts the bundle in its place. Returns its digest.
    ///
    /// A bundle that was there is swapped with the new one in one step, and removed last. Where the file system cannot
    /// swap, it is moved aside for a moment as `.{name}.{pid}.old`: a kill in that moment leaves it there, whole.
    ///
    /// # Errors
    /// Something cannot be written or moved; the previous bundle is in its place then.
    pub fn finish(mut self) -> Result<String, BundleError> {
        let text = checksum::format(&self.sums);
        self.write_synced(CHECKSUM_FILE, text.as_bytes())?;
        sync_directory(self.temporary.path())?;

        let previous = self.put_in_place()?;
        self.temporary.keep();
        if let Some(parent) = parent(&self.target) {
            sync_directory(parent)?;
        }
        if let Some(previous) = previous {
            // The new bundle is in place: a previous one that cannot be removed is clutter, not a failure.
            let _ = fs::remove_dir_all(&previous);
        }
        Ok(checksum::sha256(text.as_bytes()))
    }

    /// Moves the new directory to the target; returns where the previous one is now.
    fn put_in_place(&self) -> Result<Option<PathBuf>, BundleError> {
        let failed = |source| io(&self.target, source);
        if !self.target.exists() {
            fs::rename(self.temporary.path(), &self.target).map_err(failed)?;
            return Ok(None);
        }
        if exchange(self.temporary.path(), &self.target) {
            return Ok(Some(self.temporary.path().to_owned()));
        }
        // File systems that cannot swap: the previous bundle is moved aside for a moment.
        let previous = sibling(&self.target, "old")?;
        remove_if_there(&previous)?;
        fs::rename(&self.target, &previous).map_err(failed)?;
        if let Err(source) = fs::rename(self.temporary.path(), &self.target) {
            // Back in its place; if even that fails, it is still whole beside it.
            let _ = fs::rename(&previous, &self.target);
            return Err(failed(source));
        }
        Ok(Some(previous))
    }

    fn write_synced(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.temporary.path().join(name);
        let write = || {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|source| io(&path, source))
    }
}

/// Swaps two directories in one step, so that there is no moment without a bundle. False where that is not possible.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, target: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

fn parent(target: &Path) -> Option<&Path> {
    target.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

fn sync_directory(directory: &Path) -> Result<(), BundleError> {
    // Opening a directory as a file is a Unix notion.
    if cfg!(unix) {
        File::open(directory).and_then(|file| file.sync_all()).map_err(|source| io(directory, source))?;
    }
    Ok(())
}

fn stored_bytes(component: Component, name: &str, tensor: &Tensor, store: StoreType) -> Result<Vec<u8>, BundleError> {
    let values = tensor
        .to_device(&Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(DType::F32))
        .and_then(|tensor| tensor.flatten_all())
        .and_then(|tensor| tensor.to_vec1::<f32>())
        .map_err(|source| BundleError::Tensor { component, source })?;
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for (index, value) in values.into_iter().enumerate() {
        let finite = match store {
            StoreType::F16 => {
                bytes.extend(f16::from_f32(value).to_le_bytes());
                f16::from_f32(value).is_finite()
            }
            StoreType::Bf16 => {
                bytes.extend(bf16::from_f32(value).to_le_bytes());
                bf16::from_f32(value).is_finite()
            }
            StoreType::F32 => {
                bytes.extend(value.to_le_bytes());
                value.is_finite()
            }
        };
        if !finite {
            return Err(BundleError::NotFinite { file: component.file(), tensor: name.to_owned(), index, value });
        }
    }
    Ok(bytes)
}
