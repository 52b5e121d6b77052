//! A connection to a server, shared by all calls.

use std::time::Duration;

use raygen_proto::v1::{
    GetModelRequest, ListModelsRequest, Model, model_service_client::ModelServiceClient,
    ray_gen_service_client::RayGenServiceClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use crate::{ClientError, error::innermost};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Notices a server that vanished without closing, while a stream is open.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Largest message to accept: a picture of 4096 x 4096 with 16 bits fits.
const MESSAGE_LIMIT: usize = 64 << 20;
const MODELS_PER_PAGE: u32 = 100;

/// A client of one server. Cheap to clone; clones share the connection, and calls may run at the same time.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) raygen: RayGenServiceClient<Channel>,
    models: ModelServiceClient<Channel>,
    endpoint: String,
}

impl Client {
    /// Connects to `http://host:port`; the scheme may be left out.
    ///
    /// # Errors
    /// [`ClientError::BadEndpoint`] or [`ClientError::Unreachable`].
    pub async fn connect(endpoint: impl Into<String>) -> Result<Self, ClientError> {
        let endpoint = endpoint.into();
        let url = if endpoint.contains("://") { endpoint.clone() } else { format!("http://{endpoint}") };
        let bad = |problem: &str| ClientError::BadEndpoint { endpoint: endpoint.clone(), problem: problem.to_owned() };
        if !url.starts_with("http://") {
            return Err(bad("only http:// is spoken; write http://host:port"));
        }
        let channel = Endpoint::from_shared(url)
            .map_err(|_| bad("it is not a URL; write http://host:port"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .tcp_nodelay(true)
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable {
                endpoint: endpoint.clone(),
                problem: innermost(&error).unwrap_or_else(|| error.to_string()),
            })?;
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
