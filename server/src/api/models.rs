//! Which models there are.

use raygen_model::sampler::{Sampler, SamplingParams};
use raygen_model::transformer::View;
use raygen_proto::v1;

use super::errors::{ApiError, Reason, Violation};
use crate::engine::ModelInfo;
use crate::repository::{Listing, Repository, Standing};

/// Models on a page where the client does not say.
const PAGE: u32 = 50;
/// Most models on a page.
const LARGEST_PAGE: u32 = 1000;
/// What every page token starts with; the name of the last model of the page before follows.
const TOKEN_PREFIX: &str = "after:";

/// One page of models, in the order of their names.
pub(super) fn list(
    repository: &Repository,
    request: &v1::ListModelsRequest,
) -> Result<v1::ListModelsResponse, ApiError> {
    let after = match request.page_token.as_str() {
        "" => None,
        token => match token.strip_prefix(TOKEN_PREFIX) {
            Some(name) if repository.listing(name).is_some() => Some(name),
            _ => {
                let description = "is not the next_page_token of an earlier answer; leave it out to start over";
                return Err(Violation::new("page_token", Reason::FieldInvalid, description).into());
            }
        },
    };
    let size = match request.page_size {
        0 => PAGE,
        size => size.min(LARGEST_PAGE),
    } as usize;
    let mut rest =
        repository.listings().skip_while(|listing| after.is_some_and(|after| listing.name.as_str() <= after));
    let page: Vec<&Listing> = rest.by_ref().take(size).collect();
    let next_page_token = match (rest.next(), page.last()) {
        (Some(_), Some(last)) => format!("{TOKEN_PREFIX}{}", last.name),
        _ => String::new(),
    };
    Ok(v1::ListModelsResponse { models: page.into_iter().map(describe).collect(), next_page_token })
}

/// One model, whatever its state.
pub(super) fn get(repository: &Repository, request: &v1::GetModelRequest) -> Result<v1::GetModelResponse, ApiError> {
    if request.name.is_empty() {
        let description = "must not be empty; give models/{model} or models/{model}/versions/{version}";
        return Err(Violation::new("name", Reason::FieldInvalid, description).into());
    }
    if let Some(listing) = repository.listing(&request.name) {
        return Ok(v1::GetModelResponse { model: Some(describe(listing)) });
    }
    let model = repository.resolve(&request.name)?;
    Ok(v1::GetModelResponse { model: repository.listing(&model.name).map(describe) })
}

/// Said until there are scopes to keep strangers from it.
pub(super) fn not_while_running(what: &str) -> ApiError {
    ApiError::Unimplemented(format!(
        "{what} models while the server runs needs an admin scope, which this server does not offer yet; \
         restart it with --models instead"
    ))
}

fn describe(listing: &Listing) -> v1::Model {
    match &listing.standing {
        Standing::Ready(model) => {
            v1::Model { name: listing.name.clone(), state: v1::model::State::Ready.into(), ..facts(model.info()) }
        }
        Standing::Failed(reason) => v1::Model {
            name: listing.name.clone(),
            state: v1::model::State::Failed.into(),
            state_reason: reason.clone(),
            ..v1::Model::default()
        },
    }
}

fn facts(info: &ModelInfo) -> v1::Model {
    v1::Model {
        image_size: info.image_size,
        grid_height: info.grid_height,
        grid_width: info.grid_width,
        codebook_size: info.codebook_size,
        max_text_tokens: info.max_text_tokens,
        supports_guidance: info.supports_guidance,
        default_sampling: Some(sampling(&info.default_sampling)),
        digest: info.digest.clone(),
        supported_terms: info.supported_terms.clone(),
        licence: info.licence.clone(),
        parameter_count: info.parameter_count,
        views: info.views.iter().map(|of| view(*of).into()).collect(),
        default_view: info.default_view.map_or(v1::View::Unspecified, view).into(),
        ..v1::Model::default()
    }
}

fn view(view: View) -> v1::View {
    match view {
        View::AP => v1::View::Ap,
        View::PA => v1::View::Pa,
        View::Lateral => v1::View::Lateral,
        View::Frontal => v1::View::Frontal,
    }
}

fn sampling(params: &SamplingParams) -> v1::SamplingParams {
    v1::SamplingParams {
        step_count: Some(params.step_count),
        temperature: Some(params.temperature),
        top_k_filter: Some(params.top_k_filter),
        guidance_scale: Some(params.guidance_scale),
        choice_temperature: Some(params.choice_temperature),
        refinement: Some(params.refinement),
        sampler: match params.sampler {
            Sampler::Published => v1::Sampler::Published,
            Sampler::Maskgit => v1::Sampler::Maskgit,
            Sampler::Halton => v1::Sampler::Halton,
        }
        .into(),
        // The seed has no default: one is drawn for each request.
        seed: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LoadedModel;
    use crate::engine::fake::FakeModel;

    fn repository() -> Repository {
        Repository::of(
            ["models/a/versions/1", "models/a/versions/2", "models/b/versions/1"]
                .map(|name| LoadedModel::new(name, FakeModel::new())),
        )
        .with_failed("models/c/versions/1", "transformer.safetensors has no tensor x")
    }

    #[test]
    fn pages_cover_every_model_once_in_order() {
        let repository = repository();
        let (mut names, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListModelsRequest { page_size: 2, page_token };
            let page = list(&repository, &request).expect("a page");
            names.extend(page.models.into_iter().map(|model| model.name));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(names, ["models/a/versions/1", "models/a/versions/2", "models/b/versions/1", "models/c/versions/1"]);
    }

    #[test]
    fn a_page_token_of_nobody_is_refused_by_field() {
        let request = v1::ListModelsRequest { page_size: 0, page_token: "x".to_owned() };
        let ApiError::Invalid(violations) = list(&repository(), &request).expect_err("refused") else {
            panic!("not a field");
        };
        assert_eq!(violations[0].field, "page_token");
    }

    #[test]
    fn a_failed_model_is_described_with_its_reason_and_its_newest_version_without_a_number() {
        let repository = repository();
        let of = |name: &str| {
            let request = v1::GetModelRequest { name: name.to_owned() };
            get(&repository, &request).map(|response| response.model.expect("a model"))
        };
        let failed = of("models/c/versions/1").expect("described");
        assert_eq!(failed.state(), v1::model::State::Failed);
        assert!(failed.state_reason.contains("tensor x"));
        assert_eq!(of("models/a").expect("resolved").name, "models/a/versions/2");
        assert!(matches!(of("models/nope"), Err(ApiError::ModelNotFound { .. })));
    }
}
