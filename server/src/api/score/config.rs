//! How to score: the first message of the stream, checked.

use std::sync::Arc;

use raygen_model::sampler::SamplingParams;
use raygen_proto::v1::score_request::ScoreConfig;

use crate::api::errors::{ApiError, Reason};
use crate::api::validate::{self, MAX_SAMPLES, Violations};
use crate::engine::LoadedModel;

/// Ratios where the client gives none.
const MASK_RATIOS: [f32; 4] = [0.25, 0.5, 0.75, 1.0];
/// Each ratio is a row of every forward pass.
const MOST_RATIOS: usize = 16;

/// Metrics over the set that are offered, in the order of the summary.
pub(super) const METRICS: [&str; 4] = ["nll", "accuracy", "text_gain", "reconstruction_psnr"];

/// A configuration that is in order.
pub(super) struct Config {
    pub(super) model: Arc<LoadedModel>,
    pub(super) mask_ratios: Vec<f32>,
    /// Seed of the masks.
    pub(super) seed: u64,
    /// How to sample; its seed is that of the first item's first picture.
    pub(super) sampling: SamplingParams,
    pub(super) samples_per_item: u32,
    pub(super) return_samples: bool,
    pub(super) metrics: Vec<&'static str>,
}

// === impl Config ===

impl Config {
    /// Checks every field.
    pub(super) fn check(asked: &ScoreConfig, model: Arc<LoadedModel>) -> Result<Self, ApiError> {
        super::complete(&model)?;
        let mut violations = Violations::default();
        let mask_ratios = ratios(&mut violations, &asked.mask_ratios);
        if asked.samples_per_item > MAX_SAMPLES {
            let description = format!("is {}, but must be between 0 and {MAX_SAMPLES}", asked.samples_per_item);
            violations.add("config.samples_per_item", Reason::FieldInvalid, description);
        }
        if asked.samples_per_item > 0 {
            violations.keep(validate::has(model.info().has_vqgan, "VQ-GAN", &model));
        }
        let mut sampling = validate::sampling(&mut violations, "config.", asked.sampling.as_ref(), &model);
        if asked.sampling.is_none_or(|sampling| sampling.seed.is_none()) {
            sampling.seed = asked.seed;
        }
        let metrics = metrics(&mut violations, &asked.set_metrics);
        violations.finish()?;
        Ok(Self {
            model,
            mask_ratios,
            seed: asked.seed,
            sampling,
            samples_per_item: asked.samples_per_item,
            return_samples: asked.return_samples,
            metrics,
        })
    }

    /// No metric of today needs generated pictures, so they are made only for whoever wants to see them.
    pub(super) fn sends_samples(&self) -> bool {
        self.return_samples && self.samples_per_item > 0
    }

    /// What two scores must share to be compared.
    pub(super) fn protocol(&self) -> String {
        let info = self.model.info();
        let ratios: Vec<String> = self.mask_ratios.iter().map(ToString::to_string).collect();
        format!(
            "ratios {}; masks of seed {}; {} x {} grid of {} ids; mean over items, 95 % normal interval",
            ratios.join(", "),
            self.seed,
            info.grid_height,
            info.grid_width,
            info.codebook_size
        )
    }
}

fn ratios(violations: &mut Violations, asked: &[f32]) -> Vec<f32> {
    if asked.is_empty() {
        return MASK_RATIOS.to_vec();
    }
    if asked.len() > MOST_RATIOS {
        let description = format!("holds {} ratios; at most {MOST_RATIOS} are scored", asked.len());
        violations.add("config.mask_ratios", Reason::FieldInvalid, description);
        return Vec::new();
    }
    for (at, ratio) in asked.iter().enumerate() {
        if !(*ratio > 0.0 && *ratio <= 1.0) {
            let description = format!("is {ratio}, but must be above 0 and at most 1");
            violations.add(format!("config.mask_ratios[{at}]"), Reason::FieldInvalid, description);
        }
    }
    asked.to_vec()
}

fn metrics(violations: &mut Violations, asked: &[String]) -> Vec<&'static str> {
    if asked.is_empty() {
        return METRICS.to_vec();
    }
    for (at, name) in asked.iter().enumerate() {
        if !METRICS.contains(&name.as_str()) {
            let shown: String = name.chars().take(40).collect();
            let description = format!("{shown:?} is not offered yet; there are {}", METRICS.join(", "));
            violations.add(format!("config.set_metrics[{at}]"), Reason::FieldInvalid, description);
        }
    }
    METRICS.into_iter().filter(|name| asked.iter().any(|asked| asked == name)).collect()
}
