//! The KServe V2 protocol beside ours: whoever talks to Triton points its client here. Everything goes through Generate.

mod describe;
mod statistics;
mod tensors;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use raygen_model::image::{DecodeLimits, ImageFormat, decode};
use raygen_proto::inference::grpc_inference_service_server::GrpcInferenceService;
use raygen_proto::inference::infer_parameter::ParameterChoice;
use raygen_proto::inference::repository_index_response::ModelIndex;
use raygen_proto::inference::{
    InferParameter, ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest,
    ModelStatisticsResponse, ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
    ServerReadyResponse,
};
use raygen_proto::v1;
use raygen_proto::v1::generate_response::{Event, Sample};
use raygen_proto::v1::ray_gen_service_server::RayGenService;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};
use tracing::Instrument;

use crate::api::Api;
use crate::engine::{EngineState, LoadedModel};
use crate::repository::Standing;
use crate::security::{Caller, KeyAccount};
use statistics::Statistics;
use tensors::Outputs;

/// Requests of one stream that are under way at once.
const AT_ONCE: usize = 16;

/// The service.
#[derive(Debug, Clone)]
pub struct KServe {
    api: Api,
    statistics: Arc<Statistics>,
}

/// Where the responses of a stream go.
type Answers = mpsc::Sender<Result<ModelStreamInferResponse, Status>>;

/// What goes with every message of a call: the key, the deadline.
#[derive(Clone)]
struct Around {
    metadata: MetadataMap,
    extensions: Extensions,
}

/// Which outputs a request wants; all, where it names none.
struct Wanted(Vec<String>);

// === impl Wanted ===

impl Wanted {
    fn of(infer: &ModelInferRequest) -> Result<Self, Status> {
        let names: Vec<String> = infer.outputs.iter().map(|output| output.name.clone()).collect();
        match names.iter().find(|name| !["image", "png", "token_ids"].contains(&name.as_str())) {
            None => Ok(Self(names)),
            Some(_) => Err(Status::invalid_argument("outputs: there are image, png and token_ids")),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == name)
    }
}

// === impl KServe ===

impl KServe {
    /// The protocol in front of the same engine and models.
    pub fn new(api: Api) -> Self {
        Self { api, statistics: Arc::default() }
    }

    fn model(&self, name: &str, version: &str) -> Result<Arc<LoadedModel>, Status> {
        Ok(self.api.repository.resolve(&resource(name, version))?)
    }

    /// Generates; each step goes to `steps`, where there is somebody to take them.
    async fn generate(
        &self,
        infer: ModelInferRequest,
        around: Around,
        steps: Option<&Answers>,
    ) -> Result<ModelInferResponse, Status> {
        let began = std::time::Instant::now();
        let name = resource(&infer.model_name, &infer.model_version);
        let outcome = self.follow(&infer, around, steps).await;
        // Counted under the version that ran; what named no model of ours is nobody's.
        if let Ok(model) = self.api.repository.resolve(&name) {
            let times = outcome.as_ref().ok().map(|(_, summary)| summary);
            self.statistics.ended(&model.name, began.elapsed(), times);
        }
        outcome.map(|(response, _)| response)
    }

    async fn follow(
        &self,
        infer: &ModelInferRequest,
        around: Around,
        steps: Option<&Answers>,
    ) -> Result<(ModelInferResponse, v1::generate_response::Summary), Status> {
        let wanted = Wanted::of(infer)?;
        let mut message = tensors::request(infer)?;
        message.model = resource(&infer.model_name, &infer.model_version);
        let request = Request::from_parts(around.metadata, around.extensions, message);
        let mut events = RayGenService::generate(&self.api, request).await?.into_inner();
        let (mut model, mut seed) = (String::new(), 0);
        let mut samples: Vec<Sample> = Vec::new();
        while let Some(event) = events.next().await {
            match event?.event {
                Some(Event::Admitted(admitted)) => (model, seed) = (admitted.model, admitted.seed),
                Some(Event::Progress(progress)) => {
                    let Some(steps) = steps else { continue };
                    let mut outputs = Outputs::default();
                    if let Some(grid) = progress.grid.filter(|_| wanted.has("token_ids")) {
                        outputs.grids(&[grid]);
                    }
                    let step = [("step", whole(progress.step)), ("step_count", whole(progress.step_count))];
                    let sent = steps.send(went_well(response(infer, &model, seed, outputs, step))).await;
                    sent.map_err(|_| Status::cancelled("the client is gone"))?;
                }
                Some(Event::Sample(sample)) => samples.push(sample),
                Some(Event::Summary(summary)) => {
                    let outputs = outputs(samples, &wanted).await?;
                    let last = [("triton_final_response", ParameterChoice::BoolParam(true))];
                    return Ok((response(infer, &model, seed, outputs, last), summary));
                }
                None => {}
            }
        }
        Err(Status::internal("the generation ended without a summary"))
    }
}

/// `models/{name}` or `models/{name}/versions/{version}`; "" is the default.
fn resource(name: &str, version: &str) -> String {
    match (name, version) {
        ("", _) => String::new(),
        (name, "") => format!("models/{name}"),
        (name, version) => format!("models/{name}/versions/{version}"),
    }
}

/// The pictures as tensors. Reading them back is CPU-bound.
async fn outputs(samples: Vec<Sample>, wanted: &Wanted) -> Result<Outputs, Status> {
    let (image, png, ids) = (wanted.has("image"), wanted.has("png"), wanted.has("token_ids"));
    let work = move || {
        let mut outputs = Outputs::default();
        let files: Vec<&v1::Image> = samples.iter().filter_map(|sample| sample.image.as_ref()).collect();
        if image {
            let pixels = files.iter().map(|file| {
                let picture = decode(&file.data, Some(ImageFormat::Png), None, &DecodeLimits::default());
                picture.map(|picture| (picture.width, picture.height, picture.to_u8()))
            });
            let pixels: Vec<_> =
                pixels.collect::<Result<_, _>>().map_err(|error| Status::internal(error.to_string()))?;
            outputs.pixels(&pixels);
        }
        if png {
            outputs.files("png", files.iter().map(|file| file.data.as_slice()));
        }
        if ids {
            let grids: Vec<v1::TokenGrid> = samples.iter().filter_map(|sample| sample.grid.clone()).collect();
            outputs.grids(&grids);
        }
        Ok(outputs)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Status::internal("writing the outputs panicked")))
}

fn whole(number: u32) -> ParameterChoice {
    ParameterChoice::Int64Param(number.into())
}

fn response<const N: usize>(
    infer: &ModelInferRequest,
    model: &str,
    seed: u64,
    outputs: Outputs,
    more: [(&str, ParameterChoice); N],
) -> ModelInferResponse {
    let (name, version) = describe::parts(model);
    // Pixels carry no mark of their own: the answer does.
    let own = [("seed", ParameterChoice::Uint64Param(seed)), ("synthetic", ParameterChoice::BoolParam(true))];
    let parameters: HashMap<String, InferParameter> = own
        .into_iter()
        .chain(more)
        .map(|(name, value)| (name.to_owned(), InferParameter { parameter_choice: Some(value) }))
        .collect();
    ModelInferResponse {
        model_name: name.to_owned(),
        model_version: version.to_owned(),
        id: infer.id.clone(),
        parameters,
        outputs: outputs.tensors,
        raw_output_contents: outputs.raw,
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for KServe {
    type ModelStreamInferStream = Pin<Box<dyn Stream<Item = Result<ModelStreamInferResponse, Status>> + Send>>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        let live = matches!(&*self.api.engine.state().borrow(), EngineState::Running);
        Ok(Response::new(ServerLiveResponse { live }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: !self.api.engine.admission().is_closed() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let ready = self.model(&request.name, &request.version).is_ok() && !self.api.engine.admission().is_closed();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(ServerMetadataResponse {
            name: "raygen-server".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: ["model_repository", "model_configuration", "statistics"].map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let model = self.model(&request.name, &request.version)?;
        Ok(Response::new(describe::metadata(&model.name, model.info())))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let request = request.into_inner();
        let model = self.model(&request.name, &request.version)?;
        Ok(Response::new(ModelConfigResponse { config: Some(describe::config(&model.name, model.info())) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let request = request.into_inner();
        let names = match request.name.as_str() {
            "" => self.api.repository.ready().map(|model| model.name.clone()).collect(),
            name => vec![self.model(name, &request.version)?.name.clone()],
        };
        let model_stats = names.iter().map(|name| self.statistics.of(name)).collect();
        Ok(Response::new(ModelStatisticsResponse { model_stats }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let only_ready = request.into_inner().ready;
        let index = self.api.repository.listings().filter_map(|listing| {
            let (name, version) = describe::parts(&listing.name);
            let (state, reason) = match &listing.standing {
                Standing::Ready(_) => ("READY", ""),
                Standing::Failed(reason) => ("UNAVAILABLE", reason.as_str()),
            };
            (state == "READY" || !only_ready).then(|| ModelIndex {
                name: name.to_owned(),
                version: version.to_owned(),
                state: state.to_owned(),
                reason: reason.to_owned(),
            })
        });
        Ok(Response::new(RepositoryIndexResponse { models: index.collect() }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let mut call = self.api.calls.begin("ModelInfer");
        let (metadata, extensions, infer) = request.into_parts();
        let around = Around { metadata, extensions };
        let outcome = self.generate(infer, around, None).await;
        call.end(outcome.as_ref().map_or_else(Status::code, |_| Code::Ok));
        outcome.map(Response::new)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let (metadata, mut extensions, mut requests) = request.into_parts();
        // The share of the key's quota that opened the stream is the first generation's; each further one takes its own.
        let mut opening = extensions.remove::<Caller>();
        let account = opening.as_ref().map(Caller::account);
        let around = Around { metadata, extensions };
        let (sender, receiver) = mpsc::channel(1);
        let service = self.clone();
        let work = async move {
            let places = Arc::new(Semaphore::new(AT_ONCE));
            while let Some(infer) = requests.next().await {
                let Ok(infer) = infer else { return };
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let caller = match opening.take() {
                    Some(caller) => Ok(Some(caller)),
                    None => account.as_ref().map(KeyAccount::begin).transpose(),
                };
                let (service, mut around, sender) = (service.clone(), around.clone(), sender.clone());
                let one = async move {
                    let _place = place;
                    match caller {
                        Ok(caller) => {
                            if let Some(caller) = caller {
                                around.extensions.insert(caller);
                            }
                            service.answer_stream(infer, around, &sender).await;
                        }
                        // Whoever is gone needs no answer.
                        Err(error) => drop(sender.send(went_wrong(infer.id, &error.into())).await),
                    }
                };
                tokio::spawn(one.in_current_span());
            }
        };
        tokio::spawn(work.in_current_span());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

impl KServe {
    /// Sends all responses of one request of a stream. The protocol has errors inside the stream: others go on.
    async fn answer_stream(&self, infer: ModelInferRequest, around: Around, sender: &Answers) {
        let mut call = self.api.calls.begin("ModelStreamInfer");
        let id = infer.id.clone();
        let last = tokio::select! {
            biased;
            // Dropping the generation stops its work.
            () = sender.closed() => return,
            outcome = self.generate(infer, around, Some(sender)) => match outcome {
                Ok(response) => {
                    call.end(Code::Ok);
                    went_well(response)
                }
                Err(status) => {
                    call.end(status.code());
                    went_wrong(id, &status)
                }
            },
        };
        // Whoever is gone needs no answer.
        let _ = sender.send(last).await;
    }
}

fn went_wrong(id: String, status: &Status) -> Result<ModelStreamInferResponse, Status> {
    Ok(ModelStreamInferResponse {
        error_message: status.message().to_owned(),
        infer_response: Some(ModelInferResponse { id, ..ModelInferResponse::default() }),
    })
}

fn went_well(response: ModelInferResponse) -> Result<ModelStreamInferResponse, Status> {
    Ok(ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) })
}
