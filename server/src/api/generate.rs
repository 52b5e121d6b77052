//! Generate: checks a request, admits it before the response begins, and sends what the engine makes of it.

use std::sync::Arc;

use raygen_model::image::{DecodeLimits, ImageFormat, Provenance};
use raygen_proto::v1;
use raygen_proto::v1::generate_response::{Admitted, Event, Progress, Sample, Summary};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::call::RequestId;
use super::canvas::{self, Canvas, CanvasSource};
use super::encode::{grid_of, token_grid};
use super::errors::ApiError;
use super::reply::{self, Reply};
use super::validate::{self, Violations};
use super::{Api, Deadline, Messages, blocking, picture};
use crate::engine::{self, EngineError, Envelope, Generation, Inbox, LoadedModel, Work};
use crate::transport::Held;

/// A request that is in order, but for a picture that has to be encoded first.
struct Checked {
    generation: Generation,
    canvas: Option<Canvas>,
    format: ImageFormat,
}

/// What is needed to turn the engine's events into messages.
#[derive(Clone)]
struct Writer {
    model: Arc<LoadedModel>,
    impression: Arc<str>,
    seed: u64,
    format: ImageFormat,
}

/// A generation under way.
struct Stream {
    inbox: Inbox,
    writer: Writer,
    deadline: Deadline,
}

pub(super) async fn serve(
    api: Api,
    request: Request<v1::GenerateRequest>,
) -> Result<Response<Messages<v1::GenerateResponse>>, Status> {
    let mut call = api.calls.begin("Generate").of(&request);
    let deadline = Deadline::of(&request);
    // Until what refuses it has read it.
    let _held = Held::of(&request);
    let begun = begin(&api, deadline, request.into_inner()).await;
    let (inbox, writer, admitted, request_id) = begun.map_err(|error| {
        let status = Status::from(error);
        call.end(status.code());
        status
    })?;
    let first = v1::GenerateResponse { sequence: 0, sample_index: 0, event: Some(Event::Admitted(admitted)) };
    // One message on its way: what the reader does not take stays with the engine, which drops previews.
    let (reply, reading) = reply::channel(call, request_id, 1, api.reader_timeout, is_summary);
    tokio::spawn(Stream { inbox, writer, deadline }.run(first, reply).in_current_span());
    Ok(Response::new(Box::pin(reading)))
}

/// Everything that can refuse a request.
async fn begin(
    api: &Api,
    deadline: Deadline,
    request: v1::GenerateRequest,
) -> Result<(Inbox, Writer, Admitted, Option<RequestId>), ApiError> {
    // The door first: a server that is full or going does not look at the rest.
    drop(api.engine.try_enter(Work::NONE, deadline.instant())?);
    let model = api.repository.resolve(&request.model)?;
    let request_id = take_request_id(api, &request.request_id)?;
    let impression: Arc<str> = Arc::from(request.impression.as_str());
    let (checked_model, limits) = (Arc::clone(&model), api.limits);
    let holds_picture = request.canvas.as_ref().is_some_and(canvas::holds_picture);
    let checked = api.checking(holds_picture, move || check(&request, checked_model, deadline, &limits)).await?;
    let Checked { mut generation, canvas, format } = checked;

    if let Some(mut canvas) = canvas {
        let source = std::mem::replace(&mut canvas.source, CanvasSource::Grid(Vec::new()));
        let ids = match source {
            CanvasSource::Grid(ids) => ids,
            CanvasSource::Picture(prepared) => {
                let ticket = api.engine.try_enter(Work::ONE, deadline.instant())?;
                grid_of(api, ticket, &model, deadline, prepared).await?
            }
        };
        let (mask_id, seed) = (model.info().codebook_size, generation.params.seed);
        for (sample, start) in (0..).zip(&mut generation.starts) {
            *start = canvas.start(&ids, mask_id, seed, sample);
        }
    }
    let seed = generation.params.seed;
    let unsupported_terms = generation.text.unsupported_terms.clone();
    let (inbox, queue_position) = api.engine.generate(generation)?;
    let admitted = Admitted { model: model.name.clone(), seed, queue_position, unsupported_terms };
    Ok((inbox, Writer { model, impression, seed, format }, admitted, request_id))
}

fn take_request_id(api: &Api, id: &str) -> Result<Option<RequestId>, ApiError> {
    match validate::request_id("request_id", id)? {
        None => Ok(None),
        Some(id) => match api.calls.take_request_id(id.clone()) {
            Some(held) => {
                tracing::Span::current().record("request_id", id.as_str());
                Ok(Some(held))
            }
            None => Err(ApiError::RequestIdInFlight(id)),
        },
    }
}

/// Checks every field. CPU-bound.
fn check(
    request: &v1::GenerateRequest,
    model: Arc<LoadedModel>,
    deadline: Deadline,
    limits: &DecodeLimits,
) -> Result<Checked, ApiError> {
    let info = model.info().clone();
    let mut violations = Violations::default();
    violations.keep(validate::has(info.has_transformer, "transformer", &model));
    violations.keep(validate::has(info.has_text_encoder, "text encoder", &model));
    violations.keep(validate::has(info.has_vqgan, "VQ-GAN", &model));
    let complete = info.has_transformer && info.has_text_encoder && info.has_vqgan;
    if !complete {
        violations.finish()?;
        return Err(ApiError::Internal("an incomplete model was not refused".to_owned()));
    }

    let text = violations.keep(validate::impression("impression", &request.impression, &model));
    let negative =
        violations.keep(validate::optional_text("negative_impression", &request.negative_impression, &model)).flatten();
    let params = validate::sampling(&mut violations, "", request.sampling.as_ref(), &model);
    if negative.is_some() && params.guidance_scale == 1.0 {
        violations.keep(validate::negative_without_guidance("negative_impression", &model));
    }
    let view = violations.keep(validate::view("view", request.view, &model)).flatten();
    let samples = violations.keep(validate::sample_count("sample_count", request.sample_count));
    let output = request.output.unwrap_or_default();
    let preview = violations.keep(validate::preview("output.preview_mode", output.preview_mode));
    let format = violations.keep(picture::format("output.image_format", output.image_format));
    let canvas = match &request.canvas {
        None => None,
        Some(canvas) => violations.keep(canvas::check(canvas, &info, limits)),
    };
    violations.finish()?;
    let (Some(text), Some(samples), Some(preview), Some(format)) = (text, samples, preview, format) else {
        return Err(ApiError::Internal("a wrong field was not refused".to_owned()));
    };
    let empty = vec![info.codebook_size; info.positions()];
    let generation = Generation {
        model,
        text,
        negative,
        view,
        params,
        starts: vec![empty; samples as usize],
        preview,
        preview_interval: output.preview_interval.max(1),
        include_confidence: output.include_confidence,
        deadline: deadline.instant(),
    };
    Ok(Checked { generation, canvas, format: format.unwrap_or(ImageFormat::Png) })
}

// === impl Stream ===

impl Stream {
    /// Sends events until the last one, the deadline, or the reader leaves or stalls. Dropping the inbox cancels the work.
    async fn run(mut self, first: v1::GenerateResponse, reply: Reply<v1::GenerateResponse>) {
        let mut message: Result<_, Status> = Ok(first);
        loop {
            if message.as_ref().map_or(true, is_summary) {
                // The engine may let go now; the last message may wait for its reader.
                drop(self.inbox);
                return reply.finish(message).await;
            }
            let sent = tokio::select! {
                biased;
                () = self.deadline.passed() => None,
                sent = reply.send(message) => Some(sent),
            };
            message = match sent {
                None => Err(late()),
                Some(Err(_)) => return,
                Some(Ok(())) => tokio::select! {
                    biased;
                    () = reply.closed() => return,
                    () = self.deadline.passed() => Err(late()),
                    next = self.next() => next,
                },
            };
        }
    }

    async fn next(&mut self) -> Result<v1::GenerateResponse, Status> {
        let envelope = match self.inbox.next().await {
            Some(Ok(envelope)) => envelope,
            Some(Err(error)) => return Err(ApiError::from(error).into()),
            None => return Err(ApiError::Internal("the engine ended without a summary".to_owned()).into()),
        };
        let writer = self.writer.clone();
        let picture = match &envelope.event {
            engine::Event::Progress(progress) => progress.picture.is_some(),
            engine::Event::Sample(_) => true,
            engine::Event::Summary(_) => false,
        };
        let message = if picture { blocking(move || writer.message(envelope)).await } else { writer.message(envelope) };
        message.map_err(Status::from)
    }
}

/// The message behind which nothing comes.
fn is_summary(response: &v1::GenerateResponse) -> bool {
    matches!(response.event, Some(Event::Summary(_)))
}

fn late() -> Status {
    ApiError::from(EngineError::DeadlineExceeded).into()
}

// === impl Writer ===

impl Writer {
    /// An event as a message; encodes pictures, so it is CPU-bound.
    fn message(&self, envelope: Envelope) -> Result<v1::GenerateResponse, ApiError> {
        let Envelope { sequence, sample_index, event } = envelope;
        let provenance = || Provenance::generated(&self.model.name, &self.impression, self.seed, sample_index);
        let grid = |ids| Some(token_grid(ids, self.model.info()));
        let event = match event {
            engine::Event::Progress(progress) => Event::Progress(Progress {
                step: progress.step,
                step_count: progress.step_count,
                grid: grid(progress.ids),
                preview: match progress.picture {
                    Some(preview) => Some(picture::write(&preview, ImageFormat::Jpeg, &provenance())?),
                    None => None,
                },
                confidence: progress.confidence.unwrap_or_default(),
            }),
            engine::Event::Sample(sample) => Event::Sample(Sample {
                image: Some(picture::write(&sample.picture, self.format, &provenance())?),
                grid: grid(sample.ids),
            }),
            engine::Event::Summary(summary) => Event::Summary(Summary {
                queue_duration: Some(duration(summary.queue)),
                step_duration: Some(duration(summary.steps)),
                decode_duration: Some(duration(summary.decode)),
                dropped_preview_count: summary.dropped_previews,
            }),
        };
        Ok(v1::GenerateResponse { sequence, sample_index, event: Some(event) })
    }
}

fn duration(duration: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
