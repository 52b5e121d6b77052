//! Generate: the stream of typed events of one request.

use std::time::Duration;

use raygen_proto::v1::{GenerateRequest, GenerateResponse, Image, TokenGrid, generate_response};
use tonic::Streaming;

use crate::{Client, ClientError};

/// One event of a generation.
#[derive(Debug, Clone)]
pub enum GenerateEvent {
    /// First: the request was admitted.
    Admitted(Admitted),
    /// A step of a sample finished. Some may be missing: a slow reader gets the latest only.
    Progress(Progress),
    /// A sample is complete.
    Sample(Sample),
    /// Last: the stream is complete.
    Summary(Summary),
}

/// The request was admitted.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Resolved name of the model, with its version.
    pub model: String,
    /// The seed in use; the same seed gives the same tokens.
    pub seed: u64,
    /// Requests ahead of this one.
    pub queue_position: u32,
    /// Words of the impression that the model was not trained on.
    pub unsupported_terms: Vec<String>,
}

/// A step of a sample finished.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Which sample, from 0.
    pub sample_index: u32,
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub step_count: u32,
    /// The whole grid after this step.
    pub grid: TokenGrid,
    /// A preview, if asked for.
    pub preview: Option<Image>,
    /// Confidence in [0, 1] of each position, if asked for.
    pub confidence: Vec<f32>,
}

/// A sample is complete.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Which sample, from 0.
    pub sample_index: u32,
    /// The final grid.
    pub grid: TokenGrid,
    /// The picture, encoded as asked.
    pub image: Image,
}

/// The stream is complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Time waiting for a slot.
    pub queue_duration: Duration,
    /// Time in transformer steps.
    pub step_duration: Duration,
    /// Time in the decoder.
    pub decode_duration: Duration,
    /// Previews dropped because this client read too slowly.
    pub dropped_preview_count: u32,
}

/// A generation that was admitted. Dropping it cancels it: the server stops at the next step.
#[derive(Debug)]
pub struct Generation {
    client: Client,
    stream: Streaming<GenerateResponse>,
    complete: bool,
}

impl Client {
    /// Generates pictures from an impression. Returns once the request is admitted.
    ///
    /// # Errors
    /// The server's refusal, or that it cannot be reached.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, ClientError> {
        let response = self.raygen.clone().generate(request).await.map_err(|status| self.error(&status))?;
        Ok(Generation { client: self.clone(), stream: response.into_inner(), complete: false })
    }
}

impl Generation {
    /// The next event; `None` after the summary.
    ///
    /// # Errors
    /// What failed on the way; [`ClientError::Incomplete`] if the stream ends before its summary.
    pub async fn next(&mut self) -> Result<Option<GenerateEvent>, ClientError> {
        if self.complete {
            return Ok(None);
        }
        let message = self.stream.message().await.map_err(|status| self.client.error(&status))?;
        let message = message.ok_or(ClientError::Incomplete("the generation ended without a summary"))?;
        let event = typed(message)?;
        self.complete = matches!(event, GenerateEvent::Summary(_));
        Ok(Some(event))
    }
}

fn typed(message: GenerateResponse) -> Result<GenerateEvent, ClientError> {
    let sample_index = message.sample_index;
    let event = message.event.ok_or(ClientError::Incomplete("a generation event is empty"))?;
    Ok(match event {
        generate_response::Event::Admitted(admitted) => GenerateEvent::Admitted(Admitted {
            model: admitted.model,
            seed: admitted.seed,
            queue_position: admitted.queue_position,
            unsupported_terms: admitted.unsupported_terms,
        }),
        generate_response::Event::Progress(progress) => GenerateEvent::Progress(Progress {
            sample_index,
            step: progress.step,
            step_count: progress.step_count,
            grid: progress.grid.ok_or(ClientError::Incomplete("a step came without its grid"))?,
            preview: progress.preview,
            confidence: progress.confidence,
        }),
        generate_response::Event::Sample(sample) => GenerateEvent::Sample(Sample {
            sample_index,
            grid: sample.grid.ok_or(ClientError::Incomplete("a sample came without its grid"))?,
            image: sample.image.ok_or(ClientError::Incomplete("a sample came without its picture"))?,
        }),
        generate_response::Event::Summary(summary) => GenerateEvent::Summary(Summary {
            queue_duration: duration(summary.queue_duration),
            step_duration: duration(summary.step_duration),
            decode_duration: duration(summary.decode_duration),
            dropped_preview_count: summary.dropped_preview_count,
        }),
    })
}

fn duration(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|duration| Duration::try_from(duration).ok()).unwrap_or_default()
}
