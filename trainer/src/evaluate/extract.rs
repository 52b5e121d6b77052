//! What a classifier sees in pictures: features for distances, probabilities for agreement.

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_eval::{Extractor, Features};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::densenet::{DenseNet, DenseNetConfig, Head};
use rayon::prelude::*;

use super::pictures::PictureSet;
use crate::run::StageProgress;

/// Pictures at once.
const BATCH: usize = 8;

/// A DenseNet and what it is called in every number that rests on it.
pub(super) struct Classifier {
    network: DenseNet,
    device: Device,
    extractor: Extractor,
}

/// What it saw in a set.
pub(super) struct Seen {
    pub(super) features: Features,
    /// Row-major, pictures x classes.
    pub(super) probabilities: Vec<f32>,
}

// === impl Classifier ===

impl Classifier {
    /// The classifier of a bundle, if it has one. `called` names the bundle.
    pub(super) fn of(bundle: &Bundle, called: &str, device: &Device) -> Result<Option<Self>> {
        let Some(config) = &bundle.config().components.classifier else { return Ok(None) };
        let tensors = bundle.tensors(Component::Classifier, device, DType::F32)?;
        let builder = VarBuilder::from_tensors(tensors.into_iter().collect(), DType::F32, device);
        let network = DenseNet::new(config, builder).context("the classifier")?;
        let digest = bundle.checksum(&Component::Classifier.file()).unwrap_or_default();
        let extractor = Extractor {
            name: format!("DenseNet of {called}, {}", &digest[..digest.len().min(12)]),
            preprocessing: preprocessing(config),
        };
        Ok(Some(Self { network, device: device.clone(), extractor }))
    }

    pub(super) fn extractor(&self) -> &Extractor {
        &self.extractor
    }

    pub(super) fn classes(&self) -> &[String] {
        &self.network.config().classes
    }

    /// Whether its classes exclude each other.
    pub(super) fn is_exclusive(&self) -> bool {
        matches!(self.network.config().head, Head::Softmax)
    }

    /// What it sees in `set`; `what` is shown while it looks.
    pub(super) fn look(&self, set: &PictureSet, what: &'static str) -> Result<Seen> {
        let config = self.network.config();
        let mut progress = StageProgress::new(what, 0, set.len() as u64, 1);
        let (mut features, mut probabilities) = (Vec::new(), Vec::new());
        let places: Vec<usize> = (0..set.len()).collect();
        for places in places.chunks(BATCH) {
            let rows: Vec<Vec<f32>> =
                places.par_iter().map(|place| Ok(config.pixels(&set.picture(*place)?)?)).collect::<Result<_>>()?;
            let shape = (places.len(), config.in_channels, config.image_size, config.image_size);
            let images = Tensor::from_vec(rows.concat(), shape, &self.device)?;
            let seen = self.network.features(&images)?;
            let logits = self.network.classify(&seen)?;
            features.extend(seen.flatten_all()?.to_vec1::<f32>()?);
            probabilities.extend(self.network.probabilities(&logits)?.flatten_all()?.to_vec1::<f32>()?);
            progress.step(places.last().map_or(0, |place| *place as u64 + 1), None);
        }
        if set.len() == 0 {
            bail!("no picture to look at");
        }
        let width = features.len() / set.len();
        Ok(Seen { features: Features::new(self.extractor.clone(), width, features)?, probabilities })
    }
}

fn preprocessing(config: &DenseNetConfig) -> String {
    let json = |value: serde_json::Result<serde_json::Value>| {
        value.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    };
    let fit = json(serde_json::to_value(config.fit));
    let scale = json(serde_json::to_value(config.scale));
    format!("gray, {fit}, {} px, scale {scale}; ReLU, mean over places", config.image_size)
}
