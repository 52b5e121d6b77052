//! A call under way: counted while it runs, its outcome counted when it ends.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;
use tonic::Code;
use tracing::Span;

use crate::histogram::{self, Histogram, Snapshot};
use crate::security::Caller;

/// Calls under way and calls ended.
#[derive(Debug, Clone)]
pub struct Calls {
    running: Arc<watch::Sender<usize>>,
    ended: Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>,
    durations: Arc<Mutex<BTreeMap<&'static str, Histogram>>>,
    request_ids: Arc<Mutex<HashSet<String>>>,
}

/// One call. Dropped without an outcome it counts as cancelled: the client is gone.
#[derive(Debug)]
pub struct Call {
    calls: Calls,
    method: &'static str,
    outcome: Option<Code>,
    /// Its share of a key's quota, which is free again when the call has ended.
    caller: Option<Caller>,
    began: Instant,
    /// The span that it is in, open until the last message is on its way.
    span: Span,
}

/// A request id in use until this is dropped.
#[derive(Debug)]
pub struct RequestId {
    calls: Calls,
    id: String,
}

// === impl Calls ===

impl Default for Calls {
    fn default() -> Self {
        Self {
            running: Arc::new(watch::Sender::new(0)),
            ended: Arc::default(),
            durations: Arc::default(),
            request_ids: Arc::default(),
        }
    }
}

impl Calls {
    /// A call of a method begins.
    pub fn begin(&self, method: &'static str) -> Call {
        self.running.send_modify(|count| *count += 1);
        Call { calls: self.clone(), method, outcome: None, caller: None, began: Instant::now(), span: Span::current() }
    }

    /// Takes a request id; `None` while a call with the same one is running.
    pub fn take_request_id(&self, id: String) -> Option<RequestId> {
        let mut ids = self.request_ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(id.clone()).then(|| RequestId { calls: self.clone(), id })
    }

    /// Calls under way.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Ends when no call is under way.
    pub async fn all_ended(&self) {
        let mut running = self.running.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _ = running.wait_for(|count| *count == 0).await;
    }

    /// How long calls took, by method.
    pub fn durations(&self) -> Vec<(&'static str, Snapshot)> {
        let durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.iter().map(|(method, histogram)| (*method, histogram.snapshot())).collect()
    }

    /// Calls ended so far, by method and outcome.
    pub fn ended(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// === impl Call ===

impl Call {
    /// The same call, made by whoever sent the request.
    #[must_use]
    pub fn of<T>(mut self, request: &tonic::Request<T>) -> Self {
        self.caller = request.extensions().get::<Caller>().cloned();
        self
    }

    /// The name of the key that it was made with; "" without keys.
    pub fn owner(&self) -> &str {
        self.caller.as_ref().map_or("", Caller::name)
    }

    /// The call ended with this code.
    pub fn end(&mut self, code: Code) {
        self.outcome.get_or_insert(code);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let outcome = code_name(self.outcome.unwrap_or(Code::Cancelled));
        let mut ended = self.calls.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((self.method, outcome)).or_default() += 1;
        drop(ended);
        let took = self.began.elapsed();
        let mut durations = self.calls.durations.lock().unwrap_or_else(PoisonError::into_inner);
        durations.entry(self.method).or_insert_with(|| Histogram::new(histogram::SECONDS)).took(took);
        drop(durations);
        self.span.record("rpc.status_code", outcome);
        if matches!(self.outcome, Some(code) if is_servers_fault(code)) {
            self.span.record("otel.status_code", "ERROR");
        }
        let seconds = took.as_secs_f64();
        self.span.in_scope(|| tracing::debug!(method = self.method, code = outcome, seconds, "call ended"));
        self.calls.running.send_modify(|count| *count = count.saturating_sub(1));
    }
}

// === impl RequestId ===

impl Drop for RequestId {
    fn drop(&mut self) {
        self.calls.request_ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Whether a code says that the server failed, as OpenTelemetry sorts them.
fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The name of a code as gRPC spells it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_call_counts_as_cancelled_and_is_waited_for() {
        let calls = Calls::default();
        let mut first = calls.begin("Generate");
        let second = calls.begin("Generate");
        assert_eq!(calls.running(), 2);
        first.end(Code::Ok);
        drop(first);
        drop(second);
        calls.all_ended().await;
        let ended = calls.ended();
        assert_eq!(ended[&("Generate", "OK")], 1);
        assert_eq!(ended[&("Generate", "CANCELLED")], 1);
    }

    #[test]
    fn a_request_id_is_free_again_when_its_call_has_ended() {
        let calls = Calls::default();
        let held = calls.take_request_id("a".to_owned());
        assert!(held.is_some());
        assert!(calls.take_request_id("a".to_owned()).is_none());
        drop(held);
        assert!(calls.take_request_id("a".to_owned()).is_some());
    }
}
