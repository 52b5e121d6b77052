//! The wire as a client in any language sees it: generated messages, statuses with google.rpc details.

use std::collections::BTreeMap;

use raygen_proto::v1::{
    DecodeRequest, EncodeRequest, GenerateRequest, Image, Model, ScoreRequest, TokenGrid, encode_response,
    generate_response::{Admitted, Event, Progress, Sample, Summary},
    model_service_client::ModelServiceClient,
    ray_gen_service_client::RayGenServiceClient,
    score_response,
};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::TestResult;

/// Clients of one connection.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The connection.
    pub channel: Channel,
    /// Generate, Encode, Decode, Score.
    pub raygen: RayGenServiceClient<Channel>,
    /// ListModels, GetModel.
    pub models: ModelServiceClient<Channel>,
}

/// All events of a generation.
#[derive(Debug, Default)]
pub struct Generated {
    /// The first event.
    pub admitted: Admitted,
    /// Steps with the sample's index, in the order they came.
    pub progress: Vec<(u32, Progress)>,
    /// Samples by their index.
    pub samples: Vec<Sample>,
    /// The last event.
    pub summary: Summary,
    /// The sequence numbers.
    pub sequences: Vec<u64>,
}

/// What a status says, as scripts read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The code.
    pub code: Code,
    /// ErrorInfo's reason, with its domain in front where that is not `raygen`.
    pub reason: String,
    /// BadRequest's field paths.
    pub fields: Vec<String>,
    /// The message.
    pub message: String,
}

/// A request for one picture, with the model's defaults.
pub fn impression(text: &str) -> GenerateRequest {
    GenerateRequest { impression: text.to_owned(), ..GenerateRequest::default() }
}

impl Wire {
    pub(crate) async fn connect(endpoint: String) -> TestResult<Self> {
        let channel = Channel::from_shared(endpoint)?.connect().await?;
        let raygen = RayGenServiceClient::new(channel.clone());
        Ok(Self { raygen, models: ModelServiceClient::new(channel.clone()), channel })
    }

    /// The server's only model.
    ///
    /// # Errors
    /// There is none, or several.
    pub async fn model(&self) -> TestResult<Model> {
        let mut models =
            self.models.clone().list_models(raygen_proto::v1::ListModelsRequest::default()).await?.into_inner().models;
        match (models.pop(), models.len()) {
            (Some(model), 0) => Ok(model),
            _ => Err("the server does not have exactly one model".into()),
        }
    }

    /// Generates, and collects every event; checks that the stream begins and ends as it must.
    ///
    /// # Errors
    /// The status of a refusal.
    ///
    /// # Panics
    /// The stream is out of order.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generated, Status> {
        let mut stream = self.raygen.clone().generate(request).await?.into_inner();
        let mut generated = Generated::default();
        let mut samples = BTreeMap::new();
        let mut ended = false;
        while let Some(message) = stream.message().await? {
            assert!(!ended, "an event came after the summary");
            let first = generated.sequences.is_empty();
            generated.sequences.push(message.sequence);
            match message.event {
                Some(Event::Admitted(admitted)) => {
                    assert!(first, "the admission was not the first event");
                    generated.admitted = admitted;
                }
                Some(Event::Progress(progress)) => generated.progress.push((message.sample_index, progress)),
                Some(Event::Sample(sample)) => {
                    samples.insert(message.sample_index, sample);
                }
                Some(Event::Summary(summary)) => {
                    generated.summary = summary;
                    ended = true;
                }
                None => panic!("an event is empty"),
            }
        }
        assert!(ended, "the stream ended without a summary");
        generated.samples = samples.into_values().collect();
        Ok(generated)
    }

    /// Encodes, and collects the grid and the reconstruction.
    ///
    /// # Errors
    /// The status of a refusal.
    pub async fn encode(&self, request: EncodeRequest) -> Result<(TokenGrid, Option<Image>), Status> {
        let mut stream = self.raygen.clone().encode(request).await?.into_inner();
        let (mut grid, mut reconstruction) = (None, None);
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(encode_response::Event::Grid(event)) => grid = Some(event),
                Some(encode_response::Event::Reconstruction(event)) => reconstruction = Some(event),
                _ => {}
            }
        }
        Ok((grid.unwrap_or_default(), reconstruction))
    }

    /// Decodes.
    ///
    /// # Errors
    /// The status of a refusal.
    pub async fn decode(&self, request: DecodeRequest) -> Result<Image, Status> {
        Ok(self.raygen.clone().decode(request).await?.into_inner().image.unwrap_or_default())
    }

    /// Sends all messages of a scoring, and collects what comes back.
    ///
    /// # Errors
    /// The status of a refusal, before or within the stream.
    pub async fn score(&self, messages: Vec<ScoreRequest>) -> Result<Vec<score_response::Event>, Status> {
        let mut stream = self.raygen.clone().score(tokio_stream::iter(messages)).await?.into_inner();
        let mut events = Vec::new();
        while let Some(message) = stream.message().await? {
            events.extend(message.event);
        }
        Ok(events)
    }
}

impl From<&Status> for Refused {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map_or_else(String::new, |info| match info.domain.as_str() {
            raygen_proto::ERROR_DOMAIN => info.reason.clone(),
            other => format!("{other}/{}", info.reason),
        });
        let fields = details.bad_request().map_or_else(Vec::new, |bad_request| {
            bad_request.field_violations.iter().map(|violation| violation.field.clone()).collect()
        });
        Self { code: status.code(), reason, fields, message: status.message().to_owned() }
    }
}
