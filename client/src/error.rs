//! What can go wrong between a client and a server, with everything the server said about it.

use std::{error::Error, fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Why a call did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is not a URL that can be connected to.
    #[error("{endpoint} is no endpoint: {problem}")]
    BadEndpoint {
        /// As given.
        endpoint: String,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// Nothing answers at the endpoint, or the connection broke.
    #[error("cannot reach {endpoint}: {problem}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the transport said.
        problem: String,
    },
    /// The server answered, and refused or failed.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server broke the protocol: a stream ended early, or a message lacked a part.
    #[error("the server's answer is incomplete: {0}; it may be of another version than this client")]
    Incomplete(&'static str),
}

/// An error status of the server.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The server's message.
    pub message: String,
    /// The machine-readable reason (`FIELD_INVALID`, `QUEUE_FULL`, ...), where the server gives one.
    pub reason: Option<String>,
    /// The fields of the request that were refused.
    pub violations: Vec<FieldViolation>,
    /// How long to wait before the call is tried again, where trying again helps.
    pub retry_after: Option<Duration>,
}

/// A field of the request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path in the request message, such as `sampling.temperature`.
    pub field: String,
    /// What is wrong, in words.
    pub description: String,
}

impl ClientError {
    /// The server's refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Sorts a status: the transport's own (made here, not by a server) means that the server cannot be reached.
    pub(crate) fn from_status(endpoint: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone());
        let from_transport = status.source().is_some() || (status.code() == Code::Unavailable && reason.is_none());
        if from_transport {
            let problem = innermost(status).unwrap_or_else(|| status.message().to_owned());
            return Self::Unreachable { endpoint: endpoint.to_owned(), problem };
        }
        let violations = details.bad_request().map_or_else(Vec::new, |bad_request| {
            let violations = bad_request.field_violations.iter();
            violations.map(|v| FieldViolation { field: v.field.clone(), description: v.description.clone() }).collect()
        });
        Self::Refused(Box::new(Refusal {
            code: status.code(),
            message: status.message().to_owned(),
            reason,
            violations,
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }))
    }
}

/// `sampling.temperature: must be between 0 and 10, got NaN (FIELD_INVALID); try again in 2.0 s`
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.violations.is_empty() {
            f.write_str(if self.message.is_empty() { self.code.description() } else { &self.message })?;
        }
        for (place, violation) in self.violations.iter().enumerate() {
            let separator = if place == 0 { "" } else { "; " };
            // Some descriptions repeat the field.
            let description = violation.description.strip_prefix(&violation.field).map(str::trim_start);
            let description = description.unwrap_or(&violation.description);
            write!(f, "{separator}{}: {description}", violation.field)?;
        }
        match &self.reason {
            Some(reason) => write!(f, " ({reason})")?,
            None => write!(f, " ({})", self.code_name())?,
        }
        match self.retry_after {
            Some(delay) => write!(f, "; try again in {:.1} s", delay.as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl Refusal {
    /// The code as gRPC writes it, such as `INVALID_ARGUMENT`.
    #[must_use]
    pub fn code_name(&self) -> &'static str {
        match self.code {
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
}

/// The deepest cause: transport errors wrap "connection refused" in three layers of "transport error".
pub(crate) fn innermost(error: &dyn Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn status(code: Code, details: ErrorDetails) -> Status {
        Status::with_error_details(code, "invalid request", details)
    }

    fn refusal(status: &Status) -> Refusal {
        match ClientError::from_status("http://server", status) {
            ClientError::Refused(refusal) => *refusal,
            other => panic!("not a refusal: {other}"),
        }
    }

    #[test]
    fn a_refused_field_is_said_in_plain_words() {
        let mut details =
            ErrorDetails::with_bad_request_violation("sampling.temperature", "must be between 0 and 10, got NaN");
        details.set_error_info("FIELD_INVALID", "raygen", std::collections::HashMap::new());
        let refusal = refusal(&status(Code::InvalidArgument, details));
        assert_eq!(refusal.to_string(), "sampling.temperature: must be between 0 and 10, got NaN (FIELD_INVALID)");
        assert_eq!((refusal.code, refusal.reason.as_deref()), (Code::InvalidArgument, Some("FIELD_INVALID")));
        assert_eq!(refusal.violations[0].field, "sampling.temperature");
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        details.set_error_info("QUEUE_FULL", "raygen", std::collections::HashMap::new());
        let refusal = refusal(&status(Code::ResourceExhausted, details));
        assert_eq!(refusal.to_string(), "invalid request (QUEUE_FULL); try again in 1.5 s");
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_server_that_shuts_down_refused_but_a_bare_unavailable_is_unreachable() {
        let details = ErrorDetails::with_error_info("SHUTTING_DOWN", "raygen", std::collections::HashMap::new());
        assert_eq!(refusal(&status(Code::Unavailable, details)).reason.as_deref(), Some("SHUTTING_DOWN"));
        let error = ClientError::from_status("http://server", &Status::unavailable("connection refused"));
        assert!(
            matches!(&error, ClientError::Unreachable { problem, .. } if problem == "connection refused"),
            "{error}"
        );
    }
}
