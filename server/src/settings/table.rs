//! The settings one by one: name, meaning, how each is read and shown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Settings;

/// Most slots and places in the queue: more is a mistake, not a plan.
const MOST: usize = 65_536;
/// Longest time to wait for work in flight, or for a reader.
const LONGEST_WAIT: u64 = 86_400;

/// One setting: its name in the file, what it is, and how it is read and shown.
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) read: fn(&mut Settings, &str) -> Result<(), String>,
    pub(super) show: fn(&Settings) -> String,
}

/// All of them, in the order in which they are shown.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        help: "Address of gRPC and gRPC-web.",
        read: |s, v| address(v).map(|a| s.listen = a),
        show: |s| quoted(s.listen),
    },
    Setting {
        name: "http",
        help: "Address of /metrics, /livez and /readyz; empty is off.",
        read: |s, v| optional(v, address).map(|a| s.http = a),
        show: |s| quoted(s.http.map(|a| a.to_string()).unwrap_or_default()),
    },
    Setting {
        name: "models",
        help: "A bundle, or a directory of {model}/{version}/ bundles; empty is the embedded model.",
        read: |s, v| optional(v, |v| Ok(PathBuf::from(v))).map(|p| s.models = p),
        show: |s| quoted(s.models.as_ref().map(|p| p.display().to_string()).unwrap_or_default()),
    },
    Setting {
        name: "default_model",
        help: "What requests get that name no model: {model} or {model}/{version}; empty lets the server choose.",
        read: |s, v| optional(v, |v| Ok(v.to_owned())).map(|m| s.default_model = m),
        show: |s| quoted(s.default_model.clone().unwrap_or_default()),
    },
    Setting {
        name: "device",
        help: "auto, cpu, cuda or cuda:N.",
        read: |s, v| v.parse().map(|d| s.device = d),
        show: |s| quoted(s.device),
    },
    Setting {
        name: "dtype",
        help: "auto, f32, bf16 or f16.",
        read: |s, v| v.parse().map(|d| s.dtype = d),
        show: |s| quoted(s.dtype),
    },
    Setting {
        name: "max_message_bytes",
        help: "Largest request message, in bytes; pictures in it may have 32 MiB and 16 Mi pixels.",
        read: |s, v| number(v, 1024, 1 << 30).map(|n| s.max_message_bytes = n),
        show: |s| s.max_message_bytes.to_string(),
    },
    Setting {
        name: "allow_insecure",
        help: "Listen on other addresses than loopback without TLS, or without knowing who calls.",
        read: |s, v| switch(v).map(|b| s.allow_insecure = b),
        show: |s| s.allow_insecure.to_string(),
    },
    Setting {
        name: "idle_timeout_seconds",
        help: "How long a connection without a call stays open.",
        read: |s, v| number(v, 1, LONGEST_WAIT).map(|n| s.port.idle_timeout = Duration::from_secs(n)),
        show: |s| s.port.idle_timeout.as_secs().to_string(),
    },
    Setting {
        name: "sender_timeout_seconds",
        help: "How long a client may send nothing of a message that it has begun.",
        read: |s, v| number(v, 1, LONGEST_WAIT).map(|n| s.port.sender_timeout = Duration::from_secs(n)),
        show: |s| s.port.sender_timeout.as_secs().to_string(),
    },
    Setting {
        name: "reader_timeout_seconds",
        help: "How long a client may read nothing of its stream before its request is cancelled.",
        read: |s, v| number(v, 1, LONGEST_WAIT).map(|n| s.reader_timeout = Duration::from_secs(n)),
        show: |s| s.reader_timeout.as_secs().to_string(),
    },
    Setting {
        name: "drain_timeout_seconds",
        help: "How long work in flight may go on after SIGTERM.",
        read: |s, v| number(v, 0, LONGEST_WAIT).map(|n| s.drain_timeout = Duration::from_secs(n)),
        show: |s| s.drain_timeout.as_secs().to_string(),
    },
    Setting {
        name: "limits.max_connections",
        help: "Connections at once; one more is closed as soon as it is there.",
        read: |s, v| number(v, 1, MOST).map(|n| s.port.max_connections = n),
        show: |s| s.port.max_connections.to_string(),
    },
    Setting {
        name: "limits.max_streams",
        help: "Calls at once on one connection.",
        read: |s, v| number(v, 1, 65_536).map(|n| s.port.max_streams = n),
        show: |s| s.port.max_streams.to_string(),
    },
    Setting {
        name: "limits.max_header_bytes",
        help: "Headers of one request together, in bytes.",
        read: |s, v| number(v, 1024, 1 << 20).map(|n| s.port.max_header_bytes = n),
        show: |s| s.port.max_header_bytes.to_string(),
    },
    Setting {
        name: "limits.max_receiving_bytes",
        help: "Bytes of all request messages that are on their way in or have not been read yet.",
        read: |s, v| number(v, 1 << 20, 1 << 40).map(|n| s.port.max_receiving_bytes = n),
        show: |s| s.port.max_receiving_bytes.to_string(),
    },
    Setting {
        name: "tls.cert",
        help: "The server's certificate chain in PEM; empty is no TLS.",
        read: |s, v| optional(v, |v| Ok(PathBuf::from(v))).map(|p| s.tls_cert = p),
        show: |s| quoted_path(s.tls_cert.as_deref()),
    },
    Setting {
        name: "tls.key",
        help: "Its private key in PEM.",
        read: |s, v| optional(v, |v| Ok(PathBuf::from(v))).map(|p| s.tls_key = p),
        show: |s| quoted_path(s.tls_key.as_deref()),
    },
    Setting {
        name: "tls.client_ca",
        help: "Authorities in PEM; with them a client must have a certificate of one.",
        read: |s, v| optional(v, |v| Ok(PathBuf::from(v))).map(|p| s.tls_client_ca = p),
        show: |s| quoted_path(s.tls_client_ca.as_deref()),
    },
    Setting {
        name: "keys.file",
        help: "API keys; empty lets everybody do everything.",
        read: |s, v| optional(v, |v| Ok(PathBuf::from(v))).map(|p| s.keys_file = p),
        show: |s| quoted_path(s.keys_file.as_deref()),
    },
    Setting {
        name: "keys.reread_seconds",
        help: "How often the key file and the certificates are read again.",
        read: |s, v| number(v, 1, LONGEST_WAIT).map(|n| s.security_reread = Duration::from_secs(n)),
        show: |s| s.security_reread.as_secs().to_string(),
    },
    Setting {
        name: "engine.max_slots",
        help: "Samples that run at once, as rows of one batch.",
        read: |s, v| number(v, 1, MOST).map(|n| s.engine.max_slots = n),
        show: |s| s.engine.max_slots.to_string(),
    },
    Setting {
        name: "engine.queue_capacity",
        help: "Requests that may wait for a slot; more are refused at once.",
        read: |s, v| number(v, 1, MOST).map(|n| s.engine.queue_capacity = n),
        show: |s| s.engine.queue_capacity.to_string(),
    },
    Setting {
        name: "traces.endpoint",
        help: "Collector that gets traces over OTLP's gRPC, such as http://127.0.0.1:4317; empty sends none.",
        read: |s, v| optional(v, |v| Ok(v.to_owned())).map(|e| s.traces_endpoint = e),
        show: |s| quoted(s.traces_endpoint.clone().unwrap_or_default()),
    },
    Setting {
        name: "traces.percent",
        help: "Percent of traces kept, where the caller does not say.",
        read: |s, v| number(v, 0, 100).map(|n| s.traces_percent = n),
        show: |s| s.traces_percent.to_string(),
    },
    Setting {
        name: "log.filter",
        help: "Which log lines to write, such as info or raygen_server=debug.",
        read: |s, v| crate::telemetry::check_filter(v).map(|()| s.log_filter = v.to_owned()),
        show: |s| quoted(&s.log_filter),
    },
    Setting {
        name: "log.format",
        help: "text or json.",
        read: |s, v| v.parse().map(|f| s.log_format = f),
        show: |s| quoted(s.log_format),
    },
];

fn address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| format!("{value:?} is not an address; write ip:port, such as 127.0.0.1:50051"))
}

fn optional<T>(value: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if value.is_empty() { Ok(None) } else { read(value).map(Some) }
}

fn number<T>(value: &str, least: T, most: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display + Copy,
{
    match value.parse::<T>() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(format!("{value:?} is not a whole number between {least} and {most}")),
    }
}

fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{value:?} is neither true nor false"))
}

fn quoted_path(path: Option<&Path>) -> String {
    quoted(path.map(|path| path.display().to_string()).unwrap_or_default())
}

fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}
