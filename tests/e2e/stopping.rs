//! SIGTERM: work in flight is finished, new work is refused, the exit code is 0.

use std::time::{Duration, Instant};

use raygen_e2e::{Refused, Server, TestResult, impression};
use raygen_proto::v1::{GenerateRequest, SamplingParams, generate_response::Event};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

#[tokio::test]
async fn an_idle_server_ends_at_once_with_0_even_while_a_health_watch_is_open() -> TestResult {
    let mut server = Server::start(["--device", "cpu"])?;
    let wire = server.wire().await?;
    let mut health = HealthClient::new(wire.channel);
    let mut watch = health.watch(HealthCheckRequest::default()).await?.into_inner();
    assert!(watch.message().await?.is_some());
    server.terminate()?;
    let asked = Instant::now();
    let status = server.wait()?;
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "it took {:?}", asked.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_generation_in_flight_is_finished_while_new_work_is_refused_and_then_the_server_ends() -> TestResult {
    let mut server = Server::start(["--device", "cpu"])?;
    let wire = server.wire().await?;
    // Long enough for a second request to come while it runs.
    let sampling = SamplingParams { step_count: Some(96), ..SamplingParams::default() };
    let request = GenerateRequest { sampling: Some(sampling), ..impression("Pulmonary edema.") };
    let mut stream = wire.raygen.clone().generate(request).await?.into_inner();
    loop {
        let message = stream.message().await?.ok_or("it ended before its first step")?;
        if matches!(message.event, Some(Event::Progress(_))) {
            break;
        }
    }

    server.terminate()?;
    let mut health = HealthClient::new(wire.channel.clone());
    while health.check(HealthCheckRequest::default()).await?.into_inner().status() != ServingStatus::NotServing {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outcome = wire.generate(impression("Pneumonia.")).await;
    let refused = outcome.err().map(|status| Refused::from(&status)).ok_or("new work was taken")?;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "SHUTTING_DOWN"), "{refused:?}");

    let (mut sample, mut summary) = (false, false);
    while let Some(message) = stream.message().await? {
        sample |= matches!(message.event, Some(Event::Sample(_)));
        summary |= matches!(message.event, Some(Event::Summary(_)));
    }
    assert!(sample && summary, "sample {sample}, summary {summary}");
    assert_eq!(server.wait()?.code(), Some(0));
    assert!(server.wire().await.is_err(), "something still listens");
    Ok(())
}
