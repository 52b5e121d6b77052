//! Answers what browsers ask for by GET, and hands everything else on to gRPC and gRPC-web.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use http::header::{self, HeaderName};
use http::response::Builder;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tonic::body::Body;
use tower::{Layer, Service};

use super::assets::{self, Asset};
use super::status;
use crate::api::Api;

/// Only what this server sends is run, shown or asked; pictures come by gRPC and are shown from memory.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
/// What every answer to a browser carries.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];
/// The page of a path that is not there.
const NOT_FOUND: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Not found</title>\
     <p>There is no such page here. The dashboard is at <a href=\"/\">/</a>.";

/// Puts the page before the gRPC services of the same port.
#[derive(Debug, Clone)]
pub struct DashboardLayer(Api);

/// See [`DashboardLayer`].
#[derive(Debug, Clone)]
pub struct DashboardService<S> {
    inner: S,
    api: Api,
}

// === impl DashboardLayer ===

impl DashboardLayer {
    /// The page of this server.
    pub fn new(api: Api) -> Self {
        status::start_clock();
        Self(api)
    }
}

impl<S> Layer<S> for DashboardLayer {
    type Service = DashboardService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DashboardService { inner, api: self.0.clone() }
    }
}

// === impl DashboardService ===

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, B> Service<Request<B>> for DashboardService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_for_the_page(request.method(), request.headers()) {
            let response = answer(&self.api, request.method(), request.uri().path(), request.headers());
            return Box::pin(std::future::ready(Ok(response)));
        }
        Box::pin(self.inner.call(request))
    }
}

/// gRPC and gRPC-web are POST, and preflights OPTIONS; a GET that says it is gRPC is left to those who can refuse it.
fn is_for_the_page(method: &Method, headers: &HeaderMap) -> bool {
    let says_grpc =
        headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    (method == Method::GET || method == Method::HEAD) && !says_grpc
}

fn answer(api: &Api, method: &Method, path: &str, headers: &HeaderMap) -> Response<Body> {
    let (response, body) = match assets::find(path) {
        Some(asset) => of_asset(asset, headers),
        None if path == status::PATH => {
            let response = Response::builder()
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CACHE_CONTROL, "no-store");
            (response, Bytes::from(status::render(api)))
        }
        None => {
            let response = Response::builder()
                .status(StatusCode::NOT_FOUND)
                .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
                .header(header::CACHE_CONTROL, "no-store");
            (response, Bytes::from_static(NOT_FOUND.as_bytes()))
        }
    };
    let response = HEADERS.iter().fold(response, |response, (name, value)| response.header(name, *value));
    finish(response, method, body)
}

/// A file, or that the browser has it already. Names do not change with what is in them, so it is asked each time.
fn of_asset(asset: &'static Asset, headers: &HeaderMap) -> (Builder, Bytes) {
    let gzip = !asset.gzip.is_empty() && takes_gzip(headers);
    let tag = asset.tag(gzip);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| matches!(known.trim(), "*") || known.trim().trim_start_matches("W/") == tag);
    let response = Response::builder()
        .header(header::ETAG, tag)
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::VARY, "accept-encoding")
        .header(header::CONTENT_TYPE, asset.content_type);
    match (known, gzip) {
        (true, _) => (response.status(StatusCode::NOT_MODIFIED), Bytes::new()),
        (false, true) => (response.header(header::CONTENT_ENCODING, "gzip"), Bytes::from_static(asset.gzip.as_slice())),
        (false, false) => (response, Bytes::from_static(asset.plain)),
    }
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").and_then(|q| q.trim().parse::<f32>().ok()) == Some(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// A HEAD gets the length without the body.
fn finish(response: Builder, method: &Method, body: Bytes) -> Response<Body> {
    let response = response.header(header::CONTENT_LENGTH, body.len());
    let body = if method == Method::HEAD { Bytes::new() } else { body };
    // Every header is a constant, a number or a digest.
    response.body(Body::new(axum::body::Body::from(body))).unwrap_or_else(|_| internal())
}

fn internal() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_says_that_it_is_grpc_is_left_to_grpc() {
        let grpc = headers(&[(header::CONTENT_TYPE, "application/grpc-web+proto")]);
        assert!(!is_for_the_page(&Method::GET, &grpc));
        assert!(!is_for_the_page(&Method::POST, &HeaderMap::new()));
        assert!(!is_for_the_page(&Method::OPTIONS, &HeaderMap::new()));
        assert!(is_for_the_page(&Method::GET, &HeaderMap::new()));
    }

    #[test]
    fn gzip_goes_to_those_who_take_it() {
        assert!(takes_gzip(&headers(&[(header::ACCEPT_ENCODING, "br, gzip;q=0.5")])));
        assert!(!takes_gzip(&headers(&[(header::ACCEPT_ENCODING, "gzip;q=0, br")])));
        assert!(!takes_gzip(&HeaderMap::new()));
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let asset = assets::find("/app.js").expect("served");
        let tag = http::HeaderValue::from_str(&asset.tag(false)).expect("a tag");
        let mut known = HeaderMap::new();
        known.insert(header::IF_NONE_MATCH, tag);
        let (response, body) = of_asset(asset, &known);
        assert_eq!(response.body(()).expect("response").status(), StatusCode::NOT_MODIFIED);
        assert!(body.is_empty());
        known.insert(header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip"));
        let (response, body) = of_asset(asset, &known);
        assert_eq!(response.body(()).expect("response").status(), StatusCode::OK);
        assert!(!body.is_empty(), "another encoding is another entity");
    }
}
