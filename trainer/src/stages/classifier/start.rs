//! A classifier that is there already, as the start of a new one.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::densenet::{DenseNetConfig, PixelScale};

/// The head: of other classes it says nothing.
const HEAD: &str = "classifier.";

/// The tensors of a bundle's classifier.
pub(super) struct Start {
    tensors: BTreeMap<String, Tensor>,
    /// Whether its head is left behind, because its classes are others.
    fresh_head: bool,
    /// How it read pixels, where that was another way.
    other_scale: Option<PixelScale>,
    /// Tells this classifier from others, whatever else is in its bundle.
    pub(super) digest: String,
}

impl Start {
    /// Reads the classifier of the bundle `directory`, which must have the shape `expected`, but for its classes.
    ///
    /// # Errors
    /// The bundle is unsound, has no classifier, or one of another shape.
    pub(super) fn read(directory: &Path, expected: &DenseNetConfig, device: &Device) -> Result<Self> {
        let named = || format!("classifier.start_from: the bundle {}", directory.display());
        let bundle = Bundle::open(directory).with_context(named)?;
        let Some(found) = &bundle.config().components.classifier else { bail!("{} has no classifier", named()) };
        let fresh_head = found.classes != expected.classes || found.head != expected.head;
        // Convolutions see films of any size, whatever was done to make squares of them.
        let shape = DenseNetConfig {
            classes: expected.classes.clone(),
            head: expected.head,
            image_size: expected.image_size,
            fit: expected.fit,
            scale: expected.scale,
            operating_points: None,
            ..found.clone()
        };
        if shape != *expected {
            bail!(
                "{} has another shape than classifier.model: it is {shape:?}, the configuration's {expected:?}",
                named()
            );
        }
        let other_scale = (found.scale != expected.scale).then_some(found.scale);
        let tensors = bundle.tensors(Component::Classifier, device, DType::F32).with_context(named)?;
        let digest = bundle.checksum(&Component::Classifier.file()).with_context(named)?.to_owned();
        Ok(Self { tensors, fresh_head, other_scale, digest })
    }

    /// What a person should know of it.
    pub(super) fn notices(&self) -> Vec<String> {
        let head =
            self.fresh_head.then(|| "the classes of classifier.start_from are others; the head begins anew".to_owned());
        let scale = self.other_scale.map(|scale| {
            format!(
                "classifier.start_from read pixels as {scale:?}; classifier.model.scale says otherwise and is followed"
            )
        });
        head.into_iter().chain(scale).map(|notice| format!("classifier: {notice}")).collect()
    }

    /// The tensor to begin with, or none where it is to be fresh.
    pub(super) fn tensor(&self, name: &str) -> Result<Option<&Tensor>> {
        if self.fresh_head && name.starts_with(HEAD) {
            return Ok(None);
        }
        let found = self.tensors.get(name);
        found.map(Some).with_context(|| format!("classifier.start_from: the bundle lacks tensor {name}"))
    }
}
