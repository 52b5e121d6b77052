//! Asks each call for its key before anything of it is read: who is it, may it, and has it quota left.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use super::keys::{Key, Keys};
use super::quota::Permit;
use crate::api::{ApiError, Calls};
use crate::methods::{self, Access};

const WANTED: &str = "send an API key as \"authorization: Bearer KEY\" or \"x-api-key: KEY\"";

/// Who makes a call, with its share of the key's quota, which is free again when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Caller(Arc<(Arc<Key>, Permit)>);

/// The key of a [`Caller`], without a share of its quota.
#[derive(Debug, Clone)]
pub(crate) struct KeyAccount(Arc<Key>);

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

// === impl Caller ===

impl Caller {
    /// The name of its key.
    pub fn name(&self) -> &str {
        &self.0.0.name
    }

    /// The account that it is charged to, for a call that asks for more than one thing.
    pub(crate) fn account(&self) -> KeyAccount {
        KeyAccount(Arc::clone(&self.0.0))
    }
}

// === impl KeyAccount ===

impl KeyAccount {
    /// Takes part of the quota for one request.
    ///
    /// # Errors
    /// The key has none left, and when it will have.
    pub(crate) fn begin(&self) -> Result<Caller, ApiError> {
        let permit = self.0.quota.try_begin(Instant::now());
        let permit = permit.map_err(|over| ApiError::RateLimited { what: over.what, retry_after: over.retry_after })?;
        Ok(Caller(Arc::new((Arc::clone(&self.0), permit))))
    }
}

// === impl GuardLayer ===

impl GuardLayer {
    /// Asks for these keys; without any everybody passes. Refusals are counted in `calls`.
    pub fn new(keys: Option<Arc<Keys>>, calls: Calls) -> Self {
        Self { keys, calls }
    }

    fn admit(&self, path: &str, headers: &HeaderMap) -> Result<Option<Caller>, ApiError> {
        let (Some(keys), access) = (&self.keys, methods::access(path)) else {
            return Ok(None);
        };
        if access == Access::Open {
            return Ok(None);
        }
        let secret = presented(headers)?;
        let key = keys.find(secret).ok_or(ApiError::Unauthenticated("the API key is not known here"))?;
        if let Access::Scope(scope) = access
            && !key.may(scope)
        {
            return Err(ApiError::ScopeMissing { key: key.name.clone(), scope: scope.name() });
        }
        KeyAccount(key).begin().map(Some)
    }
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
                self.layer.calls.begin(methods::short_name(request.uri().path())).end(status.code());
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
