//! Typed errors to gRPC statuses: code, `google.rpc.ErrorInfo` with the contract's reason, field paths, when to retry.

use std::collections::HashMap;
use std::time::Duration;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::engine::EngineError;

/// When a client that met a server on its way out should try again (elsewhere, or here after a restart).
const RETRY_ELSEWHERE: Duration = Duration::from_secs(1);

/// Reason of an error, as `ErrorInfo` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and CONTRACT fixes them")]
pub enum Reason {
    FieldInvalid,
    ImpressionBlank,
    ImageInvalid,
    ImageTooLarge,
    GridInvalid,
    ModelNotFound,
    ModelNotReady,
    GuidanceUnsupported,
    QueueFull,
    DeadlineUnreachable,
    DeadlineExceeded,
    RateLimited,
    Unauthenticated,
    ScopeMissing,
    ReceivingFull,
    RequestIdInFlight,
    RequestIdReused,
    ShuttingDown,
    NumericFailure,
    ModelFailed,
    DeviceLost,
    Cancelled,
    Unimplemented,
    Internal,
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the proto field, such as `sampling.temperature`.
    pub field: String,
    /// The kind of mistake.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub description: String,
}

/// Why a call was not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The request is wrong, in at least one place.
    #[error("{}", first(.0))]
    Invalid(Vec<Violation>),
    /// No such model.
    #[error("{}", not_found(name, available))]
    ModelNotFound {
        /// What was asked for.
        name: String,
        /// What there is.
        available: Vec<String>,
    },
    /// The model is there and cannot serve.
    #[error("{name} is not ready: {detail}")]
    ModelNotReady {
        /// The model.
        name: String,
        /// Why.
        detail: String,
        /// Whether waiting helps.
        soon: bool,
    },
    /// Nobody that is known here.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Somebody who may not do this.
    #[error("the key {key:?} lacks the scope {scope}, which this call needs")]
    ScopeMissing {
        /// The key's name.
        key: String,
        /// What it lacks.
        scope: &'static str,
    },
    /// A key has used up its quota.
    #[error("{what}; try again in {} ms", retry_after.as_millis())]
    RateLimited {
        /// Which limit was met.
        what: String,
        /// When there is quota again.
        retry_after: Duration,
    },
    /// All memory for request messages is in use.
    #[error("request messages on their way in hold {limit} bytes already; try again in a moment")]
    ReceivingFull {
        /// Bytes for all of them.
        limit: u64,
    },
    /// A request message stopped half-way.
    #[error("nothing of the message came for {} s, so the request was cancelled", .0.as_secs())]
    SenderStalled(Duration),
    /// The same request is running.
    #[error("a request with request_id {0} is running; wait for it, or use another id")]
    RequestIdInFlight(String),
    /// The engine's answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The client is there and does not read.
    #[error("nothing was read for {} s, so the request was cancelled; read the stream as it comes", .0.as_secs())]
    Stalled(Duration),
    /// Not offered yet.
    #[error("{0}")]
    Unimplemented(String),
    /// A mistake of ours.
    #[error("{0}")]
    Internal(String),
}

// === impl Reason ===

impl Reason {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::FieldInvalid => "FIELD_INVALID",
            Self::ImpressionBlank => "IMPRESSION_BLANK",
            Self::ImageInvalid => "IMAGE_INVALID",
            Self::ImageTooLarge => "IMAGE_TOO_LARGE",
            Self::GridInvalid => "GRID_INVALID",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::ModelNotReady => "MODEL_NOT_READY",
            Self::GuidanceUnsupported => "GUIDANCE_UNSUPPORTED",
            Self::QueueFull => "QUEUE_FULL",
            Self::DeadlineUnreachable => "DEADLINE_UNREACHABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::ScopeMissing => "SCOPE_MISSING",
            Self::ReceivingFull => "RECEIVING_FULL",
            Self::RequestIdInFlight => "REQUEST_ID_IN_FLIGHT",
            Self::RequestIdReused => "REQUEST_ID_REUSED",
            Self::ShuttingDown => "SHUTTING_DOWN",
            Self::NumericFailure => "NUMERIC_FAILURE",
            Self::ModelFailed => "MODEL_FAILED",
            Self::DeviceLost => "DEVICE_LOST",
            Self::Cancelled => "CANCELLED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
        }
    }
}

// === impl Violation ===

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, reason: Reason, description: impl Into<String>) -> Self {
        Self { field: field.into(), reason, description: description.into() }
    }
}

impl From<Violation> for ApiError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

// === impl ApiError ===

impl ApiError {
    /// Code and reason.
    pub fn kind(&self) -> (Code, Reason) {
        match self {
            Self::Invalid(violations) => {
                (Code::InvalidArgument, violations.first().map_or(Reason::FieldInvalid, |v| v.reason))
            }
            Self::ModelNotFound { .. } => (Code::NotFound, Reason::ModelNotFound),
            Self::ModelNotReady { soon: true, .. } => (Code::Unavailable, Reason::ModelNotReady),
            Self::ModelNotReady { soon: false, .. } => (Code::FailedPrecondition, Reason::ModelNotReady),
            Self::RequestIdInFlight(_) => (Code::Aborted, Reason::RequestIdInFlight),
            Self::Stalled(_) | Self::SenderStalled(_) => (Code::Cancelled, Reason::Cancelled),
            Self::Unauthenticated(_) => (Code::Unauthenticated, Reason::Unauthenticated),
            Self::ScopeMissing { .. } => (Code::PermissionDenied, Reason::ScopeMissing),
            Self::RateLimited { .. } => (Code::ResourceExhausted, Reason::RateLimited),
            Self::ReceivingFull { .. } => (Code::ResourceExhausted, Reason::ReceivingFull),
            Self::Unimplemented(_) => (Code::Unimplemented, Reason::Unimplemented),
            Self::Internal(_) => (Code::Internal, Reason::Internal),
            Self::Engine(error) => match error {
                EngineError::QueueFull { .. } => (Code::ResourceExhausted, Reason::QueueFull),
                EngineError::DeadlineUnreachable { .. } => (Code::DeadlineExceeded, Reason::DeadlineUnreachable),
                EngineError::DeadlineExceeded => (Code::DeadlineExceeded, Reason::DeadlineExceeded),
                EngineError::Cancelled => (Code::Cancelled, Reason::Cancelled),
                EngineError::ShuttingDown => (Code::Unavailable, Reason::ShuttingDown),
                EngineError::Numeric { .. } => (Code::Internal, Reason::NumericFailure),
                EngineError::Model { .. } => (Code::Internal, Reason::ModelFailed),
                EngineError::Stopped { .. } => (Code::Unavailable, Reason::DeviceLost),
            },
        }
    }

    fn details(&self, reason: Reason) -> ErrorDetails {
        let mut details = ErrorDetails::new();
        details.set_error_info(reason.name(), raygen_proto::ERROR_DOMAIN, HashMap::new());
        match self {
            Self::Invalid(violations) => {
                for violation in violations {
                    details.add_bad_request_violation(&violation.field, &violation.description);
                }
            }
            Self::ModelNotFound { name, .. } => {
                details.set_resource_info("raygen.v1.Model", name, "", self.to_string());
            }
            _ => {}
        }
        if let Some(delay) = self.retry_after() {
            details.set_retry_info(Some(delay));
        }
        details
    }

    /// When to try again, where that helps.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ModelNotReady { soon: true, .. }
            | Self::ReceivingFull { .. }
            | Self::Engine(EngineError::ShuttingDown) => Some(RETRY_ELSEWHERE),
            Self::RateLimited { retry_after, .. } | Self::Engine(EngineError::QueueFull { retry_after, .. }) => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, reason) = error.kind();
        let mut metadata = MetadataMap::new();
        if let (Code::ResourceExhausted, Some(retry_after)) = (code, error.retry_after()) {
            // What gRPC clients with a retry policy obey (gRFC A6).
            let millis = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(millis));
        }
        Self::with_error_details_and_metadata(code, error.to_string(), error.details(reason), metadata)
    }
}

fn first(violations: &[Violation]) -> String {
    let Some(violation) = violations.first() else {
        return "the request is not valid".to_owned();
    };
    let more = match violations.len() - 1 {
        0 => String::new(),
        count => format!(" (and {count} more)"),
    };
    format!("{}: {}{more}", violation.field, violation.description)
}

fn not_found(name: &str, available: &[String]) -> String {
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    format!(
        "there is no model {name:?}; names are models/{{model}} or models/{{model}}/versions/{{version}}, and there are: {available}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_comes_with_its_path_and_reason() {
        let error = ApiError::from(Violation::new("impression", Reason::ImpressionBlank, "must not be blank"));
        let status = Status::from(error);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "impression: must not be blank");
        let info = status.get_details_error_info().expect("info");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("IMPRESSION_BLANK", "raygen"));
        let request = status.get_details_bad_request().expect("bad request");
        assert_eq!(request.field_violations[0].field, "impression");
    }

    #[test]
    fn a_full_queue_says_when_to_retry_in_both_ways() {
        let retry_after = Duration::from_millis(1500);
        let status = Status::from(ApiError::from(EngineError::QueueFull { capacity: 64, retry_after }));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_retry_info().and_then(|info| info.retry_delay), Some(retry_after));
        assert_eq!(status.metadata().get("grpc-retry-pushback-ms").and_then(|v| v.to_str().ok()), Some("1500"));
    }
}
