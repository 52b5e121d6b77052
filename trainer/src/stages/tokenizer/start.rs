//! A tokenizer that is there already, as the start of a new one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::vqgan::VqGanConfig;

/// The tensors of a bundle's tokenizer.
pub(super) struct Start {
    tensors: BTreeMap<String, Tensor>,
    /// Tells this tokenizer from others, whatever else is in its bundle.
    pub(super) digest: String,
}

impl Start {
    /// Reads the tokenizer of the bundle `directory`, which must have the shape `expected`.
    ///
    /// # Errors
    /// The bundle is unsound, has no tokenizer, or one of another shape.
    pub(super) fn read(directory: &Path, expected: &VqGanConfig, device: &Device) -> Result<Self> {
        let named = || named(directory);
        let bundle = check(directory, expected)?;
        let tensors = bundle.tensors(Component::VqGan, device, DType::F32).with_context(named)?;
        let digest = bundle.checksum(&Component::VqGan.file()).with_context(named)?.to_owned();
        Ok(Self { tensors, digest })
    }

    pub(super) fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).with_context(|| format!("tokenizer.start_from: the bundle lacks tensor {name}"))
    }
}

/// Opens the bundle `directory`, whose tokenizer must have the shape `expected`; no tensor is read.
///
/// # Errors
/// The bundle is unsound, has no tokenizer, or one of another shape.
pub(crate) fn check(directory: &Path, expected: &VqGanConfig) -> Result<Bundle> {
    let named = || named(directory);
    let bundle = Bundle::open(directory).with_context(named)?;
    let Some(found) = &bundle.config().components.vqgan else { bail!("{} has no tokenizer (vqgan)", named()) };
    if found != expected {
        bail!("{} has another shape than tokenizer.model: it is {found:?}, the configuration's {expected:?}", named());
    }
    Ok(bundle)
}

fn named(directory: &Path) -> String {
    format!("tokenizer.start_from: the bundle {}", directory.display())
}
