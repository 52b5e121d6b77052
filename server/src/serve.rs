//! The gRPC server around the API: layers, health, reflection, and the end: a drain with a bound.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::header::HeaderName;
use raygen_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use raygen_proto::v1::model_service_server::ModelServiceServer;
use raygen_proto::v1::ray_gen_service_server::RayGenServiceServer;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

use crate::api::{Api, DeadlineLayer, TraceLayer};
use crate::dashboard::DashboardLayer;
use crate::engine::EngineState;
use crate::kserve::KServe;
use crate::security::{GuardLayer, Reread, Security, keep_reading};
use crate::transport::{ActiveLayer, PortLimits, ReceivingLayer, incoming};

/// Services that have a health of their own; "" is the server as a whole.
const SERVICES: [&str; 3] = ["", "raygen.v1.RayGenService", "raygen.v1.ModelService"];
/// What a browser may read of a response.
const EXPOSED: [&str; 4] = ["grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-retry-pushback-ms"];
/// How long connections may take to close once their calls have ended: a health watch never ends by itself.
const CLOSING: Duration = Duration::from_millis(500);
/// How long a server whose engine is gone stays up to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Largest request of the KServe protocol: it holds text and numbers, no picture, and a stream has several in memory.
const LARGEST_INFERENCE: usize = 1 << 20;
/// Dead connections are noticed after about a minute.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(40), Duration::from_secs(20));

/// Limits of the transport, and who may use it.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Largest request message, in bytes.
    pub max_message_bytes: usize,
    /// How long work in flight may go on once the server was told to stop.
    pub drain_timeout: Duration,
    /// Certificates and keys.
    pub security: Security,
    /// Limits of the port.
    pub port: PortLimits,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_message_bytes: 36 << 20,
            drain_timeout: Duration::from_secs(30),
            security: Security::default(),
            port: PortLimits::default(),
        }
    }
}

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport's.
    #[error("the gRPC server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection service cannot be built.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The engine is gone.
    #[error("the engine has stopped: {0}")]
    Engine(String),
    /// The server's task is gone.
    #[error("the server's task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Serves until `stop`, then drains: health says NOT_SERVING and new work is refused at once, work in flight goes on.
///
/// # Errors
/// The server ended for another reason.
pub async fn serve(
    listener: TcpListener,
    api: Api,
    options: ServeOptions,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::Serving).await;

    let rpc = RayGenServiceServer::new(api.clone())
        .max_decoding_message_size(options.max_message_bytes)
        .accept_compressed(CompressionEncoding::Gzip);
    let models = ModelServiceServer::new(api.clone()).max_decoding_message_size(options.max_message_bytes);
    let kserve = GrpcInferenceServiceServer::new(KServe::new(api.clone()))
        .max_decoding_message_size(options.max_message_bytes.min(LARGEST_INFERENCE));
    let (quit, quitting) = oneshot::channel::<()>();
    let router = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_max_header_list_size(options.port.max_header_bytes)
        .max_concurrent_streams(options.port.max_streams)
        .layer(ActiveLayer)
        .layer(DashboardLayer::new(api.clone()))
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .layer(TraceLayer)
        .layer(GuardLayer::new(options.security.keys.clone(), api.calls().clone()))
        .layer(ReceivingLayer::new(options.max_message_bytes, &options.port))
        .layer(DeadlineLayer)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(rpc)
        .add_service(models)
        .add_service(kserve);
    let incoming = incoming(listener, options.security.tls.clone(), options.port);
    let _rereading = AbortOnDrop(tokio::spawn(reread(&options.security)));
    let mut serving = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
        // A sender that is gone means the same as its message.
        let _ = quitting.await;
    }));

    let mut engine = api.engine.state();
    let failure = tokio::select! {
        ended = &mut serving => return Ok(ended??),
        () = stop => None,
        failed = engine.wait_for(|state| *state != EngineState::Running) => match failed.as_deref() {
            Ok(EngineState::Failed(why)) => Some(why.clone()),
            _ => Some("its thread ended".to_owned()),
        },
    };
    api.engine.close();
    set_health(&health, ServingStatus::NotServing).await;
    match &failure {
        None => drain(&api, options.drain_timeout).await,
        Some(_) => sleep(LAST_WORDS).await,
    }
    let _ = quit.send(());
    if timeout(CLOSING, &mut serving).await.is_err() {
        serving.abort();
    }
    failure.map_or(Ok(()), |why| Err(ServeError::Engine(why)))
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads certificates and keys again while the server runs.
fn reread(security: &Security) -> impl Future<Output = ()> + Send + use<> {
    let mut sources: Vec<Arc<dyn Reread>> = Vec::new();
    if let Some(tls) = &security.tls {
        sources.push(Arc::clone(tls) as _);
    }
    if let Some(keys) = &security.keys {
        sources.push(Arc::clone(keys) as _);
    }
    keep_reading(sources, security.reread)
}

async fn drain(api: &Api, limit: Duration) {
    let running = api.calls().running();
    if running > 0 {
        tracing::info!(calls = running, limit_seconds = limit.as_secs(), "waiting for calls under way");
    }
    if timeout(limit, api.calls().all_ended()).await.is_err() {
        tracing::warn!(calls = api.calls().running(), "the drain timeout has passed; calls under way are cut");
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(raygen_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Browsers of any origin may call: there are no cookies, and the address is loopback unless told otherwise.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_headers(AllowHeaders::any())
        .allow_methods([Method::POST, Method::GET, Method::OPTIONS])
        .max_age(Duration::from_secs(3600))
        .expose_headers(ExposeHeaders::list(EXPOSED.map(HeaderName::from_static)))
        .vary([HeaderName::from_static("origin")])
}
