//! Request messages on their way in: together they stay within a budget of memory, and none may stall half-way.
//!
//! A message counts from its first byte until its handler has read it. What counts is the bytes that came; a compressed
//! message counts as what it may come to, so that a few bytes cannot turn into gigabytes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tower::{Layer, Service};

use super::PortLimits;
use crate::api::ApiError;
use crate::methods;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The most that deflate can make of one byte.
const WORST_RATIO: u64 = 1032;

/// Memory for all request messages together.
#[derive(Debug, Clone)]
struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    used: AtomicU64,
    limit: u64,
}

/// A message's share of the budget, free again when the last clone is dropped. In the extensions of a request.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Share>);

#[derive(Debug)]
struct Share {
    budget: Budget,
    bytes: AtomicU64,
}

/// Puts request bodies under the budget.
#[derive(Debug, Clone)]
pub(crate) struct ReceivingLayer {
    budget: Budget,
    max_message_bytes: u64,
    patience: Duration,
}

/// See [`ReceivingLayer`].
#[derive(Debug, Clone)]
pub(crate) struct Receiver<S> {
    layer: ReceivingLayer,
    inner: S,
}

/// A request body under the budget.
struct Receiving {
    body: tonic::body::Body,
    held: Held,
    progress: Progress,
    streaming: bool,
    max_message_bytes: u64,
    patience: Duration,
    stall: Pin<Box<Sleep>>,
}

/// How far the message under way has come.
#[derive(Debug, Default)]
struct Progress {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    known: usize,
    /// Bytes of the message that are not.
    missing: u64,
    /// What the message under way counts so far.
    counted: u64,
    complete: u64,
}

// === impl Budget ===

impl Budget {
    fn new(limit: u64) -> Self {
        Self(Arc::new(Account { used: AtomicU64::new(0), limit }))
    }
}

// === impl Held ===

impl Held {
    /// The share of a request that came through the layer, to be kept while its message is in memory.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get::<Self>().cloned()
    }

    fn none_of(budget: &Budget) -> Self {
        Self(Arc::new(Share { budget: budget.clone(), bytes: AtomicU64::new(0) }))
    }

    fn add(&self, bytes: u64) -> Result<(), ApiError> {
        let account = &self.0.budget.0;
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= account.limit);
        if account.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_err() {
            return Err(ApiError::ReceivingFull { limit: account.limit });
        }
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps only so much.
    fn shrink_to(&self, bytes: u64) {
        let before = self.0.bytes.fetch_min(bytes, Ordering::Relaxed);
        self.0.budget.0.used.fetch_sub(before.saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

// === impl Progress ===

impl Progress {
    /// Whether a message has begun and is not complete, or none has come yet.
    fn is_under_way(&self) -> bool {
        self.known > 0 || self.complete == 0
    }

    /// Takes in bytes; gives what they count.
    fn take(&mut self, mut bytes: &[u8], max_message_bytes: u64) -> u64 {
        let mut counts = 0;
        while !bytes.is_empty() {
            if self.known < PREFIX {
                let here = bytes.len().min(PREFIX - self.known);
                let (prefix, rest) = bytes.split_at(here);
                self.prefix[self.known..self.known + here].copy_from_slice(prefix);
                self.known += here;
                bytes = rest;
                counts += here as u64;
                self.counted += here as u64;
                if self.known == PREFIX {
                    let [compressed, a, b, c, d] = self.prefix;
                    self.missing = u64::from(u32::from_be_bytes([a, b, c, d]));
                    if compressed != 0 {
                        let worst = self.missing.saturating_mul(WORST_RATIO).min(max_message_bytes);
                        counts += worst;
                        self.counted += worst;
                    }
                }
            } else {
                let here = self.missing.min(bytes.len() as u64);
                bytes = &bytes[usize::try_from(here).unwrap_or(bytes.len())..];
                self.missing -= here;
                counts += here;
                self.counted += here;
            }
            if self.known == PREFIX && self.missing == 0 {
                self.known = 0;
                self.counted = 0;
                self.complete += 1;
            }
        }
        counts
    }
}

// === impl ReceivingLayer ===

impl ReceivingLayer {
    pub(crate) fn new(max_message_bytes: usize, limits: &PortLimits) -> Self {
        let budget = Budget::new(limits.max_receiving_bytes);
        Self { budget, max_message_bytes: max_message_bytes as u64, patience: limits.sender_timeout }
    }
}

impl<S> Layer<S> for ReceivingLayer {
    type Service = Receiver<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Receiver { layer: self.clone(), inner }
    }
}

impl<S> Service<Request<tonic::body::Body>> for Receiver<S>
where
    S: Service<Request<tonic::body::Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        let kind = request.headers().get(http::header::CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return self.inner.call(request);
        }
        let held = Held::none_of(&self.layer.budget);
        request.extensions_mut().insert(held.clone());
        let streaming = methods::find(request.uri().path()).is_some_and(|method| method.takes_stream);
        let ReceivingLayer { max_message_bytes, patience, .. } = self.layer;
        let request = request.map(|body| {
            let stall = Box::pin(sleep(patience));
            let progress = Progress::default();
            tonic::body::Body::new(Receiving { body, held, progress, streaming, max_message_bytes, patience, stall })
        });
        self.inner.call(request)
    }
}

// === impl Receiving ===

impl Body for Receiving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.streaming {
            // Whoever asks for more has read what was complete.
            this.held.shrink_to(this.progress.counted);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            if this.progress.is_under_way() && this.stall.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(ApiError::SenderStalled(this.patience).into())));
            }
            return Poll::Pending;
        };
        this.stall.as_mut().reset(Instant::now() + this.patience);
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let counts = this.progress.take(data, this.max_message_bytes);
            if let Err(error) = this.held.add(counts) {
                return Poll::Ready(Some(Err(error.into())));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(compressed: u8, length: u32) -> Vec<u8> {
        let mut bytes = vec![compressed];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend(std::iter::repeat_n(7, length as usize));
        bytes
    }

    #[test]
    fn bytes_count_as_they_come_however_they_are_cut() {
        let mut bytes = message(0, 300);
        bytes.extend(message(0, 0));
        bytes.extend(message(0, 10));
        for size in [1, 3, 4, 5, 6, 299, 400] {
            let mut progress = Progress::default();
            let counted: u64 = bytes.chunks(size).map(|chunk| progress.take(chunk, 1000)).sum();
            assert_eq!((counted, progress.complete), (bytes.len() as u64, 3), "{size} at a time");
            assert!(!progress.is_under_way());
        }
        let mut progress = Progress::default();
        progress.take(&bytes[..100], 1000);
        assert_eq!((progress.counted, progress.is_under_way()), (100, true));
    }

    #[test]
    fn a_compressed_message_counts_as_what_it_may_come_to() {
        let mut progress = Progress::default();
        assert_eq!(progress.take(&message(1, 10), 36 << 20), 5 + 10 + 10 * WORST_RATIO);
        assert_eq!(progress.take(&message(1, 1000), 5000), 5 + 1000 + 5000, "but never more than a message may have");
    }

    #[test]
    fn the_budget_is_whole_again_when_shares_are_dropped() {
        let budget = Budget::new(100);
        let (one, two) = (Held::none_of(&budget), Held::none_of(&budget));
        one.add(60).expect("room");
        assert_eq!(two.add(41), Err(ApiError::ReceivingFull { limit: 100 }));
        two.add(40).expect("room");
        one.shrink_to(10);
        assert_eq!(budget.0.used.load(Ordering::Relaxed), 50);
        drop((one, two));
        assert_eq!(budget.0.used.load(Ordering::Relaxed), 0);
    }
}
