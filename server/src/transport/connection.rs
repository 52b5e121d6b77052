//! One connection, with or without TLS, that ends itself when no call has been on it for a while.
//!
//! HTTP/2's pings notice a peer that is dead; a peer that is alive and asks for nothing would keep its place for ever.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

/// The bytes below HTTP.
pub(crate) enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection in its place.
pub(crate) struct Connection {
    io: Io,
    activity: Activity,
    idle_timeout: Duration,
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// Calls on one connection, now and last.
#[derive(Debug, Clone)]
pub(crate) struct Activity(Arc<Mutex<(usize, Instant)>>);

/// Counts a call on its connection until its response body is gone.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ActiveLayer;

/// See [`ActiveLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Active<S>(S);

/// A call on a connection.
#[derive(Debug)]
struct OnCall(Option<Activity>);

/// A response body, and the call that it belongs to.
pub(crate) struct Lasting<B> {
    body: B,
    _call: OnCall,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(io: Io, place: OwnedSemaphorePermit, idle_timeout: Duration) -> Self {
        let now = Instant::now();
        let activity = Activity(Arc::new(Mutex::new((0, now))));
        let idle = Box::pin(sleep_until(now + idle_timeout));
        Self { io, activity, idle_timeout, idle, _place: place }
    }

    /// Whether the connection has been without a call for long enough. Wakes the task when it may be so.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.idle.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let since = self.activity.idle_since().unwrap_or(now);
            let end = since + self.idle_timeout;
            if end <= now {
                return Poll::Ready(());
            }
            self.idle.as_mut().reset(end);
        }
        Poll::Pending
    }
}

impl Connected for Connection {
    type ConnectInfo = Activity;

    fn connect_info(&self) -> Activity {
        self.activity.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if read.is_ready() {
            return read;
        }
        // Nothing read and no error is the end of the stream: HTTP closes in good order.
        self.poll_idle(context).map(Ok)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(context),
            Io::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

// === impl Activity ===

impl Activity {
    /// Since when no call is on the connection; `None` while one is.
    fn idle_since(&self) -> Option<Instant> {
        let (calls, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (calls == 0).then_some(since)
    }

    fn changed(&self, change: impl Fn(usize) -> usize) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *activity = (change(activity.0), Instant::now());
    }
}

// === impl OnCall ===

impl OnCall {
    fn begin(activity: Option<Activity>) -> Self {
        if let Some(activity) = &activity {
            activity.changed(|calls| calls + 1);
        }
        Self(activity)
    }
}

impl Drop for OnCall {
    fn drop(&mut self) {
        if let Some(activity) = &self.0 {
            activity.changed(|calls| calls.saturating_sub(1));
        }
    }
}

// === impl ActiveLayer ===

impl<S> Layer<S> for ActiveLayer {
    type Service = Active<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Active(inner)
    }
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for Active<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
    S::Future: Send + 'static,
{
    type Response = Response<Lasting<ResponseBody>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let call = OnCall::begin(request.extensions().get::<Activity>().cloned());
        let response = self.0.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| Lasting { body, _call: call })) })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Lasting<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
