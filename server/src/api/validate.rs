//! Checks what a client sent, field by field, and collects everything that is wrong with it.

use raygen_model::sampler::{Sampler, SamplingParams};
use raygen_model::text::TextTokens;
use raygen_model::transformer::View;
use raygen_proto::v1;

use super::errors::{ApiError, Reason, Violation};
use crate::engine::{LoadedModel, ModelInfo, Preview};

/// Longest impression, in bytes: far more than any report has.
pub(super) const MAX_TEXT_BYTES: usize = 8192;
/// Most pictures for one request or one scored item.
pub(super) const MAX_SAMPLES: u32 = 16;

/// Everything that is wrong with a request.
#[derive(Debug, Default)]
pub(super) struct Violations(Vec<Violation>);

// === impl Violations ===

impl Violations {
    /// Adds one.
    pub(super) fn add(&mut self, field: impl Into<String>, reason: Reason, description: impl Into<String>) {
        self.0.push(Violation::new(field, reason, description));
    }

    /// Keeps a value, or adds what is wrong with it.
    pub(super) fn keep<T>(&mut self, checked: Result<T, Violation>) -> Option<T> {
        checked.map_err(|violation| self.0.push(violation)).ok()
    }

    /// The error, if anything was wrong.
    ///
    /// # Errors
    /// Something was.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self.0)) }
    }
}

/// Checks and tokenizes an impression that must not be blank.
pub(super) fn impression(field: &str, text: &str, model: &LoadedModel) -> Result<TextTokens, Violation> {
    readable(field, text)?;
    let blank = || {
        Violation::new(field, Reason::ImpressionBlank, "must not be blank; describe the film, such as \"Pneumonia\"")
    };
    if text.trim().is_empty() || model.model.is_blank(text) {
        return Err(blank());
    }
    let tokens = tokenize(field, text, model)?;
    // Words that the model does not know leave nothing to condition on, but they are words: the caller hears of them as
    // unsupported terms, and gets a picture of no particular finding.
    if tokens.is_null() && tokens.unsupported_terms.is_empty() { Err(blank()) } else { Ok(tokens) }
}

/// Checks and tokenizes a text that may be blank: then there is none.
pub(super) fn optional_text(field: &str, text: &str, model: &LoadedModel) -> Result<Option<TextTokens>, Violation> {
    readable(field, text)?;
    if text.trim().is_empty() || model.model.is_blank(text) {
        return Ok(None);
    }
    tokenize(field, text, model).map(Some)
}

/// Plain text of bearable length.
fn readable(field: &str, text: &str) -> Result<(), Violation> {
    if text.len() > MAX_TEXT_BYTES {
        let description = format!("has {} bytes; at most {MAX_TEXT_BYTES} are read", text.len());
        return Err(Violation::new(field, Reason::FieldInvalid, description));
    }
    let unreadable =
        |c: &char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || *c == char::REPLACEMENT_CHARACTER;
    if let Some((at, character)) = text.char_indices().find(|(_, c)| unreadable(c)) {
        let description =
            format!("holds the control character U+{:04X} at byte {at}; send plain text", u32::from(character));
        return Err(Violation::new(field, Reason::FieldInvalid, description));
    }
    Ok(())
}

fn tokenize(field: &str, text: &str, model: &LoadedModel) -> Result<TextTokens, Violation> {
    let tokens =
        model.model.tokenize(text).map_err(|fault| Violation::new(field, Reason::FieldInvalid, fault.to_string()))?;
    if tokens.truncated {
        let limit = model.info().max_text_tokens;
        let description = format!(
            "has {} text tokens; {} reads at most {limit}, the two at its ends included: shorten it",
            tokens.full_count, model.name
        );
        return Err(Violation::new(field, Reason::FieldInvalid, description));
    }
    Ok(tokens)
}

/// The model's defaults, overridden by what the request says. Without a seed one is drawn.
pub(super) fn sampling(
    violations: &mut Violations,
    prefix: &str,
    asked: Option<&v1::SamplingParams>,
    model: &LoadedModel,
) -> SamplingParams {
    let asked = asked.copied().unwrap_or_default();
    let mut params = model.info().default_sampling.clone();
    match v1::Sampler::try_from(asked.sampler) {
        Ok(v1::Sampler::Unspecified) => {}
        Ok(v1::Sampler::Published) => params.change_sampler(Sampler::Published),
        Ok(v1::Sampler::Maskgit) => params.change_sampler(Sampler::Maskgit),
        Ok(v1::Sampler::Halton) => params.change_sampler(Sampler::Halton),
        Err(_) => violations.add(
            format!("{prefix}sampling.sampler"),
            Reason::FieldInvalid,
            format!("{} is not a sampler; there are PUBLISHED (1), MASKGIT (2) and HALTON (3)", asked.sampler),
        ),
    }
    params.step_count = asked.step_count.unwrap_or(params.step_count);
    params.temperature = asked.temperature.unwrap_or(params.temperature);
    params.top_k_filter = asked.top_k_filter.unwrap_or(params.top_k_filter);
    params.guidance_scale = asked.guidance_scale.unwrap_or(params.guidance_scale);
    params.choice_temperature = asked.choice_temperature.unwrap_or(params.choice_temperature);
    params.refinement = asked.refinement.unwrap_or(params.refinement);
    params.seed = asked.seed.unwrap_or_else(draw_seed);
    if let Err(error) = params.validate() {
        violations.add(
            format!("{prefix}{}", error.field),
            Reason::FieldInvalid,
            format!("must be {}, is {}", error.allowed, error.found),
        );
    } else if params.guidance_scale != 1.0 && !model.info().supports_guidance {
        violations.add(
            format!("{prefix}sampling.guidance_scale"),
            Reason::GuidanceUnsupported,
            format!(
                "is {}, but {} was trained without condition dropout: leave it out, or set it to 1",
                params.guidance_scale, model.name
            ),
        );
    }
    params
}

/// The view of a film that is scored: the model's default where it has not learnt the film's.
pub(super) fn view_of_film(field: &str, named: i32, model: &LoadedModel) -> Result<Option<View>, Violation> {
    Ok(named_view(field, named)?.filter(|view| model.info().views.contains(view)))
}

fn named_view(field: &str, named: i32) -> Result<Option<View>, Violation> {
    Ok(Some(match v1::View::try_from(named) {
        Ok(v1::View::Unspecified) => return Ok(None),
        Ok(v1::View::Ap) => View::AP,
        Ok(v1::View::Pa) => View::PA,
        Ok(v1::View::Lateral) => View::Lateral,
        Ok(v1::View::Frontal) => View::Frontal,
        Err(_) => {
            let description = format!("{named} is not a view; there are AP (1), PA (2), LATERAL (3) and FRONTAL (4)");
            return Err(Violation::new(field, Reason::FieldInvalid, description));
        }
    }))
}

/// The view, where one is asked for: it must be one that the model has learnt.
pub(super) fn view(field: &str, asked: i32, model: &LoadedModel) -> Result<Option<View>, Violation> {
    let Some(view) = named_view(field, asked)? else { return Ok(None) };
    let wrong = |description: String| Err(Violation::new(field, Reason::FieldInvalid, description));
    let known = &model.info().views;
    if known.contains(&view) {
        return Ok(Some(view));
    }
    if known.is_empty() {
        return wrong(format!("is {view}, but {} knows no views: leave it out", model.name));
    }
    let names: Vec<&str> = known.iter().map(|view| view.name()).collect();
    wrong(format!("is {view}, but {} has learnt {} only", model.name, names.join(", ")))
}

/// A random seed below 2^53, so that every language's JSON can repeat it.
fn draw_seed() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high ^ low) >> 11
}

/// A negative text without guidance would change nothing: that is a mistake, or a model that cannot do it.
pub(super) fn negative_without_guidance(field: &str, model: &LoadedModel) -> Result<(), Violation> {
    if model.info().supports_guidance {
        let description = "changes nothing while sampling.guidance_scale is 1; set it above 1";
        return Err(Violation::new(field, Reason::FieldInvalid, description));
    }
    let description = format!("needs guidance, which {} was not trained for; leave it out", model.name);
    Err(Violation::new(field, Reason::GuidanceUnsupported, description))
}

/// A grid of the model's shape; undecided positions only where `undecided` allows them.
pub(super) fn grid(
    field: &str,
    grid: &v1::TokenGrid,
    info: &ModelInfo,
    undecided: bool,
) -> Result<Vec<u32>, Violation> {
    let wrong =
        |path: &str, description: String| Violation::new(format!("{field}{path}"), Reason::GridInvalid, description);
    if (grid.height, grid.width) != (info.grid_height, info.grid_width) {
        let description = format!(
            "is {} x {}, but the model's grids are {} x {}",
            grid.height, grid.width, info.grid_height, info.grid_width
        );
        return Err(wrong("", description));
    }
    if grid.token_ids.len() != info.positions() {
        let description = format!("holds {} ids instead of {}", grid.token_ids.len(), info.positions());
        return Err(wrong(".token_ids", description));
    }
    let mask_id = info.codebook_size;
    // 0 is what a client sends that leaves the field out; it has no undecided positions then.
    if grid.mask_token_id != mask_id && grid.mask_token_id != 0 {
        return Err(wrong(".mask_token_id", format!("is {}, but the model's is {mask_id}", grid.mask_token_id)));
    }
    for (at, &id) in grid.token_ids.iter().enumerate() {
        if id > mask_id {
            return Err(wrong(".token_ids", format!("id {id} at position {at} is not below {mask_id}")));
        }
        if id == mask_id && !undecided {
            return Err(wrong(".token_ids", format!("position {at} is undecided (id {id}); decide all of them first")));
        }
    }
    Ok(grid.token_ids.clone())
}

/// The preview mode.
pub(super) fn preview(field: &str, mode: i32) -> Result<Preview, Violation> {
    match v1::PreviewMode::try_from(mode) {
        Ok(v1::PreviewMode::Unspecified | v1::PreviewMode::Tokens) => Ok(Preview::Tokens),
        Ok(v1::PreviewMode::None) => Ok(Preview::None),
        Ok(v1::PreviewMode::Approximate) => Ok(Preview::Approximate),
        Ok(v1::PreviewMode::Decoded) => Ok(Preview::Decoded),
        Err(_) => {
            let description = format!(
                "{mode} is not a preview mode; there are NONE (1), TOKENS (2), APPROXIMATE (3) and DECODED (4)"
            );
            Err(Violation::new(field, Reason::FieldInvalid, description))
        }
    }
}

/// The number of samples; 0 means 1.
pub(super) fn sample_count(field: &str, count: u32) -> Result<u32, Violation> {
    if count > MAX_SAMPLES {
        let description = format!("is {count}, but must be between 1 and {MAX_SAMPLES} (0 means 1)");
        return Err(Violation::new(field, Reason::FieldInvalid, description));
    }
    Ok(count.max(1))
}

/// A UUID of version 4, or nothing.
pub(super) fn request_id(field: &str, id: &str) -> Result<Option<String>, Violation> {
    if id.is_empty() {
        return Ok(None);
    }
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) if uuid.get_version_num() == 4 => Ok(Some(uuid.hyphenated().to_string())),
        _ => Err(Violation::new(field, Reason::FieldInvalid, "is not a version 4 UUID; leave it out, or send one")),
    }
}

/// The model has what the call needs.
pub(super) fn has(present: bool, what: &str, model: &LoadedModel) -> Result<(), Violation> {
    if present {
        return Ok(());
    }
    Err(Violation::new("model", Reason::FieldInvalid, format!("{} has no {what}, which this call needs", model.name)))
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
