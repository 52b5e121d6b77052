//! A span for each call, part of the caller's trace; what the call does in the engine hangs below it.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span, field};

use crate::telemetry::traces;

/// What a call of no service of ours is named, as OpenTelemetry has it: a path may be anything.
const OTHER: &str = "_OTHER";

/// Opens the span of a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct TraceLayer;

/// See [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct TraceService<S>(S);

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        TraceService(inner)
    }
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for TraceService<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let span = span_of(request.uri().path());
        traces::follow(&span, request.headers());
        let entered = span.clone();
        let _entered = entered.enter();
        self.0.call(request).instrument(span)
    }
}

fn span_of(path: &str) -> Span {
    let ours =
        |method: &&str| method.starts_with("raygen.v1.") || method.starts_with("inference.GRPCInferenceService/Model");
    match path.strip_prefix('/').filter(ours) {
        // Health checks and reflection come often and say little.
        None => Span::none(),
        Some(method) => tracing::info_span!(
            target: traces::TARGET,
            "call",
            otel.name = known(method),
            otel.kind = "server",
            otel.status_code = field::Empty,
            rpc.system.name = "grpc",
            rpc.method = known(method),
            rpc.status_code = field::Empty,
            request_id = field::Empty,
        ),
    }
}

/// The method as the proto has it.
fn known(method: &str) -> &'static str {
    const METHODS: [&str; 10] = [
        "raygen.v1.RayGenService/Generate",
        "raygen.v1.RayGenService/Encode",
        "raygen.v1.RayGenService/Decode",
        "raygen.v1.RayGenService/Score",
        "raygen.v1.ModelService/ListModels",
        "raygen.v1.ModelService/GetModel",
        "raygen.v1.ModelService/LoadModel",
        "raygen.v1.ModelService/UnloadModel",
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/ModelStreamInfer",
    ];
    METHODS.into_iter().find(|known| *known == method).unwrap_or(OTHER)
}
