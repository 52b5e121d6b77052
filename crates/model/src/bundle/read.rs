//! Opening a bundle: from a directory, or from bytes compiled in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::{BundleConfig, BundleError, CHECKSUM_FILE, CONFIG_FILE, Component, TOKENIZER_FILE};
use super::{checksum, expected, tensors};

/// A bundle whose files are all there and unchanged, and whose configuration is sound. Tensors are read on demand.
#[derive(Debug)]
pub struct Bundle {
    source: Source,
    config: BundleConfig,
    digest: String,
    /// File name to its lower-case hexadecimal SHA-256.
    sums: BTreeMap<String, String>,
}

#[derive(Debug)]
enum Source {
    Directory(PathBuf),
    Memory(BTreeMap<String, Cow<'static, [u8]>>),
}

impl Bundle {
    /// Opens a directory and verifies every checksum.
    ///
    /// # Errors
    /// A file is missing, unreadable or changed, or `config.json` makes no sense.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, BundleError> {
        let directory = directory.as_ref();
        // Otherwise a wrong path would be told as a missing file.
        fs::read_dir(directory).map_err(|source| io(directory, source))?;
        Self::from_source(Source::Directory(directory.to_owned()))
    }

    /// A bundle of named files in memory, verified in the same way.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(files: Vec<(String, Cow<'static, [u8]>)>) -> Result<Self, BundleError> {
        Self::from_source(Source::Memory(files.into_iter().collect()))
    }

    fn from_source(source: Source) -> Result<Self, BundleError> {
        let sums_text = source.read(CHECKSUM_FILE, "; it is written last, so the bundle may be incomplete")?;
        let digest = checksum::sha256(&sums_text);
        let sums = checksum::parse(&String::from_utf8_lossy(&sums_text))?;
        for (file, expected) in &sums {
            let found = source.sha256(file)?;
            if found != *expected {
                return Err(BundleError::Checksum { file: file.clone(), expected: expected.clone(), found });
            }
        }
        let listed = |file: &str, hint: &str| {
            if sums.contains_key(file) {
                Ok(())
            } else {
                Err(BundleError::MissingFile { file: file.to_owned(), hint: hint.to_owned() })
            }
        };
        listed(CONFIG_FILE, "'s SHA256SUMS")?;
        let config: BundleConfig = serde_json::from_slice(&source.read(CONFIG_FILE, "")?)?;
        config.validate()?;
        for component in config.components.present() {
            listed(&component.file(), &format!("; config.json has a {component}"))?;
        }
        if config.components.text_encoder.is_some() {
            listed(TOKENIZER_FILE, "; config.json has a text_encoder")?;
        }
        drop(sums_text);
        Ok(Self { source, config, digest, sums })
    }

    /// Its configuration.
    pub fn config(&self) -> &BundleConfig {
        &self.config
    }

    /// The hexadecimal SHA-256 of its `SHA256SUMS`: equal for bundles whose files are all equal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The hexadecimal SHA-256 of one of its files, if it has that file.
    pub fn checksum(&self, name: &str) -> Option<&str> {
        self.sums.get(name).map(String::as_str)
    }

    /// The directory it was opened from, if it was.
    pub fn directory(&self) -> Option<&Path> {
        match &self.source {
            Source::Directory(directory) => Some(directory),
            Source::Memory(_) => None,
        }
    }

    /// The bytes of one of its files.
    ///
    /// # Errors
    /// It has no such file, or the file cannot be read.
    pub fn file(&self, name: &str) -> Result<Cow<'_, [u8]>, BundleError> {
        self.source.read(name, "")
    }

    /// All tensors of a component, by name, in `dtype` on `device`.
    ///
    /// # Errors
    /// The component is absent; its file is damaged; a tensor is missing, unexpected, misshapen, of a type that is
    /// not read, or holds a value that is not finite.
    pub fn tensors(
        &self,
        component: Component,
        device: &Device,
        dtype: DType,
    ) -> Result<BTreeMap<String, Tensor>, BundleError> {
        let expected = expected::expected_tensors(&self.config, component)?;
        let bytes = self.source.read(&component.file(), "")?;
        tensors::read(component, &bytes, expected.as_ref(), device, dtype)
    }
}

impl Source {
    fn read(&self, name: &str, hint: &str) -> Result<Cow<'_, [u8]>, BundleError> {
        let missing = || BundleError::MissingFile { file: name.to_owned(), hint: hint.to_owned() };
        if !checksum::is_plain_name(name) {
            return Err(BundleError::FileName(name.to_owned()));
        }
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Cow::Owned(bytes)),
                    Err(error) if error.kind() == ErrorKind::NotFound => Err(missing()),
                    Err(error) => Err(io(&path, error)),
                }
            }
            Self::Memory(files) => files.get(name).map(|bytes| Cow::Borrowed(bytes.as_ref())).ok_or_else(missing),
        }
    }

    fn sha256(&self, name: &str) -> Result<String, BundleError> {
        match self {
            Self::Directory(directory) => {
                let path = directory.join(name);
                match File::open(&path).and_then(checksum::sha256_of) {
                    Ok(digest) => Ok(digest),
                    Err(error) if error.kind() == ErrorKind::NotFound => Err(BundleError::MissingFile {
                        file: name.to_owned(),
                        hint: "; SHA256SUMS lists it".to_owned(),
                    }),
                    Err(error) => Err(io(&path, error)),
                }
            }
            Self::Memory(_) => Ok(checksum::sha256(&self.read(name, "; SHA256SUMS lists it")?)),
        }
    }
}

pub(super) fn io(path: &Path, source: std::io::Error) -> BundleError {
    BundleError::Io { path: path.to_owned(), source }
}
