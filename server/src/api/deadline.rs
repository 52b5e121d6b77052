//! The caller's deadline, over the whole call. tonic bounds the response head only, and calls an expired one CANCELLED.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tower::{Layer, Service};

use super::errors::ApiError;
use crate::engine::EngineError;

/// How long before the caller's own clock runs out the answer is given, so that it arrives, and before tonic's.
const MARGIN: Duration = Duration::from_millis(5);

/// When a call must have ended; absent when the caller set no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(pub Option<Instant>);

/// Puts a [`Deadline`] into the extensions of each request, and ends response heads that are late.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeadlineLayer;

/// See [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct DeadlineService<S>(S);

// === impl Deadline ===

impl Deadline {
    /// The deadline of a request that came through the layer.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Self>().copied().unwrap_or(Self(None))
    }

    /// For the engine.
    pub fn instant(self) -> Option<std::time::Instant> {
        self.0.map(Instant::into_std)
    }

    /// Ends when the deadline has passed; never without one.
    pub async fn passed(self) {
        match self.0 {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }
}

// === impl DeadlineLayer ===

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService(inner)
    }
}

// === impl DeadlineService ===

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for DeadlineService<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
    S::Future: Send + 'static,
    ResponseBody: Default + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        let timeout = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse);
        let deadline = Deadline(
            timeout.and_then(|timeout| Instant::now().checked_add(timeout.saturating_sub(MARGIN.min(timeout / 4)))),
        );
        request.extensions_mut().insert(deadline);
        let head = self.0.call(request);
        Box::pin(async move {
            tokio::select! {
                biased;
                () = deadline.passed() => {
                    Ok(Status::from(ApiError::from(EngineError::DeadlineExceeded)).into_http())
                }
                head = head => head,
            }
        })
    }
}

/// A `grpc-timeout`: at most 8 digits and a unit. Anything else is no deadline, as the specification's servers have it.
fn parse(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_has_them() {
        for (value, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("1", None),
            ("S", None),
            ("-1S", None),
            ("+1S", None),
            ("9999999999S", None),
            ("1s", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse(value), expected, "{value:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_head_is_deadline_exceeded_before_the_callers_clock_runs_out() {
        let never = tower::service_fn(|_: Request<String>| async {
            std::future::pending::<()>().await;
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let request = Request::builder().header("grpc-timeout", "1S").body(String::new()).expect("request");
        let began = Instant::now();
        let response = DeadlineLayer.layer(never).call(request).await.expect("answered");
        assert_eq!(response.headers()["grpc-status"], "4");
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
