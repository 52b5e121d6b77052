//! Draws samples of a bundle side by side, to be looked at.

use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use raygen_model::bundle::Bundle;
use raygen_model::model::Model;
use raygen_model::sampler::{Sampler, SamplingParams};
use raygen_model::transformer::View;

use crate::run::write_sheet;

/// What to change of the model's defaults of sampling.
pub struct Changes {
    /// Steps.
    pub steps: Option<u32>,
    /// Guidance.
    pub guidance: Option<f32>,
    /// Temperature.
    pub temperature: Option<f32>,
    /// Noise on the confidence.
    pub choice_temperature: Option<f32>,
    /// Share of the steps that refine.
    pub refinement: Option<f32>,
    /// Top-k filter.
    pub top_k_filter: Option<f32>,
    /// Sampler, by name.
    pub sampler: Option<String>,
    /// Seed.
    pub seed: u64,
}

/// Writes a sheet of `samples` pictures of each impression to `out`.
///
/// # Errors
/// Where the bundle, a setting or the file is wrong.
pub fn draw(
    bundle: &Path,
    impressions: &[String],
    samples: u32,
    columns: Option<usize>,
    view: Option<View>,
    changes: &Changes,
    out: &Path,
) -> Result<()> {
    let model = Model::load(&Bundle::open(bundle)?, &Device::Cpu, DType::F32)?;
    let params = changes.apply(&model.info().sampling)?;
    let mut rows = Vec::new();
    for impression in impressions {
        let grids =
            sample(&model, impression, view, samples, &params).with_context(|| format!("impression {impression:?}"))?;
        let grids: Vec<&[u32]> = grids.iter().map(Vec::as_slice).collect();
        rows.push((impression.clone(), model.decode(&grids)?));
    }
    write_sheet(out, &rows, columns.unwrap_or(samples as usize))
}

fn sample(
    model: &Model,
    impression: &str,
    view: Option<View>,
    samples: u32,
    params: &SamplingParams,
) -> Result<Vec<Vec<u32>>> {
    let condition = model.condition_of_view(&model.tokenize(impression)?, view)?;
    let mut states: Vec<_> = (0..samples).map(|i| model.empty_state(i)).collect();
    model.generate(&condition, None, params, &mut states)?;
    Ok(states.into_iter().map(|s| s.ids).collect())
}

// === impl Changes ===

impl Changes {
    /// The settings that come of a model's `defaults`.
    ///
    /// # Errors
    /// Names the option that is out of its range.
    pub fn apply(&self, defaults: &SamplingParams) -> Result<SamplingParams> {
        let mut params = defaults.clone();
        params.seed = self.seed;
        params.step_count = self.steps.unwrap_or(params.step_count);
        params.guidance_scale = self.guidance.unwrap_or(params.guidance_scale);
        params.temperature = self.temperature.unwrap_or(params.temperature);
        params.choice_temperature = self.choice_temperature.unwrap_or(params.choice_temperature);
        params.top_k_filter = self.top_k_filter.unwrap_or(params.top_k_filter);
        if let Some(name) = &self.sampler {
            params.change_sampler(match name.as_str() {
                "published" => Sampler::Published,
                "maskgit" => Sampler::Maskgit,
                "halton" => Sampler::Halton,
                other => bail!("--sampler {other}: give published, maskgit or halton"),
            });
        }
        params.refinement = self.refinement.unwrap_or(params.refinement);
        params.validate()?;
        Ok(params)
    }
}
