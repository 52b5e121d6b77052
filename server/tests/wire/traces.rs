//! Traces as a collector gets them, from the program itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use raygen_proto::v1::ray_gen_service_client::RayGenServiceClient;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::common::{collect, request};
use crate::process::{Running, tiny_bundle};

/// A collector that keeps all it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("kept").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        format!("http://{address}")
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock().expect("kept");
        let scopes = requests.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_through_queue_steps_and_decoding_and_holds_no_impression() {
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut server =
        Running::start_with(&tiny_bundle(directory.path()), &[("RAYGEN_TRACES__ENDPOINT", endpoint.as_str())]);
    let mut client = RayGenServiceClient::connect(server.url.clone()).await.expect("connected");
    let caller = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut traced = Request::new(request("effusion of Mrs Miller"));
    let header = format!("00-{}-{}-01", caller.0, caller.1);
    traced.metadata_mut().insert("traceparent", header.parse().expect("a header"));
    let outcome = collect(client.generate(traced).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    // A header that cannot be read begins a trace of its own, and harms nobody.
    let mut odd = Request::new(request("edema"));
    odd.metadata_mut().insert("traceparent", "00-zz-1".parse().expect("a header"));
    assert!(collect(client.generate(odd).await.expect("admitted").into_inner()).await.error.is_none());
    // The last spans are sent before the end.
    server.signal("-TERM");
    assert_eq!(server.ended_within(Duration::from_secs(10)), Some(0));

    let spans = collector.spans();
    let id = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let ours: Vec<&Span> = spans.iter().filter(|span| id(&span.trace_id) == caller.0).collect();
    let call = ours.iter().find(|span| span.name == "raygen.v1.RayGenService/Generate").expect("the call's span");
    assert_eq!(id(&call.parent_span_id), caller.1);
    let below: Vec<&&Span> = ours.iter().filter(|span| span.parent_span_id == call.span_id).collect();
    let names: BTreeSet<&str> = below.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["queue", "encode_text", "step", "decode"]));
    let step_count = outcome.events.iter().find_map(|event| match &event.event {
        Some(raygen_proto::v1::generate_response::Event::Progress(progress)) => Some(progress.step_count),
        _ => None,
    });
    let steps = below.iter().filter(|span| span.name == "step").count();
    assert_eq!(Some(steps), step_count.map(|count| count as usize), "one span a step");
    for span in &below {
        assert!(span.start_time_unix_nano >= call.start_time_unix_nano, "{}", span.name);
        assert!(span.end_time_unix_nano <= call.end_time_unix_nano, "{}", span.name);
    }
    let others = spans.iter().filter(|span| span.name.ends_with("/Generate") && id(&span.trace_id) != caller.0);
    assert_eq!(others.count(), 1);
    assert!(!format!("{spans:?}").to_lowercase().contains("miller"));
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_request_and_no_clean_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let nobody = [("RAYGEN_TRACES__ENDPOINT", "http://127.0.0.1:9")];
    let mut server = Running::start_with(&tiny_bundle(directory.path()), &nobody);
    let mut client = RayGenServiceClient::connect(server.url.clone()).await.expect("connected");
    assert!(collect(client.generate(request("edema")).await.expect("admitted").into_inner()).await.error.is_none());
    server.signal("-TERM");
    assert_eq!(server.ended_within(Duration::from_secs(15)), Some(0));
}
