//! TLS, mutual TLS, API keys with scopes and quotas, and the limits of the port, with real certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use raygen_model::image::DecodeLimits;
use raygen_proto::v1;
use raygen_proto::v1::model_service_client::ModelServiceClient;
use raygen_proto::v1::ray_gen_service_client::RayGenServiceClient;
use raygen_server::api::Api;
use raygen_server::engine::fake::{Controls, FakeModel};
use raygen_server::engine::{Engine, EngineSettings, LoadedModel};
use raygen_server::repository::Repository;
use raygen_server::security::{Keys, Security, Tls, TlsFiles, hash_key};
use raygen_server::serve::{ServeOptions, serve};
use raygen_server::transport::PortLimits;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use crate::common::{FAKE, collect, refusal, request};

const REREAD: Duration = Duration::from_millis(50);

pub struct Port {
    address: std::net::SocketAddr,
    pub controls: Arc<Controls>,
    pub api: Api,
}

pub async fn port(security: Security, port: PortLimits) -> Port {
    let fake = FakeModel::new();
    let controls = fake.controls();
    let engine = Engine::start(EngineSettings::default()).expect("engine");
    let repository = Repository::of([LoadedModel::new(FAKE, fake)]);
    let api = Api::new(engine, Arc::new(repository), DecodeLimits::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let options = ServeOptions { security, port, ..ServeOptions::default() };
    tokio::spawn(serve(listener, api.clone(), options, std::future::pending()));
    Port { address, controls, api }
}

impl Port {
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("url").connect().await.expect("connected")
    }

    async fn generate(&self, metadata: &[(&'static str, &str)]) -> Result<(), Status> {
        let mut asked = Request::new(request("edema"));
        for (name, value) in metadata {
            asked.metadata_mut().append(*name, value.parse().expect("metadata"));
        }
        let stream = RayGenServiceClient::new(self.channel().await).generate(asked).await?.into_inner();
        collect(stream).await.error.map_or(Ok(()), Err)
    }
}

/// An authority and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for localhost.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }
}

fn write(directory: &Path, (cert, key): (&str, &str)) -> TlsFiles {
    let files = TlsFiles { cert: directory.join("cert.pem"), key: directory.join("key.pem"), client_ca: None };
    std::fs::write(&files.cert, cert).expect("written");
    std::fs::write(&files.key, key).expect("written");
    files
}

fn tls(files: TlsFiles) -> Security {
    Security { tls: Some(Arc::new(Tls::open(files).expect("certificates"))), reread: REREAD, ..Security::default() }
}

/// Sends a bare gRPC-web request for the list of models over TLS; the answer as text, or why there is none.
async fn over_tls(port: &Port, trusted: &str, identity: Option<(&str, &str)>) -> Result<String, std::io::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM"),
            )
            .expect("an identity"),
    };
    let name = ServerName::try_from("localhost").expect("a name");
    let socket = TcpStream::connect(port.address).await?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    stream
        .write_all(
            b"POST /raygen.v1.ModelService/ListModels HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
              content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0",
        )
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn served(answer: Result<String, std::io::Error>) -> bool {
    answer.is_ok_and(|answer| answer.contains(FAKE) && answer.contains("grpc-status:0"))
}

#[tokio::test]
async fn tls_serves_those_who_trust_it_and_plain_text_gets_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (cert, key) = authority.sign();
    let port = port(tls(write(directory.path(), (&cert, &key))), PortLimits::default()).await;
    assert!(served(over_tls(&port, &authority.pem(), None).await));
    assert!(over_tls(&port, &stranger.pem(), None).await.is_err());
    let mut socket = TcpStream::connect(port.address).await.expect("connected");
    socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // An alert, or a reset: no HTTP.
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert!(served(over_tls(&port, &authority.pem(), None).await), "and the server goes on");
}

#[tokio::test]
async fn mutual_tls_serves_only_certificates_of_the_authority() {
    let directory = tempfile::tempdir().expect("a directory");
    let (authority, clients, stranger) = (Authority::new(), Authority::new(), Authority::new());
    let (cert, key) = authority.sign();
    let ca = directory.path().join("clients.pem");
    std::fs::write(&ca, clients.pem()).expect("written");
    let files = TlsFiles { client_ca: Some(ca), ..write(directory.path(), (&cert, &key)) };
    let port = port(tls(files), PortLimits::default()).await;
    let (known, unknown) = (clients.sign(), stranger.sign());
    assert!(served(over_tls(&port, &authority.pem(), Some((&known.0, &known.1))).await));
    assert!(!served(over_tls(&port, &authority.pem(), Some((&unknown.0, &unknown.1))).await));
    assert!(!served(over_tls(&port, &authority.pem(), None).await));
}

#[tokio::test]
async fn a_new_certificate_is_in_force_without_a_restart_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (Authority::new(), Authority::new());
    let (old_pair, new_pair) = (old.sign(), new.sign());
    let port = port(tls(write(directory.path(), (&old_pair.0, &old_pair.1))), PortLimits::default()).await;
    assert!(served(over_tls(&port, &old.pem(), None).await));
    // A certificate without its key.
    write(directory.path(), (&new_pair.0, &old_pair.1));
    tokio::time::sleep(REREAD * 6).await;
    assert!(served(over_tls(&port, &old.pem(), None).await), "the old one stays");
    write(directory.path(), (&new_pair.0, &new_pair.1));
    for _ in 0..100 {
        if served(over_tls(&port, &new.pem(), None).await) {
            return;
        }
        tokio::time::sleep(REREAD).await;
    }
    panic!("the new certificate is not in force");
}

pub const ALL: &str = "all-scopes-0123456789abcdef0123456789";
const SCORER: &str = "scorer-0123456789abcdef0123456789abcdef";
pub const LIMITED: &str = "limited-0123456789abcdef0123456789abc";
const SLOW: &str = "slow-0123456789abcdef0123456789abcdefg";

fn entry(name: &str, key: &str, scopes: &str, limits: &str) -> String {
    let hash = hash_key(key).expect("hashed");
    format!("[[key]]\nname = \"{name}\"\n{hash}\nscopes = {scopes}\nlimits = {{ {limits} }}\n")
}

pub fn keyed(directory: &Path) -> (PathBuf, Security) {
    let path = directory.join("keys.toml");
    let text = entry("all", ALL, "[\"generate\", \"score\", \"admin\"]", "")
        + &entry("scorer", SCORER, "[\"score\"]", "")
        + &entry("limited", LIMITED, "[\"generate\"]", "in_flight = 1")
        + &entry("slow", SLOW, "[\"generate\"]", "requests_per_second = 0.01, burst = 2");
    std::fs::write(&path, text).expect("written");
    let keys = Some(Arc::new(Keys::open(&path).expect("keys")));
    (path, Security { keys, reread: REREAD, ..Security::default() })
}

#[tokio::test]
async fn a_call_needs_one_key_that_is_known_in_either_header() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = port(keyed(directory.path()).1, PortLimits::default()).await;
    let bearer = format!("Bearer {ALL}");
    for accepted in [("x-api-key", ALL), ("authorization", &bearer), ("authorization", &bearer.replacen('B', "b", 1))] {
        assert!(port.generate(&[accepted]).await.is_ok(), "{accepted:?}");
    }
    for refused in [
        &[][..],
        &[("x-api-key", "")],
        &[("x-api-key", &ALL[1..])],
        &[("authorization", ALL)],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic YTpi")],
        &[("x-api-key", ALL), ("x-api-key", ALL)],
        &[("authorization", &bearer), ("authorization", &bearer)],
        &[("x-api-key", ALL), ("authorization", &bearer)],
    ] {
        let status = port.generate(refused).await.expect_err("refused");
        assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
        assert!(!status.message().contains(&ALL[1..]), "{status:?}");
    }
    // Bytes that are no text are no key, either.
    let mut asked = Request::new(request("edema"));
    let opaque = MetadataValue::try_from(&b"Bearer \xff\xfe"[..]).expect("opaque");
    asked.metadata_mut().insert("authorization", opaque);
    let status = RayGenServiceClient::new(port.channel().await).generate(asked).await.expect_err("refused");
    assert_eq!(refusal(&status).1, "UNAUTHENTICATED");
    let health = HealthClient::new(port.channel().await).check(HealthCheckRequest::default()).await;
    assert!(health.is_ok(), "probes need no key");
    assert!(port.api.calls().ended()[&("Generate", "UNAUTHENTICATED")] >= 9);
}

#[tokio::test]
async fn a_scope_opens_its_own_methods_and_no_others() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = port(keyed(directory.path()).1, PortLimits::default()).await;
    let missing = (Code::PermissionDenied, "SCOPE_MISSING".to_owned(), String::new());
    let status = port.generate(&[("x-api-key", SCORER)]).await.expect_err("refused");
    assert_eq!(refusal(&status), missing);
    assert!(status.message().contains("generate"), "{status:?}");
    let with = |key: &'static str| {
        move |mut request: Request<()>| {
            request.metadata_mut().insert("x-api-key", MetadataValue::from_static(key));
            Ok(request)
        }
    };
    let mut scorer = ModelServiceClient::with_interceptor(port.channel().await, with(SCORER));
    assert!(scorer.list_models(v1::ListModelsRequest::default()).await.is_ok(), "any key may look");
    let status = scorer.load_model(v1::LoadModelRequest { name: FAKE.into() }).await.expect_err("refused");
    assert_eq!(refusal(&status), missing);
    let mut scoring = RayGenServiceClient::with_interceptor(port.channel().await, with(LIMITED));
    let status = scoring.score(tokio_stream::iter(Vec::new())).await.expect_err("refused");
    assert_eq!(refusal(&status), missing);
}

#[tokio::test]
async fn a_key_has_its_share_of_requests_in_flight_and_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let port = port(keyed(directory.path()).1, PortLimits::default()).await;
    port.controls.slow(Duration::from_millis(100));
    let mut asked = Request::new(request("edema"));
    asked.metadata_mut().insert("x-api-key", MetadataValue::from_static(LIMITED));
    let running = RayGenServiceClient::new(port.channel().await).generate(asked).await.expect("admitted").into_inner();
    let status = port.generate(&[("x-api-key", LIMITED)]).await.expect_err("one too many");
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(status.get_details_retry_info().is_some());
    assert!(port.generate(&[("x-api-key", ALL)]).await.is_ok(), "others are not affected");
    assert!(collect(running).await.error.is_none());
    port.api.calls().all_ended().await;
    assert!(port.generate(&[("x-api-key", LIMITED)]).await.is_ok(), "free again when the stream has ended");

    for _ in 0..2 {
        assert!(port.generate(&[("x-api-key", SLOW)]).await.is_ok());
    }
    let status = port.generate(&[("x-api-key", SLOW)]).await.expect_err("too often");
    assert_eq!(refusal(&status).1, "RATE_LIMITED");
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("a delay");
    assert!(delay > Duration::from_secs(60) && delay <= Duration::from_secs(100), "{delay:?}");
    assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test]
async fn keys_change_without_a_restart_and_a_bad_file_changes_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, security) = keyed(directory.path());
    let port = port(security, PortLimits::default()).await;
    std::fs::write(&path, "[[key]]\nname = ").expect("written");
    tokio::time::sleep(REREAD * 6).await;
    assert!(port.generate(&[("x-api-key", ALL)]).await.is_ok(), "the old keys stay");
    std::fs::write(&path, entry("only", SLOW, "[\"generate\"]", "")).expect("written");
    for _ in 0..100 {
        if port.generate(&[("x-api-key", ALL)]).await.is_err() {
            assert!(port.generate(&[("x-api-key", SLOW)]).await.is_ok());
            return;
        }
        tokio::time::sleep(REREAD).await;
    }
    panic!("a key that is gone still opens");
}

#[tokio::test]
async fn connections_are_bounded_and_idle_ones_are_closed() {
    let limits = PortLimits { max_connections: 2, idle_timeout: Duration::from_millis(400), ..PortLimits::default() };
    let port = port(Security::default(), limits).await;
    port.controls.slow(Duration::from_millis(300));
    let working = port.channel().await;
    let running = RayGenServiceClient::new(working).generate(request("edema")).await.expect("admitted").into_inner();
    let mut idle = TcpStream::connect(port.address).await.expect("connected");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = TcpStream::connect(port.address).await.expect("accepted by the system");
    assert_eq!(third.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed at once");
    let closed = async { while idle.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(5), closed).await.expect("an idle connection is closed");
    assert!(collect(running).await.error.is_none(), "one at work is not");
    assert!(port.generate(&[]).await.is_ok(), "and its place is free");
}

#[tokio::test]
async fn request_messages_together_stay_within_their_budget() {
    let limits = PortLimits { max_receiving_bytes: 1 << 20, ..PortLimits::default() };
    let port = port(Security::default(), limits).await;
    let picture = |bytes| {
        let image = v1::Image { data: vec![0; bytes], ..v1::Image::default() };
        v1::EncodeRequest { input: Some(v1::encode_request::Input::Image(image)), ..v1::EncodeRequest::default() }
    };
    let mut client = RayGenServiceClient::new(port.channel().await);
    let status = client.encode(picture(2 << 20)).await.expect_err("refused");
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::ResourceExhausted, "RECEIVING_FULL"));
    for _ in 0..4 {
        let status = client.encode(picture(800 << 10)).await.expect_err("no picture");
        assert_eq!(refusal(&status).1, "IMAGE_INVALID", "what was read counts no more: {status:?}");
    }
}

#[tokio::test]
async fn a_message_that_stops_half_way_ends_its_call() {
    let limits = PortLimits { sender_timeout: Duration::from_millis(300), ..PortLimits::default() };
    let port = port(Security::default(), limits).await;
    let mut socket = TcpStream::connect(port.address).await.expect("connected");
    let head = "POST /raygen.v1.RayGenService/Encode HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\
                content-type: application/grpc-web+proto\r\n\r\n\0\0\0\x03";
    socket.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(5), socket.read(&mut answer)).await;
    let count = read.expect("in time").expect("answered");
    let answer = String::from_utf8_lossy(&answer[..count]).to_lowercase();
    assert!(answer.contains("grpc-status: 1"), "{answer}");
}
