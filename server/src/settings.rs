//! Settings: file, then environment, then command line; each documented, checked and named in its errors.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::EngineSettings;
use crate::repository::{DeviceChoice, DtypeChoice};
use crate::telemetry::LogFormat;

/// What every environment variable of ours begins with.
const PREFIX: &str = "RAYGEN_";
/// Most slots and places in the queue: more is a mistake, not a plan.
const MOST: usize = 65_536;
/// Longest time to wait for work in flight, or for a reader.
const LONGEST_WAIT: u64 = 86_400;

/// All settings of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Address of gRPC and gRPC-web.
    pub listen: SocketAddr,
    /// Address of /metrics, /livez and /readyz, if any.
    pub http: Option<SocketAddr>,
    /// A bundle, or a directory of `{model}/{version}/`; `None` is the embedded model.
    pub models: Option<PathBuf>,
    /// What requests get that name no model.
    pub default_model: Option<String>,
    /// Where models run.
    pub device: DeviceChoice,
    /// What they compute in.
    pub dtype: DtypeChoice,
    /// Sizes of the engine.
    pub engine: EngineSettings,
    /// Largest request message, in bytes.
    pub max_message_bytes: usize,
    /// How long a client may read nothing before its request is cancelled.
    pub reader_timeout: Duration,
    /// How long work in flight may go on after SIGTERM.
    pub drain_timeout: Duration,
    /// Where traces go, over OTLP's gRPC; `None` sends none.
    pub traces_endpoint: Option<String>,
    /// Percent of the traces that are kept where the caller does not say.
    pub traces_percent: u64,
    /// Which log lines to write.
    pub log_filter: String,
    /// How to write them.
    pub log_format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            http: None,
            models: None,
            default_model: None,
            device: DeviceChoice::Auto,
            dtype: DtypeChoice::Auto,
            engine: EngineSettings::default(),
            max_message_bytes: 36 << 20,
            reader_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
            traces_endpoint: None,
            traces_percent: 100,
            log_filter: "info".to_owned(),
            log_format: LogFormat::Text,
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("--config: {path}: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// No setting has this name.
    #[error("{origin}: there is no setting {name}; there are {}", names())]
    Unknown {
        /// Where it was read.
        origin: String,
        /// Its name.
        name: String,
    },
    /// The value does not do.
    #[error("{origin}: {name}: {problem}")]
    Value {
        /// Where it was read.
        origin: String,
        /// The setting.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// One setting: its name in the file, what it is, and how it is read and shown.
struct Setting {
    name: &'static str,
    help: &'static str,
    read: fn(&mut Settings, &str) -> Result<(), String>,
    show: fn(&Settings) -> String,
}

const SETTINGS: &[Setting] = &[
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

// === impl Settings ===

impl Settings {
    /// Layers file, environment and command line over the defaults. The command line is pairs of setting and value.
    ///
    /// # Errors
    /// The first setting that cannot be, and where it was read.
    pub fn layered(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        command_line: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        if let Some(path) = file {
            settings.apply_file(path)?;
        }
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            // Variables that are not settings are left alone: orchestrators put theirs under any name.
            let name = name.to_lowercase().replace("__", ".");
            if let Some(setting) = find(&name) {
                settings.apply(setting, &value, &variable)?;
            }
        }
        for (name, value) in command_line {
            let origin = format!("--{name}");
            let setting = find(name).ok_or_else(|| unknown(&origin, name))?;
            settings.apply(setting, &value, &origin)?;
        }
        Ok(settings)
    }

    fn apply_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        let failed = |problem: String| SettingsError::File { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| failed(error.to_string()))?;
        let mut values = Vec::new();
        flatten("", &table, &mut values);
        let origin = path.display().to_string();
        for (name, value) in values {
            let setting = find(&name).ok_or_else(|| unknown(&origin, &name))?;
            self.apply(setting, &value, &origin)?;
        }
        Ok(())
    }

    fn apply(&mut self, setting: &Setting, value: &str, origin: &str) -> Result<(), SettingsError> {
        (setting.read)(self, value).map_err(|problem| SettingsError::Value {
            origin: origin.to_owned(),
            name: setting.name,
            problem,
        })
    }

    /// The settings as a file that gives them back.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut table = "";
        for setting in SETTINGS {
            let (section, name) = setting.name.rsplit_once('.').unwrap_or(("", setting.name));
            if section != table {
                table = section;
                let _ = write!(text, "\n[{section}]\n");
            }
            let _ = writeln!(text, "# {}\n{name} = {}", setting.help, (setting.show)(self));
        }
        text
    }
}

fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

fn unknown(origin: &str, name: &str) -> SettingsError {
    SettingsError::Unknown { origin: origin.to_owned(), name: name.to_owned() }
}

fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

/// Values by their dotted names; a list or a date is passed on as text, and refused as such.
fn flatten(prefix: &str, table: &toml::Table, values: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, values),
            toml::Value::String(text) => values.push((name, text.clone())),
            other => values.push((name, other.to_string())),
        }
    }
}

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

fn quoted(value: impl std::fmt::Display) -> String {
    toml::Value::String(value.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let file = written("listen = \"127.0.0.1:1\"\ndevice = \"cpu\"\n[engine]\nmax_slots = 2\nqueue_capacity = 3\n");
        let settings = Settings::layered(
            Some(file.path()),
            env(&[("RAYGEN_LISTEN", "127.0.0.1:2"), ("RAYGEN_ENGINE__MAX_SLOTS", "5"), ("PATH", "x")]),
            [("listen", "127.0.0.1:3".to_owned())],
        )
        .expect("settings");
        assert_eq!(settings.listen.port(), 3);
        assert_eq!(settings.engine, EngineSettings { max_slots: 5, queue_capacity: 3 });
        assert_eq!(settings.device, DeviceChoice::Cpu);
    }

    #[test]
    fn errors_name_the_setting_and_where_it_was_read() {
        let of = |name: &str, value: &str| {
            Settings::layered(None, env(&[(name, value)]), []).expect_err("refused").to_string()
        };
        for (variable, value, name) in [
            ("RAYGEN_LISTEN", "localhost", "listen"),
            ("RAYGEN_ENGINE__MAX_SLOTS", "0", "engine.max_slots"),
            ("RAYGEN_ENGINE__QUEUE_CAPACITY", "many", "engine.queue_capacity"),
            ("RAYGEN_DEVICE", "tpu", "device"),
            ("RAYGEN_DTYPE", "f8", "dtype"),
            ("RAYGEN_LOG__FORMAT", "xml", "log.format"),
            ("RAYGEN_DRAIN_TIMEOUT_SECONDS", "-1", "drain_timeout_seconds"),
            ("RAYGEN_READER_TIMEOUT_SECONDS", "0", "reader_timeout_seconds"),
        ] {
            let error = of(variable, value);
            assert!(error.starts_with(&format!("{variable}: {name}: ")), "{error}");
        }
    }

    #[test]
    fn a_misspelt_name_in_a_file_is_refused_and_one_in_the_environment_is_somebody_elses() {
        let file = written("lisen = \"127.0.0.1:1\"\n");
        let error = Settings::layered(Some(file.path()), [], []).expect_err("refused");
        assert!(error.to_string().contains("there is no setting lisen; there are listen, "), "{error}");
        assert!(
            Settings::layered(None, env(&[("RAYGEN_ENDPOINT", "http://x"), ("RAYGEN_PORT", "tcp://")]), []).is_ok()
        );
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let settings = Settings::layered(
            None,
            env(&[("RAYGEN_MODELS", "a \"b\" \\c"), ("RAYGEN_HTTP", "127.0.0.1:9"), ("RAYGEN_DEVICE", "cuda:3")]),
            [],
        )
        .expect("settings");
        let file = written(&settings.to_toml());
        assert_eq!(Settings::layered(Some(file.path()), [], []).expect("read back"), settings);
    }
}
