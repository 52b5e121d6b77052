//! gRPC in, gRPC out: everything that knows tonic. The engine behind it does not.

mod call;
mod canvas;
mod deadline;
mod decode;
mod encode;
mod errors;
mod generate;
mod models;
mod picture;
mod reply;
mod score;
mod trace;
mod validate;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use raygen_model::image::DecodeLimits;
use raygen_proto::v1;
use tokio::sync::Semaphore;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

pub use call::{Call, Calls};
pub use deadline::{Deadline, DeadlineLayer};
pub use errors::{ApiError, Reason, Violation};
pub use trace::TraceLayer;

use crate::engine::Engine;
use crate::repository::Repository;

/// A stream of messages to a client.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What every handler works with.
#[derive(Debug, Clone)]
pub struct Api {
    pub(crate) engine: Engine,
    pub(crate) repository: Arc<Repository>,
    pub(crate) calls: Calls,
    pub(crate) limits: DecodeLimits,
    /// How long a reader may take nothing before its request is cancelled.
    pub(crate) reader_timeout: Duration,
    /// Clients' pictures that are read at once: each may need hundreds of megabytes while it is.
    pictures: Arc<Semaphore>,
}

/// Clients' pictures read at once.
const PICTURES_AT_ONCE: usize = 2;
/// See [`Api::with_reader_timeout`].
const READER_TIMEOUT: Duration = Duration::from_secs(60);

// === impl Api ===

impl Api {
    /// The service over an engine and its models.
    pub fn new(engine: Engine, repository: Arc<Repository>, limits: DecodeLimits) -> Self {
        Self {
            engine,
            repository,
            calls: Calls::default(),
            limits,
            reader_timeout: READER_TIMEOUT,
            pictures: Arc::new(Semaphore::new(PICTURES_AT_ONCE)),
        }
    }

    /// The same, but a client may take nothing for `timeout` before its request is cancelled; otherwise a minute.
    #[must_use]
    pub fn with_reader_timeout(mut self, timeout: Duration) -> Self {
        self.reader_timeout = timeout;
        self
    }

    /// Checks a request off the runtime's threads; where it holds pictures, not beside more than one other.
    pub(crate) async fn checking<T: Send + 'static>(
        &self,
        holds_picture: bool,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = if holds_picture {
            let permit = Arc::clone(&self.pictures).acquire_owned().await;
            Some(permit.map_err(|_| ApiError::Internal("pictures are read no more".to_owned()))?)
        } else {
            None
        };
        blocking(move || {
            // Held until the work is done, even if its caller leaves meanwhile.
            let _permit = permit;
            work()
        })
        .await
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Calls under way and ended.
    pub fn calls(&self) -> &Calls {
        &self.calls
    }
}

/// Does CPU-bound work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(ApiError::Internal("a piece of work panicked; this is a bug of the server".to_owned())))
}

/// Ends a call that is answered at once.
fn answer<T>(mut call: Call, outcome: Result<T, ApiError>) -> Result<T, Status> {
    let outcome = outcome.map_err(Status::from);
    call.end(outcome.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok));
    outcome
}

#[tonic::async_trait]
impl v1::ray_gen_service_server::RayGenService for Api {
    type GenerateStream = Messages<v1::GenerateResponse>;
    type EncodeStream = Messages<v1::EncodeResponse>;
    type ScoreStream = Messages<v1::ScoreResponse>;

    async fn generate(&self, request: Request<v1::GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        generate::serve(self.clone(), request).await
    }

    async fn encode(&self, request: Request<v1::EncodeRequest>) -> Result<Response<Self::EncodeStream>, Status> {
        encode::serve(self.clone(), request).await
    }

    async fn decode(&self, request: Request<v1::DecodeRequest>) -> Result<Response<v1::DecodeResponse>, Status> {
        let call = self.calls.begin("Decode").of(&request);
        answer(call, decode::serve(self, request).await).map(Response::new)
    }

    async fn score(
        &self,
        request: Request<Streaming<v1::ScoreRequest>>,
    ) -> Result<Response<Self::ScoreStream>, Status> {
        score::serve(self.clone(), request).await
    }
}

#[tonic::async_trait]
impl v1::model_service_server::ModelService for Api {
    async fn list_models(
        &self,
        request: Request<v1::ListModelsRequest>,
    ) -> Result<Response<v1::ListModelsResponse>, Status> {
        let call = self.calls.begin("ListModels").of(&request);
        answer(call, models::list(&self.repository, request.get_ref())).map(Response::new)
    }

    async fn get_model(&self, request: Request<v1::GetModelRequest>) -> Result<Response<v1::GetModelResponse>, Status> {
        let call = self.calls.begin("GetModel").of(&request);
        answer(call, models::get(&self.repository, request.get_ref())).map(Response::new)
    }

    async fn load_model(
        &self,
        request: Request<v1::LoadModelRequest>,
    ) -> Result<Response<v1::LoadModelResponse>, Status> {
        let call = self.calls.begin("LoadModel").of(&request);
        answer(call, Err(models::not_while_running("Loading"))).map(Response::new)
    }

    async fn unload_model(
        &self,
        request: Request<v1::UnloadModelRequest>,
    ) -> Result<Response<v1::UnloadModelResponse>, Status> {
        let call = self.calls.begin("UnloadModel").of(&request);
        answer(call, Err(models::not_while_running("Unloading"))).map(Response::new)
    }
}
