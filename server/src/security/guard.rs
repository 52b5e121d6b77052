//! Asks each call for its key before anything of it is read: who is it, may it, and has it quota left.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::keys::{Key, Keys, Scope};
use super::quota::Permit;
use crate::api::{ApiError, Calls};

/// Paths that need a key begin with one of these; health, reflection and the dashboard's own pages do not.
const GUARDED: [&str; 2] = ["/raygen.", "/inference."];
const WANTED: &str = "send an API key as \"authorization: Bearer KEY\" or \"x-api-key: KEY\"";

/// Who makes a call, with its share of the key's quota, which is free again when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Caller(Arc<(Arc<Key>, Permit)>);

/// Puts a [`Caller`] into the extensions of each guarded request, or refuses it.
#[derive(Debug, Clone)]
pub struct GuardLayer {
    keys: Option<Arc<Keys>>,
    calls: Calls,
}

/// See [`GuardLayer`].
#[derive(Debug, Clone)]
pub struct Guard<S> {
    layer: GuardLayer,
    inner: S,
}

/// What a method asks for.
enum Need {
    /// Any key.
    Key,
    Scope(Scope),
}

// === impl Caller ===

impl Caller {
    /// The name of its key.
    pub fn name(&self) -> &str {
        &self.0.0.name
    }
}

// === impl GuardLayer ===

impl GuardLayer {
    /// Asks for these keys; without any everybody passes. Refusals are counted in `calls`.
    pub fn new(keys: Option<Arc<Keys>>, calls: Calls) -> Self {
        Self { keys, calls }
    }

    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
        let Some(keys) = self.keys.as_ref().filter(|_| is_guarded(path)) else {
            return Ok(None);
        };
        let secret = presented(headers)?;
        let key = keys.find(secret).ok_or(ApiError::Unauthenticated("the API key is not known here"))?;
        match method(path).1 {
            Need::Scope(scope) if !key.may(scope) => {
                return Err(ApiError::ScopeMissing { key: key.name.clone(), scope: scope.name() });
            }
            Need::Scope(_) | Need::Key => {}
        }
        let permit = key
            .quota
            .try_begin(Instant::now())
            .map_err(|over| ApiError::RateLimited { what: over.what, retry_after: over.retry_after })?;
        Ok(Some(Caller(Arc::new((key, permit)))))
    }
}

/// The name of a method in the counts, and what it needs. What nobody knows is the administrator's.
fn method(path: &str) -> (&'static str, Need) {
    match path {
        "/raygen.v1.RayGenService/Generate" => ("Generate", Need::Scope(Scope::Generate)),
        "/raygen.v1.RayGenService/Encode" => ("Encode", Need::Scope(Scope::Generate)),
        "/raygen.v1.RayGenService/Decode" => ("Decode", Need::Scope(Scope::Generate)),
        "/raygen.v1.RayGenService/Score" => ("Score", Need::Scope(Scope::Score)),
        "/raygen.v1.ModelService/ListModels" => ("ListModels", Need::Key),
        "/raygen.v1.ModelService/GetModel" => ("GetModel", Need::Key),
        "/raygen.v1.ModelService/LoadModel" => ("LoadModel", Need::Scope(Scope::Admin)),
        "/raygen.v1.ModelService/UnloadModel" => ("UnloadModel", Need::Scope(Scope::Admin)),
        "/inference.GRPCInferenceService/ModelInfer" => ("ModelInfer", Need::Scope(Scope::Generate)),
        "/inference.GRPCInferenceService/ModelStreamInfer" => ("ModelStreamInfer", Need::Scope(Scope::Generate)),
        "/inference.GRPCInferenceService/ServerMetadata"
        | "/inference.GRPCInferenceService/ModelMetadata"
        | "/inference.GRPCInferenceService/ModelConfig"
        | "/inference.GRPCInferenceService/ModelStatistics"
        | "/inference.GRPCInferenceService/RepositoryIndex" => ("_OTHER", Need::Key),
        _ => ("_OTHER", Need::Scope(Scope::Admin)),
    }
}

/// Whether a path needs a key. The KServe protocol's health is as open as gRPC's own.
fn is_guarded(path: &str) -> bool {
    const HEALTH: [&str; 3] = ["ServerLive", "ServerReady", "ModelReady"];
    let health = path.strip_prefix("/inference.GRPCInferenceService/").is_some_and(|method| HEALTH.contains(&method));
    !health && GUARDED.iter().any(|prefix| path.starts_with(prefix))
}

/// The one key among the headers.
fn presented(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let mut given = headers.get_all(http::header::AUTHORIZATION).iter().chain(headers.get_all("x-api-key"));
    let value = given.next().ok_or(ApiError::Unauthenticated(WANTED))?;
    if given.next().is_some() {
        return Err(ApiError::Unauthenticated("more than one API key came; send one"));
    }
    let value = value.as_bytes();
    if headers.contains_key("x-api-key") {
        return Ok(value);
    }
    match value.split_at_checked(7) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Ok(key.trim_ascii()),
        _ => Err(ApiError::Unauthenticated(WANTED)),
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { layer: self.clone(), inner }
    }
}

// === impl Guard ===

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for Guard<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
    ResponseBody: Default,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        match self.layer.admit(request.uri().path(), request.headers()) {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Inner(Box::pin(self.inner.call(request)))
            }
            Err(error) => {
                let status = Status::from(error);
                self.layer.calls.begin(method(request.uri().path()).0).end(status.code());
                Either::Refused(ready(Ok(status.into_http())))
            }
        }
    }
}

/// The inner answer, or the refusal.
pub enum Either<F, R> {
    /// Passed on.
    Inner(Pin<Box<F>>),
    /// Refused.
    Refused(R),
}

impl<F, R> Future for Either<F, R>
where
    F: Future,
    R: Future<Output = F::Output> + Unpin,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.get_mut() {
            Self::Inner(inner) => inner.as_mut().poll(context),
            Self::Refused(refused) => Pin::new(refused).poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_ask_for_the_same_scope_and_only_health_asks_for_nothing() {
        for path in ["/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelStreamInfer"] {
            assert!(is_guarded(path) && matches!(method(path).1, Need::Scope(Scope::Generate)), "{path}");
        }
        for path in
            ["/inference.GRPCInferenceService/RepositoryModelLoad", "/inference.Else/ServerLive", "/raygen.v2.X/Y"]
        {
            assert!(is_guarded(path) && matches!(method(path).1, Need::Scope(Scope::Admin)), "{path}");
        }
        for path in ["/inference.GRPCInferenceService/ServerLive", "/grpc.health.v1.Health/Check", "/"] {
            assert!(!is_guarded(path), "{path}");
        }
    }
}
