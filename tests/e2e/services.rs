//! What stands beside the calls: models, health, reflection, the ready line.

use raygen_e2e::{Refused, Server, TestResult};
use raygen_proto::v1::{GetModelRequest, model::State};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[tokio::test]
async fn the_model_describes_itself_by_each_of_its_names() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    assert_eq!(model.state(), State::Ready);
    assert!(model.image_size >= 128 && model.image_size % model.grid_width == 0, "{model:?}");
    assert_eq!(model.digest.len(), 64, "{}", model.digest);
    assert!(model.parameter_count > 0 && model.max_text_tokens > 0 && !model.licence.is_empty(), "{model:?}");
    assert!(
        model.supported_terms.iter().any(|term| term.eq_ignore_ascii_case("pneumonia")),
        "{:?}",
        model.supported_terms
    );
    assert!(model.default_sampling.is_some_and(|sampling| sampling.step_count.is_some_and(|steps| steps > 0)));

    let short = model.name.split("/versions/").next().unwrap_or_default().to_owned();
    for name in [model.name.clone(), short] {
        let found = wire.models.clone().get_model(GetModelRequest { name }).await?.into_inner().model;
        assert_eq!(found.as_ref(), Some(&model));
    }
    let missing = wire.models.clone().get_model(GetModelRequest { name: "models/nobody".to_owned() }).await;
    let refused = missing.err().map(|status| Refused::from(&status)).ok_or("found")?;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "MODEL_NOT_FOUND"));
    assert!(server.ready_line().contains(&model.name), "{}", server.ready_line());
    Ok(())
}

#[tokio::test]
async fn health_serves_for_the_server_and_each_of_its_services() -> TestResult {
    let server = Server::shared()?;
    let mut health = HealthClient::new(server.wire().await?.channel);
    for service in ["", "raygen.v1.RayGenService", "raygen.v1.ModelService"] {
        let status = health.check(HealthCheckRequest { service: service.to_owned() }).await?.into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(HealthCheckRequest { service: "raygen.v9.Nothing".to_owned() }).await;
    assert_eq!(unknown.err().map(|status| status.code()), Some(Code::NotFound));
    Ok(())
}

#[tokio::test]
async fn reflection_lists_the_services_and_gives_their_descriptors() -> TestResult {
    let server = Server::shared()?;
    let mut reflection = ServerReflectionClient::new(server.wire().await?.channel);
    let ask = |message| ServerReflectionRequest { host: String::new(), message_request: Some(message) };
    let questions = vec![
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("raygen.v1.RayGenService.Generate".to_owned())),
    ];
    let mut answers = reflection.server_reflection_info(tokio_stream::iter(questions)).await?.into_inner();
    let first = answers.next().await.ok_or("no answer")??.message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = first else { return Err("no list of services".into()) };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["raygen.v1.RayGenService", "raygen.v1.ModelService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let second = answers.next().await.ok_or("no answer")??.message_response;
    assert!(
        matches!(second, Some(MessageResponse::FileDescriptorResponse(files)) if !files.file_descriptor_proto.is_empty())
    );
    Ok(())
}
