//! A model of `raygen-model` as the engine sees it.

use raygen_model::bundle::Component;
use raygen_model::image::Picture;
use raygen_model::model::{Condition as ModelCondition, Model, ModelError};
use raygen_model::sampler::SamplingError;
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;

use crate::engine::{Condition, Embedding, ModelFault, ModelInfo, ModelRow, StepModel};

/// A loaded bundle.
pub(super) struct RealModel {
    model: Model,
    info: ModelInfo,
}

// === impl RealModel ===

impl RealModel {
    pub(super) fn new(model: Model) -> Self {
        let info = info_of(&model);
        Self { model, info }
    }
}

impl StepModel for RealModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn is_blank(&self, text: &str) -> bool {
        // Without a tokenizer there is nothing to condition on; that is said elsewhere.
        self.model.tokenizer().is_ok_and(|tokenizer| tokenizer.is_blank(text))
    }

    fn tokenize(&self, text: &str) -> Result<TextTokens, ModelFault> {
        self.model.tokenize(text).map_err(fault)
    }

    fn condition(&self, text: &TextTokens, view: Option<View>) -> Result<Condition, ModelFault> {
        self.model.condition_of_view(text, view).map(Condition::new).map_err(fault)
    }

    fn null_condition(&self, view: Option<View>) -> Result<Condition, ModelFault> {
        self.model.null_condition_of_view(view).map(Condition::new).map_err(fault)
    }

    fn embed(&self, text: &TextTokens) -> Result<Embedding, ModelFault> {
        let embedding = self.model.embed_text(text).map_err(fault)?;
        Ok(Embedding { token_count: embedding.token_count, width: embedding.width, values: embedding.values })
    }

    fn logits(&self, rows: &[ModelRow<'_>]) -> Result<Vec<Vec<f32>>, ModelFault> {
        let rows = rows
            .iter()
            .map(|(ids, condition)| Ok((*ids, condition.of::<ModelCondition>()?)))
            .collect::<Result<Vec<_>, ModelFault>>()?;
        self.model.logits(&rows).map_err(fault)
    }

    fn decode(&self, grids: &[&[u32]]) -> Result<Vec<Picture>, ModelFault> {
        self.model.decode(grids).map_err(fault)
    }

    fn approximate(&self, ids: &[u32]) -> Result<Option<Picture>, ModelFault> {
        self.model.approximate(ids).map_err(fault)
    }

    fn encode(&self, pictures: &[&Picture]) -> Result<Vec<Vec<u32>>, ModelFault> {
        self.model.encode(pictures).map_err(fault)
    }
}

fn fault(error: ModelError) -> ModelFault {
    match error {
        error if error.is_device_lost() => ModelFault::DeviceLost(error.to_string()),
        error if error.is_out_of_memory() => ModelFault::OutOfMemory(error.to_string()),
        ModelError::NotFinite { .. } | ModelError::Sampling(SamplingError::NotFinite { .. }) => {
            ModelFault::NotFinite(error.to_string())
        }
        other => ModelFault::Failed(other.to_string()),
    }
}

fn info_of(model: &Model) -> ModelInfo {
    let info = model.info();
    let has = |component| info.components.contains(&component);
    let small = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    ModelInfo {
        image_size: small(info.image_size),
        grid_height: small(info.grid_height),
        grid_width: small(info.grid_width),
        codebook_size: small(info.codebook_size),
        max_text_tokens: small(info.max_text_tokens),
        supports_guidance: info.supports_guidance,
        has_vqgan: has(Component::VqGan),
        has_transformer: has(Component::Transformer),
        has_text_encoder: has(Component::TextEncoder),
        views: info.views.clone(),
        default_view: info.default_view,
        default_sampling: info.sampling.clone(),
        digest: info.digest.clone(),
        supported_terms: info.supported_terms.clone(),
        licence: info.licence.clone(),
        parameter_count: info.parameter_count,
    }
}
