//! Decode: a grid into a picture.

use std::sync::Arc;

use raygen_model::image::{ImageFormat, Picture, Provenance};
use raygen_proto::v1;
use tonic::Request;

use super::errors::ApiError;
use super::validate::{self, Violations};
use super::{Api, Deadline, blocking, picture};
use crate::engine::{EngineError, LoadedModel, Ticket, Work};
use crate::transport::Held;

pub(super) async fn serve(api: &Api, request: Request<v1::DecodeRequest>) -> Result<v1::DecodeResponse, ApiError> {
    let deadline = Deadline::of(&request);
    let _held = Held::of(&request);
    let ticket = api.engine.try_enter(Work::ONE, deadline.instant())?;
    let request = request.into_inner();
    let model = api.repository.resolve(&request.model)?;

    let mut violations = Violations::default();
    violations.keep(validate::has(model.info().has_vqgan, "VQ-GAN", &model));
    let format = violations.keep(picture::format("image_format", request.image_format)).flatten();
    let grid = request.grid.unwrap_or_default();
    let ids = violations.keep(validate::grid("grid", &grid, model.info(), false));
    violations.finish()?;

    let decoded = one(api, ticket, &model, deadline, ids.unwrap_or_default()).await?;
    let image = blocking(move || {
        picture::write(&decoded, format.unwrap_or(ImageFormat::Png), &Provenance::decoded(&model.name))
    })
    .await?;
    Ok(v1::DecodeResponse { image: Some(image) })
}

/// Decodes one grid on the engine's thread.
pub(super) async fn one(
    api: &Api,
    ticket: Ticket,
    model: &Arc<LoadedModel>,
    deadline: Deadline,
    ids: Vec<u32>,
) -> Result<Picture, ApiError> {
    let work = move |model: &LoadedModel| {
        let mut pictures = model.model.decode(&[&ids])?;
        pictures.pop().ok_or_else(|| EngineError::Model { detail: "no picture came of a grid".to_owned() })
    };
    Ok(api.engine.call(ticket, Arc::clone(model), deadline.instant(), work).await?)
}
