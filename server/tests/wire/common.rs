//! A server on a free port over the fake model, and what tests ask of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use raygen_model::image::DecodeLimits;
use raygen_proto::v1;
use raygen_proto::v1::generate_response::{Event, Sample, Summary};
use raygen_proto::v1::model_service_client::ModelServiceClient;
use raygen_proto::v1::ray_gen_service_client::RayGenServiceClient;
use raygen_server::api::Api;
use raygen_server::engine::fake::{Controls, FakeModel};
use raygen_server::engine::{Engine, EngineSettings, LoadedModel};
use raygen_server::repository::Repository;
use raygen_server::serve::{ServeError, ServeOptions, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

/// A server under test.
pub struct Served {
    pub address: SocketAddr,
    pub controls: Arc<Controls>,
    pub api: Api,
    pub stop: Option<oneshot::Sender<()>>,
    pub ended: JoinHandle<Result<(), ServeError>>,
}

/// The name of the fake model.
pub const FAKE: &str = "models/fake/versions/1";

impl Served {
    /// A server with room for plenty.
    pub async fn start() -> Self {
        Self::with(EngineSettings::default(), |_| {}).await
    }

    /// A server with these sizes, and a model with these facts.
    pub async fn with(settings: EngineSettings, facts: impl FnOnce(&mut raygen_server::engine::ModelInfo)) -> Self {
        Self::with_patience(settings, facts, Duration::from_secs(60)).await
    }

    /// The same, with this patience for readers that stall.
    pub async fn with_patience(
        settings: EngineSettings,
        facts: impl FnOnce(&mut raygen_server::engine::ModelInfo),
        patience: Duration,
    ) -> Self {
        let fake = FakeModel::new().with_info(facts);
        let controls = fake.controls();
        let repository = Repository::of([LoadedModel::new(FAKE, fake)])
            .with_failed("models/broken/versions/1", "transformer.safetensors has no tensor final_dense.weight");
        let engine = Engine::start(settings).expect("engine");
        let api = Api::new(engine, Arc::new(repository), DecodeLimits::default()).with_reader_timeout(patience);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let options = ServeOptions { drain_timeout: Duration::from_secs(5), ..ServeOptions::default() };
        let ended = tokio::spawn(serve(listener, api.clone(), options, async {
            let _ = stopped.await;
        }));
        Self { address, controls, api, stop: Some(stop), ended }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn channel(&self) -> Channel {
        Channel::from_shared(self.url()).expect("url").connect().await.expect("connected")
    }

    /// A client that takes a message of more than 64 KiB only as it reads it.
    pub async fn narrow_client(&self) -> RayGenServiceClient<Channel> {
        let endpoint = Channel::from_shared(self.url()).expect("url");
        let narrow = endpoint.initial_stream_window_size(65_535);
        RayGenServiceClient::new(narrow.connect().await.expect("connected"))
    }

    pub async fn client(&self) -> RayGenServiceClient<Channel> {
        RayGenServiceClient::new(self.channel().await)
    }

    pub async fn models(&self) -> ModelServiceClient<Channel> {
        ModelServiceClient::new(self.channel().await)
    }

    /// Waits until nothing runs: slots, queue and calls are back to zero.
    pub async fn settled(&self) {
        tokio::time::timeout(Duration::from_secs(10), async {
            self.api.calls().all_ended().await;
        })
        .await
        .expect("calls end");
    }
}

/// A request that is in order.
pub fn request(impression: &str) -> v1::GenerateRequest {
    v1::GenerateRequest {
        impression: impression.to_owned(),
        sampling: Some(v1::SamplingParams { seed: Some(7), ..v1::SamplingParams::default() }),
        ..v1::GenerateRequest::default()
    }
}

/// A request for uncompressed pictures, and no previews.
pub fn raw_request(samples: u32) -> v1::GenerateRequest {
    let output = v1::OutputOptions {
        preview_mode: v1::PreviewMode::None.into(),
        image_format: v1::ImageFormat::Raw.into(),
        ..v1::OutputOptions::default()
    };
    v1::GenerateRequest { output: Some(output), sample_count: samples, ..request("edema") }
}

/// What a generation came to.
pub struct Outcome {
    pub events: Vec<v1::GenerateResponse>,
    pub error: Option<Status>,
}

pub async fn collect(mut stream: Streaming<v1::GenerateResponse>) -> Outcome {
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(event)) => events.push(event),
            Ok(None) => return Outcome { events, error: None },
            Err(error) => return Outcome { events, error: Some(error) },
        }
    }
}

impl Outcome {
    pub fn samples(&self) -> Vec<&Sample> {
        self.events
            .iter()
            .filter_map(|event| match &event.event {
                Some(Event::Sample(sample)) => Some(sample),
                _ => None,
            })
            .collect()
    }

    pub fn summary(&self) -> &Summary {
        match self.events.last().and_then(|event| event.event.as_ref()) {
            Some(Event::Summary(summary)) => summary,
            other => panic!("the last event is {other:?}"),
        }
    }

    pub fn grids(&self) -> Vec<Vec<u32>> {
        self.samples().iter().map(|sample| sample.grid.as_ref().expect("a grid").token_ids.clone()).collect()
    }
}

/// Code, reason and first field of a refusal.
pub fn refusal(status: &Status) -> (Code, String, String) {
    let info = status.get_details_error_info();
    let (reason, domain) = info.map(|info| (info.reason, info.domain)).unwrap_or_default();
    assert!(domain == "raygen" || domain.is_empty(), "{domain}");
    let field = status
        .get_details_bad_request()
        .and_then(|request| request.field_violations.first().map(|violation| violation.field.clone()))
        .unwrap_or_default();
    (status.code(), reason, field)
}
