//! Logs to stderr, traces to a collector. No event ever holds an impression: it may be a patient's report.

pub mod traces;

use std::fmt::{self, Display, Formatter};
use std::io::{IsTerminal, Write};
use std::panic::{Location, PanicHookInfo};
use std::str::FromStr;

use tracing_subscriber::filter::{EnvFilter, LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as log};

use traces::Traces;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

// === impl LogFormat ===

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is not a log format; there are text and json")),
        }
    }
}

impl Display for LogFormat {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Whether a filter can be used.
///
/// # Errors
/// It cannot; the text says why.
pub fn check_filter(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| format!("{filter:?} is not a log filter: {error}"))
}

/// From now on a panic says its thread and its place on stderr, and nothing else: its own text may hold an impression.
pub fn keep_panics_to_their_place() {
    std::panic::set_hook(Box::new(|panic| {
        // A stderr that is gone must not make a panic of a panic.
        let _ = writeln!(std::io::stderr(), "{}", panic_line(panic));
    }));
}

fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map(Location::to_string).unwrap_or_else(|| "an unknown place".to_owned());
    format!("thread {:?} panicked at {place}; this is a bug of the server", thread.name().unwrap_or("without a name"))
}

/// Starts logging to stderr, and tracing where there is somewhere to send it. A second call changes nothing.
pub fn start(filter: &str, format: LogFormat, traces: Option<&Traces>) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = log::layer()
        // A stderr that is gone must not end the server.
        .log_internal_errors(false)
        .with_writer(BoxMakeWriter::new(std::io::stderr));
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.with_ansi(false).json().boxed(),
    };
    let spans = traces.map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(traces::TARGET, LevelFilter::TRACE))
    });
    // Somebody else's subscriber, as in tests, is left in place.
    let _ = tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[test]
    fn a_panic_says_where_it_was_and_nothing_of_its_text() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let before = std::panic::take_hook();
        let kept = Arc::clone(&lines);
        std::panic::set_hook(Box::new(move |panic| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(panic_line(panic));
        }));
        let named = std::thread::Builder::new().name("raygen-engine".to_owned());
        let ended = named.spawn(|| panic!("the impression of a patient")).expect("a thread").join();
        std::panic::set_hook(before);
        assert!(ended.is_err());
        // Other tests may panic on purpose meanwhile.
        let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = lines.iter().find(|line| line.contains("telemetry/mod.rs")).expect("a line");
        assert!(ours.starts_with("thread \"raygen-engine\" panicked at "), "{ours}");
        assert!(!ours.contains("patient"), "{ours}");
    }
}
