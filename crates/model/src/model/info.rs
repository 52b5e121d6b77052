//! What a model says of itself.

use candle_core::{DType, Device};

use crate::bundle::{Bundle, Component};
use crate::sampler::SamplingParams;
use crate::transformer::View;

/// Facts about a loaded model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// SHA-256 of the bundle.
    pub digest: String,
    /// Networks that it has.
    pub components: Vec<Component>,
    /// Side of the square picture, in pixels.
    pub image_size: usize,
    /// Rows of its grid.
    pub grid_height: usize,
    /// Columns of its grid.
    pub grid_width: usize,
    /// Number of codebook ids; 0 for a model of text alone.
    pub codebook_size: usize,
    /// The id of an undecided position: equals `codebook_size`.
    pub mask_token_id: u32,
    /// Longest impression, in text tokens.
    pub max_text_tokens: usize,
    /// Whether texts were dropped in training, so that guidance works.
    pub supports_guidance: bool,
    /// Views that can be asked for: those of its training films; none where it knows no views.
    pub views: Vec<View>,
    /// The view of a picture where none is asked for; none where it knows no views.
    pub default_view: Option<View>,
    /// Defaults of its sampling.
    pub sampling: SamplingParams,
    /// Findings it was trained on.
    pub supported_terms: Vec<String>,
    /// Licence of the weights; empty where the bundle does not say.
    pub licence: String,
    /// Parameters of all networks.
    pub parameter_count: u64,
    /// Where it runs: `cpu`, `cuda:0`.
    pub device: String,
    /// What it computes in: `f32`, `bf16`, `f16`.
    pub dtype: String,
}

impl ModelInfo {
    pub(super) fn of(bundle: &Bundle, device: &Device, dtype: DType, parameter_count: u64) -> Self {
        let config = bundle.config();
        let components = &config.components;
        let codebook_size = match (&components.transformer, &components.vqgan) {
            (Some(transformer), _) => transformer.codebook_size(),
            (None, Some(vqgan)) => vqgan.codebook_size,
            (None, None) => 0,
        };
        let views = components.transformer.as_ref().and_then(|transformer| transformer.views());
        let licence = config.provenance.get("licence").and_then(|value| value.as_str()).unwrap_or_default();
        Self {
            digest: bundle.digest().to_owned(),
            components: components.present().collect(),
            image_size: config.image_size,
            grid_height: config.grid.height,
            grid_width: config.grid.width,
            codebook_size,
            mask_token_id: codebook_size as u32,
            max_text_tokens: config.text.max_tokens,
            supports_guidance: config.text.condition_dropout,
            views: views.map(|views| views.trained.clone()).unwrap_or_default(),
            default_view: views.map(|views| views.default),
            sampling: config.sampling.clone(),
            supported_terms: config.text.supported_terms.clone(),
            licence: licence.to_owned(),
            parameter_count,
            device: device_name(device),
            dtype: dtype.as_str().to_owned(),
        }
    }

    /// Whether a picture of this view can be asked for.
    pub fn knows_view(&self, view: View) -> bool {
        self.views.contains(&view)
    }

    /// Positions of its grid.
    pub fn positions(&self) -> usize {
        self.grid_height * self.grid_width
    }
}

fn device_name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}
