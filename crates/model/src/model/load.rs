//! Loading a model from a bundle.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::bundle::{Bundle, BundleError, Component, TOKENIZER_FILE};
use crate::densenet::DenseNet;
use crate::text::TextTokenizer;
use crate::text_encoder::TextEncoder;
use crate::transformer::{Transformer, View};
use crate::vqgan::VqGan;

use super::patches::Patches;
use super::{Condition, ModelError, ModelInfo};

/// A model on a device. Any of its networks may be absent; what needs one that is says which.
pub struct Model {
    pub(super) info: ModelInfo,
    pub(super) device: Device,
    pub(super) dtype: DType,
    vqgan: Option<VqGan>,
    transformer: Option<Transformer>,
    text: Option<(TextTokenizer, TextEncoder)>,
    /// The conditions of the empty text, once they were asked for: of the default view, then of each.
    pub(super) null: [OnceLock<Condition>; 1 + View::ALL.len()],
    /// What each id looks like, as far as it was measured.
    pub(super) patches: Mutex<Patches>,
}

impl Model {
    /// Loads every network of a bundle onto a device, but for the classifier, which is only checked.
    ///
    /// # Errors
    /// A tensor is wrong (see [`Bundle::tensors`]), the tokenizer cannot be built or has more tokens than the text
    /// encoder, or the device has no room.
    pub fn load(bundle: &Bundle, device: &Device, dtype: DType) -> Result<Self, ModelError> {
        let components = &bundle.config().components;
        let mut parameter_count = 0;
        let mut builder = |component| -> Result<VarBuilder<'static>, ModelError> {
            let tensors = bundle.tensors(component, device, dtype)?;
            parameter_count += tensors.values().map(|tensor| tensor.elem_count() as u64).sum::<u64>();
            Ok(var_builder(tensors, dtype, device))
        };
        let failed = |component| move |source| BundleError::Tensor { component, source };

        let vqgan = match &components.vqgan {
            Some(config) => Some(VqGan::new(config, builder(Component::VqGan)?).map_err(failed(Component::VqGan))?),
            None => None,
        };
        let transformer = match &components.transformer {
            Some(config) => Some(
                Transformer::new(config, builder(Component::Transformer)?).map_err(failed(Component::Transformer))?,
            ),
            None => None,
        };
        let text = match &components.text_encoder {
            Some(config) => {
                let tokenizer = TextTokenizer::from_json(&bundle.file(TOKENIZER_FILE)?, &bundle.config().text)?;
                if tokenizer.vocabulary_size() > config.vocab_size {
                    let (found, rows) = (tokenizer.vocabulary_size(), config.vocab_size);
                    let problem = format!("it has ids up to {found}, but the text encoder has {rows} rows");
                    return Err(crate::text::TextError::Tokenizer(problem).into());
                }
                let encoder = TextEncoder::new(config, builder(Component::TextEncoder)?)
                    .map_err(failed(Component::TextEncoder))?;
                Some((tokenizer, encoder))
            }
            None => None,
        };
        if let Some(config) = &components.classifier {
            // Nothing here asks it anything yet; a bundle with a wrong one is told when it is loaded all the same.
            let tensors = bundle.tensors(Component::Classifier, &Device::Cpu, DType::F32)?;
            DenseNet::new(config, var_builder(tensors, DType::F32, &Device::Cpu))
                .map_err(failed(Component::Classifier))?;
        }
        Ok(Self {
            info: ModelInfo::of(bundle, device, dtype, parameter_count),
            device: device.clone(),
            dtype,
            vqgan,
            transformer,
            text,
            null: Default::default(),
            patches: Mutex::default(),
        })
    }

    /// What the model says of itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Its VQ-GAN.
    ///
    /// # Errors
    /// The bundle had none.
    pub fn vqgan(&self) -> Result<&VqGan, ModelError> {
        self.vqgan.as_ref().ok_or(ModelError::ComponentAbsent { component: Component::VqGan })
    }

    /// Its transformer.
    ///
    /// # Errors
    /// The bundle had none.
    pub fn transformer(&self) -> Result<&Transformer, ModelError> {
        self.transformer.as_ref().ok_or(ModelError::ComponentAbsent { component: Component::Transformer })
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// The bundle had no text encoder.
    pub fn tokenizer(&self) -> Result<&TextTokenizer, ModelError> {
        Ok(self.text()?.0)
    }

    pub(super) fn text(&self) -> Result<(&TextTokenizer, &TextEncoder), ModelError> {
        match &self.text {
            Some((tokenizer, encoder)) => Ok((tokenizer, encoder)),
            None => Err(ModelError::ComponentAbsent { component: Component::TextEncoder }),
        }
    }
}

fn var_builder(tensors: BTreeMap<String, Tensor>, dtype: DType, device: &Device) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors.into_iter().collect(), dtype, device)
}
