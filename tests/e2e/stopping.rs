//! SIGTERM: work in flight is finished, new work is refused, the exit code is 0.

use std::time::{Duration, Instant};

use raygen_e2e::{Server, TestResult, impression};
use raygen_proto::v1::{GenerateRequest, SamplingParams, generate_response::Event};

#[tokio::test]
async fn an_idle_server_ends_at_once_with_0_even_while_a_health_watch_is_open() -> TestResult {
    let mut server = Server::start(["--device", "cpu"])?;
    let wire = server.wire().await?;
    let mut health = tonic_health::pb::health_client::HealthClient::new(wire.channel);
    let mut watch = health.watch(tonic_health::pb::HealthCheckRequest::default()).await?.into_inner();
    assert!(watch.message().await?.is_some());
    server.terminate()?;
    let asked = Instant::now();
    let status = server.wait()?;
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_generation_in_flight_is_finished_before_the_server_ends() -> TestResult {
    let mut server = Server::start(["--device", "cpu"])?;
    let wire = server.wire().await?;
    let sampling = SamplingParams { step_count: Some(40), ..SamplingParams::default() };
    let request = GenerateRequest { sampling: Some(sampling), ..impression("Pulmonary edema.") };
    let mut stream = wire.raygen.clone().generate(request).await?.into_inner();
    let mut told = false;
    let (mut sample, mut summary) = (false, false);
    while let Some(message) = stream.message().await? {
        match message.event {
            Some(Event::Progress(_)) if !told => {
                told = true;
                server.terminate()?;
            }
            Some(Event::Sample(_)) => sample = true,
            Some(Event::Summary(_)) => summary = true,
            _ => {}
        }
    }
    assert!(told && sample && summary, "told {told}, sample {sample}, summary {summary}");
    assert_eq!(server.wait()?.code(), Some(0));
    Ok(())
}
