//! Encode: a picture into its grid (and what the grid decodes to), or an impression into its embedding.

use std::sync::Arc;

use raygen_model::image::{ImageFormat, Picture, Provenance};
use raygen_proto::v1;
use raygen_proto::v1::encode_request::Input;
use raygen_proto::v1::encode_response::{Embedding, Event};
use tonic::{Request, Response, Status};

use super::errors::{ApiError, Reason, Violation};
use super::validate::{self, Violations};
use super::{Api, Deadline, Messages, blocking, decode, picture, reply};
use crate::engine::{self, EngineError, LoadedModel, ModelInfo, Ticket};
use crate::transport::Held;

/// A request that is in order.
enum Work {
    Picture(Picture),
    Text(raygen_model::text::TextTokens),
}

pub(super) async fn serve(
    api: Api,
    request: Request<v1::EncodeRequest>,
) -> Result<Response<Messages<v1::EncodeResponse>>, Status> {
    let mut call = api.calls.begin("Encode").of(&request);
    let deadline = Deadline::of(&request);
    // Until what refuses it has read it.
    let _held = Held::of(&request);
    let begun = begin(&api, deadline, request.into_inner()).await;
    let (model, first, reconstruct) = begun.map_err(|error| {
        let status = Status::from(error);
        call.end(status.code());
        status
    })?;

    // Behind a reconstruction comes nothing, and without one there is a single event.
    let is_last: fn(&v1::EncodeResponse) -> bool = match &reconstruct {
        None => |_: &v1::EncodeResponse| true,
        Some(_) => |response: &v1::EncodeResponse| matches!(response.event, Some(Event::Reconstruction(_))),
    };
    let (reply, reading) = reply::channel(call, None, 1, api.reader_timeout, is_last);
    tokio::spawn(async move {
        let send = |event| Ok(v1::EncodeResponse { event: Some(event) });
        let Some(ids) = reconstruct else {
            return reply.finish(send(first)).await;
        };
        if reply.send(send(first)).await.is_err() {
            return;
        }
        let image = tokio::select! {
            biased;
            () = reply.closed() => return,
            () = deadline.passed() => Err(EngineError::DeadlineExceeded.into()),
            image = reconstruction(&api, &model, deadline, ids) => image,
        };
        let last = image.map_err(Status::from).and_then(|image| send(Event::Reconstruction(image)));
        reply.finish(last).await;
    });
    Ok(Response::new(Box::pin(reading)))
}

/// Everything up to the first event, so that what is refused is refused before the response begins.
async fn begin(
    api: &Api,
    deadline: Deadline,
    request: v1::EncodeRequest,
) -> Result<(Arc<LoadedModel>, Event, Option<Vec<u32>>), ApiError> {
    let ticket = api.engine.try_enter(engine::Work::ONE, deadline.instant())?;
    let model = api.repository.resolve(&request.model)?;
    let reconstruct = request.include_reconstruction;
    let limits = api.limits;
    let checked = Arc::clone(&model);
    let holds_picture = matches!(request.input, Some(Input::Image(_)));
    match api.checking(holds_picture, move || check(request, &checked, &limits)).await? {
        Work::Text(tokens) => {
            let event = embed(api, ticket, &model, deadline, tokens).await?;
            Ok((model, event, None))
        }
        Work::Picture(prepared) => {
            let ids = grid_of(api, ticket, &model, deadline, prepared).await?;
            let event = Event::Grid(token_grid(ids.clone(), model.info()));
            Ok((model, event, reconstruct.then_some(ids)))
        }
    }
}

fn check(
    request: v1::EncodeRequest,
    model: &LoadedModel,
    limits: &raygen_model::image::DecodeLimits,
) -> Result<Work, ApiError> {
    let mut violations = Violations::default();
    let info = model.info();
    let work = match request.input {
        None => {
            violations.add("input", Reason::FieldInvalid, "is missing; send an image or an impression");
            None
        }
        Some(Input::Image(image)) => {
            violations.keep(validate::has(info.has_vqgan, "VQ-GAN", model));
            violations.keep(picture::read_prepared("image", &image, info.image_size, limits)).map(Work::Picture)
        }
        Some(Input::Impression(text)) => {
            if request.include_reconstruction {
                let description = "is for images; an impression has no reconstruction";
                violations.add("include_reconstruction", Reason::FieldInvalid, description);
            }
            match violations.keep(validate::has(info.has_text_encoder, "text encoder", model)) {
                Some(()) => violations.keep(validate::impression("impression", &text, model)).map(Work::Text),
                None => None,
            }
        }
    };
    violations.finish()?;
    work.ok_or_else(|| Violation::new("input", Reason::FieldInvalid, "cannot be read").into())
}

/// Encodes one prepared picture on the engine's thread.
pub(super) async fn grid_of(
    api: &Api,
    ticket: Ticket,
    model: &Arc<LoadedModel>,
    deadline: Deadline,
    prepared: Picture,
) -> Result<Vec<u32>, ApiError> {
    let work = move |model: &LoadedModel| {
        let mut grids = model.model.encode(&[&prepared])?;
        grids.pop().ok_or_else(|| EngineError::Model { detail: "no grid came of a picture".to_owned() })
    };
    Ok(api.engine.call(ticket, Arc::clone(model), deadline.instant(), work).await?)
}

async fn embed(
    api: &Api,
    ticket: Ticket,
    model: &Arc<LoadedModel>,
    deadline: Deadline,
    tokens: raygen_model::text::TextTokens,
) -> Result<Event, ApiError> {
    let names = tokens.tokens.clone();
    let work = move |model: &LoadedModel| Ok(model.model.embed(&tokens)?);
    let embedding = api.engine.call(ticket, Arc::clone(model), deadline.instant(), work).await?;
    let count = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    Ok(Event::Embedding(Embedding {
        token_count: count(embedding.token_count),
        width: count(embedding.width),
        values: embedding.values,
        tokens: names,
    }))
}

async fn reconstruction(
    api: &Api,
    model: &Arc<LoadedModel>,
    deadline: Deadline,
    ids: Vec<u32>,
) -> Result<v1::Image, ApiError> {
    let ticket = api.engine.enter(engine::Work::ONE).await?;
    let decoded = decode::one(api, ticket, model, deadline, ids).await?;
    let provenance = Provenance::decoded(&model.name);
    blocking(move || picture::write(&decoded, ImageFormat::Png, &provenance)).await
}

/// A grid as the wire has it.
pub(super) fn token_grid(ids: Vec<u32>, info: &ModelInfo) -> v1::TokenGrid {
    v1::TokenGrid {
        height: info.grid_height,
        width: info.grid_width,
        token_ids: ids,
        mask_token_id: info.codebook_size,
    }
}
