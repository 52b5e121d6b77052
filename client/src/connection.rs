//! A connection to a server, shared by all calls.

use std::{fmt, time::Duration};

use raygen_proto::v1::{
    GetModelRequest, ListModelsRequest, Model, model_service_client::ModelServiceClient,
    ray_gen_service_client::RayGenServiceClient,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{ClientError, error::innermost};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Notices a server that vanished without closing, while a stream is open.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Largest message to accept: a picture of 4096 x 4096 with 16 bits fits.
const MESSAGE_LIMIT: usize = 64 << 20;
const MODELS_PER_PAGE: u32 = 100;

/// A connection that says who is calling.
pub(crate) type Transport = InterceptedService<Channel, Credentials>;

/// What a server may ask for before it serves. The default is nothing.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// Authorities to trust instead of the system's, in PEM; for `https://` endpoints.
    pub tls_ca: Option<Vec<u8>>,
    /// The client's own certificate and its private key, in PEM.
    pub tls_identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The API key.
    pub api_key: Option<String>,
}

/// Puts the API key, if there is one, into each call.
#[derive(Clone)]
pub(crate) struct Credentials(Option<MetadataValue<Ascii>>);

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are for nobody's log.
        f.debug_struct("ConnectOptions").field("api_key", &self.api_key.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.0.is_some()).finish()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", key.clone());
        }
        Ok(request)
    }
}

/// A client of one server. Cheap to clone; clones share the connection, and calls may run at the same time.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) raygen: RayGenServiceClient<Transport>,
    models: ModelServiceClient<Transport>,
    endpoint: String,
}

impl Client {
    /// Connects to `http://host:port` or `https://host:port`; without a scheme it is the former.
    ///
    /// # Errors
    /// [`ClientError::BadEndpoint`] or [`ClientError::Unreachable`].
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self, ClientError> {
        Self::connect_with(endpoint, ConnectOptions::default()).await
    }

    /// The same, with certificates and an API key.
    ///
    /// # Errors
    /// [`ClientError::BadEndpoint`], also for certificates and a key that cannot be used, or
    /// [`ClientError::Unreachable`].
    pub async fn connect_with(endpoint: impl Into<String>, options: ConnectOptions) -> Result<Self, ClientError> {
        let endpoint = endpoint.into();
        let url = if endpoint.contains("://") { endpoint.clone() } else { format!("http://{endpoint}") };
        let bad = |problem: &str| ClientError::BadEndpoint { endpoint: endpoint.clone(), problem: problem.to_owned() };
        let secure = url.starts_with("https://");
        if !secure && !url.starts_with("http://") {
            return Err(bad("only http:// and https:// are spoken; write http://host:port"));
        }
        if !secure && (options.tls_ca.is_some() || options.tls_identity.is_some()) {
            return Err(bad("certificates are for https:// endpoints; write https://host:port"));
        }
        let credentials = match &options.api_key {
            None => Credentials(None),
            Some(key) => {
                let value = format!("Bearer {key}").parse::<MetadataValue<Ascii>>();
                let mut value = value.map_err(|_| bad("the API key holds what no header can"))?;
                value.set_sensitive(true);
                Credentials(Some(value))
            }
        };
        let mut server = Endpoint::from_shared(url)
            .map_err(|_| bad("it is not a URL; write http://host:port"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .tcp_nodelay(true);
        if secure {
            let mut tls = match options.tls_ca {
                Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
                None => ClientTlsConfig::new().with_native_roots(),
            };
            if let Some((cert, key)) = options.tls_identity {
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            server = server.tls_config(tls).map_err(|error| {
                let problem = innermost(&error).unwrap_or_else(|| error.to_string());
                bad(&format!("its certificates cannot be used: {problem}"))
            })?;
        }
        let channel = server.connect().await.map_err(|error| ClientError::Unreachable {
            endpoint: endpoint.clone(),
            problem: innermost(&error).unwrap_or_else(|| error.to_string()),
        })?;
        let channel = InterceptedService::new(channel, credentials);
        Ok(Self {
            raygen: RayGenServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_LIMIT),
            models: ModelServiceClient::new(channel),
            endpoint,
        })
    }

    /// Where it is connected to, as given.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// All models of the server, the default first where the server lists it first.
    ///
    /// # Errors
    /// What the server or the connection says.
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        let mut models = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListModelsRequest { page_size: MODELS_PER_PAGE, page_token };
            let page =
                self.models.clone().list_models(request).await.map_err(|status| self.error(&status))?.into_inner();
            models.extend(page.models);
            if page.next_page_token.is_empty() {
                return Ok(models);
            }
            page_token = page.next_page_token;
        }
    }

    /// One model, by `models/{model}` or `models/{model}/versions/{version}`.
    ///
    /// # Errors
    /// What the server or the connection says; `MODEL_NOT_FOUND` where there is none.
    pub async fn model(&self, name: impl Into<String>) -> Result<Model, ClientError> {
        let request = GetModelRequest { name: name.into() };
        let response = self.models.clone().get_model(request).await.map_err(|status| self.error(&status))?;
        response.into_inner().model.ok_or(ClientError::Incomplete("GetModel named no model"))
    }

    pub(crate) fn error(&self, status: &Status) -> ClientError {
        ClientError::from_status(&self.endpoint, status)
    }
}
