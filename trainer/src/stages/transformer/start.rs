//! What the stage starts from: a bundle's transformer, a bundle's text encoder, or nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::transformer::{TransformerConfig, View};
use serde_json::Value;

use super::Shapes;
use super::text::TextStart;
use crate::config::RunConfig;
use crate::stages::fingerprint;
use crate::stages::tokenizer::{CODEBOOK, Tokenizer};

/// Fields of a transformer's configuration that no tensor of it depends on.
const FREE: [&str; 2] = ["views", "max_text_tokens"];
/// Codebooks may differ by this share of their largest value: what storing one in bf16 leaves.
const ROUNDING: f32 = 1.0 / 128.0;

/// What is there already.
#[derive(Default)]
pub struct Starts {
    /// The text encoder.
    pub text: Option<TextStart>,
    /// The transformer.
    pub transformer: Option<TransformerStart>,
}

/// A bundle's transformer.
pub struct TransformerStart {
    bundle: PathBuf,
    config: TransformerConfig,
    tensors: BTreeMap<String, Tensor>,
    digest: String,
    /// The codes that its ids stand for, [codes, width]; absent where the bundle has no tokenizer.
    codebook: Option<Tensor>,
}

// === impl Starts ===

impl Starts {
    /// Reads the bundles that `config` names.
    ///
    /// # Errors
    /// A bundle that is unsound, lacks a part or has one of another shape.
    pub fn read(config: &RunConfig, device: &Device) -> Result<Self> {
        Ok(Self {
            text: config.text_start().map(|bundle| TextStart::read(&bundle, config, device)).transpose()?,
            transformer: config
                .transformer_start()
                .map(|bundle| TransformerStart::read(&bundle, device))
                .transpose()?,
        })
    }

    /// The tensor of this name, of either network.
    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        let of_text = self.text.as_ref().and_then(|text| text.tensors.get(name));
        of_text.or_else(|| self.transformer.as_ref().and_then(|transformer| transformer.tensors.get(name)))
    }

    /// The tensors whose names `wanted` holds for.
    pub(super) fn tensors(&self, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Tensor> {
        let text = self.text.iter().flat_map(|text| &text.tensors);
        let transformer = self.transformer.iter().flat_map(|transformer| &transformer.tensors);
        text.chain(transformer)
            .filter(|(name, _)| wanted(name))
            .map(|(name, tensor)| (name.clone(), tensor.clone()))
            .collect()
    }

    /// What tells these starts from others; nothing where there is none.
    pub(super) fn digests(&self) -> impl Iterator<Item = &str> {
        let text = self.text.as_ref().map(|text| text.digest.as_str());
        text.into_iter().chain(self.transformer.as_ref().map(|transformer| transformer.digest.as_str()))
    }
}

// === impl TransformerStart ===

impl TransformerStart {
    fn read(directory: &Path, device: &Device) -> Result<Self> {
        let named = || format!("transformer.start_from: the bundle {}", directory.display());
        let bundle = Bundle::open(directory).with_context(named)?;
        let components = &bundle.config().components;
        let Some(config) = components.transformer.clone() else { bail!("{} has no transformer", named()) };
        let codebook = match &components.vqgan {
            Some(_) => bundle.tensors(Component::VqGan, device, DType::F32).with_context(named)?.remove(CODEBOOK),
            None => None,
        };
        let checksum = bundle.checksum(&Component::Transformer.file()).with_context(named)?;
        Ok(Self {
            bundle: directory.to_owned(),
            digest: fingerprint(&["transformer", checksum, &serde_json::to_string(&config)?]),
            tensors: bundle.tensors(Component::Transformer, device, DType::F32).with_context(named)?,
            config,
            codebook,
        })
    }

    /// Views that it knows already.
    pub(super) fn views(&self) -> &[View] {
        self.config.views().map_or(&[], |views| &views.trained)
    }

    /// Checks that this transformer is one of `shapes`. It may lack the embedding of views, which begins fresh then.
    ///
    /// # Errors
    /// Names the first size that is another, with both values.
    pub(super) fn check_shape(&self, shapes: &Shapes) -> Result<()> {
        let named = || format!("transformer.start_from: the transformer of {}", self.bundle.display());
        if self.config.views().is_some() && shapes.transformer.views().is_none() {
            bail!("{} is told views; set transformer.model.views = true", named());
        }
        let (found, expected) = (serde_json::to_value(&self.config)?, serde_json::to_value(&shapes.transformer)?);
        let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let (found, expected) = (fields(&found), fields(&expected));
        for field in expected.keys().chain(found.keys()).filter(|field| !FREE.contains(&field.as_str())) {
            let (found, expected) = (found.get(field), expected.get(field));
            if found != expected {
                let told = |value: Option<&Value>| value.map_or("none".to_owned(), Value::to_string);
                bail!("{} has {field} {}; this run's has {field} {}", named(), told(found), told(expected));
            }
        }
        Ok(())
    }

    /// Checks that its ids stand for the codes of `tokenizer`. Where nothing tells, a person should know: the line is given.
    ///
    /// # Errors
    /// They stand for others: it would have to learn everything anew.
    pub(super) fn check_codebook(&self, tokenizer: &Tokenizer) -> Result<Option<String>> {
        let bundle = self.bundle.display();
        let Some(theirs) = &self.codebook else {
            return Ok(Some(format!(
                "transformer.start_from: {bundle} has no tokenizer, so nothing tells whether its ids mean this run's codes"
            )));
        };
        let ours = tokenizer.network.codebook();
        let same_shape = theirs.dims() == ours.dims();
        let largest = |tensor: &Tensor| -> Result<f32> { Ok(tensor.abs()?.max_all()?.to_scalar::<f32>()?) };
        if same_shape && largest(&(theirs - ours.detach())?)? <= ROUNDING * largest(theirs)? {
            return Ok(None);
        }
        bail!(
            "transformer.start_from: the ids of {bundle} stand for another codebook than this run's tokenizer has; set \
             tokenizer.start_from to the same bundle and tokenizer.steps to 0"
        )
    }
}
