//! The client library over TLS with a certificate and an API key of its own, against a server that demands both.

use std::error::Error;

use raygen_client::{Client, ClientError, ConnectOptions};
use raygen_proto::v1::{
    GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, LoadModelRequest, LoadModelResponse,
    Model, UnloadModelRequest, UnloadModelResponse,
    model_service_server::{ModelService, ModelServiceServer},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::{
    Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// Names the model after the caller's authorization.
struct Echo;

#[tonic::async_trait]
impl ModelService for Echo {
    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let name = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let name = name.unwrap_or_default().to_owned();
        let models = vec![Model { name, ..Model::default() }];
        Ok(Response::new(ListModelsResponse { models, next_page_token: String::new() }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn load_model(&self, _: Request<LoadModelRequest>) -> Result<Response<LoadModelResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn unload_model(&self, _: Request<UnloadModelRequest>) -> Result<Response<UnloadModelResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn certificates_and_the_key_reach_a_server_that_demands_them() -> Result<(), Box<dyn Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let sign = || -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec!["localhost".to_owned()])?;
        Ok((params.signed_by(&key, &authority)?.pem(), key.serialize_pem()))
    };
    let (cert, key) = sign()?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("https://localhost:{}", listener.local_addr()?.port());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = Server::builder().tls_config(tls)?.add_service(ModelServiceServer::new(Echo));
    tokio::spawn(server.serve_with_incoming(incoming));

    let (cert, key) = sign()?;
    let trusting = ConnectOptions { tls_ca: Some(authority.pem().into_bytes()), ..ConnectOptions::default() };
    let known = ConnectOptions {
        tls_identity: Some((cert.into_bytes(), key.into_bytes())),
        api_key: Some("a-key".to_owned()),
        ..trusting.clone()
    };
    let models = Client::connect_with(&endpoint, known.clone()).await?.models().await?;
    assert_eq!(models[0].name, "Bearer a-key");
    assert!(!format!("{known:?}").contains("a-key"));

    // Without a certificate the server hangs up, at once or at the first call.
    let nobody = match Client::connect_with(&endpoint, trusting).await {
        Ok(client) => client.models().await.err(),
        Err(error) => Some(error),
    };
    assert!(matches!(nobody, Some(ClientError::Unreachable { .. })), "{nobody:?}");
    let untrusted = Client::connect(&endpoint).await.err();
    assert!(matches!(untrusted, Some(ClientError::Unreachable { .. })), "{untrusted:?}");
    let plain = Client::connect_with(endpoint.replace("https", "http"), known).await.err();
    assert!(matches!(plain, Some(ClientError::BadEndpoint { .. })), "{plain:?}");
    Ok(())
}
