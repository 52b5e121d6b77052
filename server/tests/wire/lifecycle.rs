//! Health, reflection, gRPC-web, and the two ways a server ends.

use std::time::Duration;

use raygen_server::engine::EngineSettings;
use raygen_server::engine::fake::{LOST, PANIC};
use raygen_server::serve::ServeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::common::{Served, collect, raw_request, refusal, request};

async fn health(server: &Served, service: &str) -> i32 {
    let mut client = HealthClient::new(server.channel().await);
    let request = HealthCheckRequest { service: service.to_owned() };
    client.check(request).await.expect("checked").into_inner().status
}

#[tokio::test]
async fn health_is_told_for_the_server_and_for_each_service() {
    let server = Served::start().await;
    for service in ["", "raygen.v1.RayGenService", "raygen.v1.ModelService"] {
        assert_eq!(health(&server, service).await, i32::from(ServingStatus::Serving), "{service}");
    }
}

#[tokio::test]
async fn a_server_told_to_stop_refuses_new_work_and_finishes_what_runs() {
    let mut server = Served::start().await;
    server.controls.slow(Duration::from_millis(500));
    let mut client = server.client().await;
    let running = client.generate(request("edema")).await.expect("admitted").into_inner();
    server.stop.take().expect("running").send(()).expect("told");
    tokio::time::sleep(Duration::from_millis(100)).await;

    assert_eq!(health(&server, "").await, i32::from(ServingStatus::NotServing));
    let status = client.generate(request("edema")).await.expect_err("refused");
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    let outcome = collect(running).await;
    assert!(outcome.error.is_none());
    assert_eq!(outcome.samples().len(), 1);
    tokio::time::timeout(Duration::from_secs(10), server.ended).await.expect("in time").expect("joined").expect("well");
}

#[tokio::test]
async fn a_result_on_its_way_to_a_slow_reader_outlives_the_stop() {
    let mut server = Served::with(EngineSettings::default(), |info| info.image_size = 512).await;
    let mut client = server.narrow_client().await;
    let running = client.generate(raw_request(1)).await.expect("admitted").into_inner();
    // By now all is written; the picture is larger than what may be on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.stop.take().expect("running").send(()).expect("told");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let outcome = collect(running).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    assert_eq!(outcome.samples()[0].image.as_ref().expect("a picture").data.len(), 512 * 512);
    outcome.summary();
    tokio::time::timeout(Duration::from_secs(10), server.ended).await.expect("in time").expect("joined").expect("well");
}

#[tokio::test]
async fn a_lost_device_turns_health_and_ends_the_server_with_an_error() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(50));
    let mut client = server.client().await;
    let neighbour = client.generate(request("edema")).await.expect("admitted").into_inner();
    let losing = client.generate(request(LOST)).await.expect("admitted").into_inner();
    for outcome in [collect(neighbour).await, collect(losing).await] {
        let error = outcome.error.expect("told");
        assert_eq!((error.code(), refusal(&error).1.as_str()), (Code::Unavailable, "DEVICE_LOST"));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(health(&server, "").await, i32::from(ServingStatus::NotServing));
    let ended = tokio::time::timeout(Duration::from_secs(5), server.ended).await.expect("in time").expect("joined");
    assert!(matches!(ended, Err(ServeError::Engine(_))));
}

#[tokio::test]
async fn a_health_watch_does_not_hold_up_the_end() {
    let mut server = Served::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let _watch = client.watch(HealthCheckRequest { service: String::new() }).await.expect("watching");
    server.stop.take().expect("running").send(()).expect("told");
    tokio::time::timeout(Duration::from_secs(3), server.ended).await.expect("in time").expect("joined").expect("well");
}

#[tokio::test]
async fn a_panic_in_a_step_is_told_to_everyone_turns_health_and_ends_the_server_with_an_error() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(50));
    let mut client = server.client().await;
    let neighbour = client.generate(request("edema")).await.expect("admitted").into_inner();
    let panicking = client.generate(request(PANIC)).await.expect("admitted").into_inner();
    for outcome in [collect(neighbour).await, collect(panicking).await] {
        let error = outcome.error.expect("told");
        assert_eq!((error.code(), refusal(&error).1.as_str()), (Code::Unavailable, "DEVICE_LOST"));
        assert!(!error.message().contains("told to panic"), "{error:?}");
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(health(&server, "raygen.v1.RayGenService").await, i32::from(ServingStatus::NotServing));
    let ended = tokio::time::timeout(Duration::from_secs(5), server.ended).await.expect("in time").expect("joined");
    assert!(matches!(ended, Err(ServeError::Engine(_))));
}

#[tokio::test]
async fn browsers_may_call_and_read_the_status() {
    let server = Served::start().await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.expect("connected");
    // A gRPC-web request for a model that is not there: a frame of one message, `name` = "models/x".
    let message = b"\x0a\x08models/x";
    let mut body = vec![0, 0, 0, 0, message.len() as u8];
    body.extend_from_slice(message);
    let head = format!(
        "POST /raygen.v1.ModelService/GetModel HTTP/1.1\r\nhost: x\r\norigin: http://page\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.expect("sent");
    socket.write_all(&body).await.expect("sent");
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.expect("answered");
    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
    let exposed = answer.lines().find(|line| line.starts_with("access-control-expose-headers")).expect("exposed");
    for header in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(exposed.contains(header), "{exposed}");
    }
    assert!(answer.contains("grpc-status: 5") || answer.contains("grpc-status:5"), "{answer}");
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let server = Served::start().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.expect("answered").into_inner();
    let answer = answers.message().await.expect("one").expect("one");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else { panic!("a list") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in ["raygen.v1.RayGenService", "raygen.v1.ModelService", "grpc.health.v1.Health"] {
        assert!(names.contains(&service), "{names:?}");
    }
}

#[tokio::test]
async fn the_http_port_tells_life_readiness_and_counts() {
    let server = Served::start().await;
    let mut client = server.client().await;
    collect(client.generate(request("secret words")).await.expect("admitted").into_inner()).await;
    server.settled().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(raygen_server::http::serve(listener, server.api.clone()));
    let get = async |path: &str| {
        let mut socket = tokio::net::TcpStream::connect(address).await.expect("connected");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answered");
        answer
    };
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = get("/metrics").await;
    for line in [
        "raygen_slots_in_use 0",
        "raygen_requests_waiting 0",
        "raygen_pictures_total 1",
        "raygen_requests_total{method=\"Generate\",code=\"OK\"} 1",
        "raygen_request_duration_seconds_count{method=\"Generate\"} 1",
        "raygen_queue_duration_seconds_count 1",
        "raygen_step_duration_seconds_bucket{le=\"+Inf\"} 4",
        "raygen_step_batch_rows_bucket{le=\"1\"} 4",
        "raygen_queue_saturation_ratio 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
    }
    assert!(!metrics.contains("secret"));
    server.api.engine().close();
    assert!(get("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(get("/livez").await.starts_with("HTTP/1.1 200"));
}
