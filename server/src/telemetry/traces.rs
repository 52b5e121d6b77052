//! Traces over OTLP: the caller's trace goes on through queue, steps and decoding. No span holds an impression.

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of all spans that are for traces: what a filter for logs says has no say in them.
pub const TARGET: &str = "raygen_trace";

/// How long a collector may take for a batch, and for the last one when the server ends.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The spans' way out.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// The headers of a request, as far as a trace needs them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Makes a span part of the caller's trace, where the headers name one; a `traceparent` that cannot be read is none.
pub fn follow(span: &Span, headers: &HeaderMap) {
    if headers.contains_key("traceparent") {
        // A span that is not traced has no parent to set.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(headers)));
    }
}

// === impl Traces ===

impl Traces {
    /// Sends to a collector's gRPC endpoint, such as `http://127.0.0.1:4317`. Needs a runtime. A caller that decided whether its
    /// trace is sampled is followed; of the others, `ratio` are.
    ///
    /// # Errors
    /// The endpoint is no address; the text says why.
    pub fn to(endpoint: &str, ratio: f64) -> Result<Self, String> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| format!("traces.endpoint: {endpoint:?}: {error}"))?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
            .with_resource(Resource::builder().with_service_name("raygen-server").build())
            .build();
        Ok(Self { provider })
    }

    /// What spans are made of.
    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("raygen-server")
    }

    /// Sends what has not been sent, and ends. Blocks for at most a few seconds.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
