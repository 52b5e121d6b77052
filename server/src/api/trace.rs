//! A span for each call, part of the caller's trace; what the call does in the engine hangs below it.

use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span, field};

use crate::methods;
use crate::telemetry::traces;

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
    if !methods::is_work(path) {
        // Health checks and reflection come often and say little.
        return Span::none();
    }
    let name = methods::find(path).map_or(methods::OTHER, |method| method.full_name);
    tracing::info_span!(
        target: traces::TARGET,
        "call",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = field::Empty,
        rpc.system.name = "grpc",
        rpc.method = name,
        rpc.status_code = field::Empty,
        request_id = field::Empty,
    )
}
