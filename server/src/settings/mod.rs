//! Settings: file, then environment, then command line; each documented, checked and named in its errors.

mod table;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::EngineSettings;
use crate::repository::{DeviceChoice, DtypeChoice};
use crate::security::TlsFiles;
use crate::telemetry::LogFormat;
use crate::transport::PortLimits;
use table::{SETTINGS, Setting};

/// What every environment variable of ours begins with.
const PREFIX: &str = "RAYGEN_";

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
    /// Limits of the port.
    pub port: PortLimits,
    /// The server's certificate chain; TLS is off without it.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Authorities of clients' certificates.
    pub tls_client_ca: Option<PathBuf>,
    /// API keys; everybody may do everything without them.
    pub keys_file: Option<PathBuf>,
    /// How often certificates and keys are read again.
    pub security_reread: Duration,
    /// Whether strangers may reach a server that does not know who they are.
    pub allow_insecure: bool,
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
            port: PortLimits::default(),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            keys_file: None,
            security_reread: Duration::from_secs(10),
            allow_insecure: false,
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
    /// The settings do not go together.
    #[error("{0}")]
    Together(String),
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

    /// Whether the settings go together: TLS is whole, and no stranger reaches a server that does not ask who they are,
    /// unless that was asked for.
    ///
    /// # Errors
    /// They do not; the text says which, and what to do.
    pub fn check(&self) -> Result<(), SettingsError> {
        let together = |problem: String| Err(SettingsError::Together(problem));
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return together("tls.cert and tls.key go together: set both, or neither".to_owned());
        }
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            return together("tls.client_ca needs tls.cert and tls.key".to_owned());
        }
        let knows_callers = self.keys_file.is_some() || self.tls_client_ca.is_some();
        let secure = self.tls_cert.is_some() && knows_callers;
        if self.listen.ip().is_loopback() || secure || self.allow_insecure {
            return Ok(());
        }
        together(format!(
            "listen: {} can be reached from other machines: set tls.cert and tls.key, and keys.file or tls.client_ca; or, \
             where something in front does that work, allow_insecure = true",
            self.listen
        ))
    }

    /// Where the certificates are, if anywhere.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return None };
        Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: self.tls_client_ca.clone() })
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
            ("RAYGEN_ALLOW_INSECURE", "yes", "allow_insecure"),
            ("RAYGEN_LIMITS__MAX_STREAMS", "0", "limits.max_streams"),
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
    fn strangers_reach_only_what_knows_them_or_was_opened_on_purpose() {
        let check = |pairs: &[(&str, &str)]| {
            let settings = Settings::layered(None, env(pairs), []).expect("settings");
            settings.check().map_err(|error| error.to_string())
        };
        let everywhere = ("RAYGEN_LISTEN", "0.0.0.0:50051");
        let (cert, key) = (("RAYGEN_TLS__CERT", "c.pem"), ("RAYGEN_TLS__KEY", "k.pem"));
        let (keys, ca) = (("RAYGEN_KEYS__FILE", "keys.toml"), ("RAYGEN_TLS__CLIENT_CA", "ca.pem"));
        for open in [&[everywhere][..], &[everywhere, cert, key], &[everywhere, keys], &[("RAYGEN_LISTEN", "[::]:1")]] {
            let problem = check(open).expect_err("refused");
            assert!(problem.starts_with("listen: ") && problem.contains("allow_insecure"), "{problem}");
        }
        for safe in [
            &[][..],
            &[("RAYGEN_LISTEN", "127.0.0.1:1"), keys],
            &[("RAYGEN_LISTEN", "[::1]:1")],
            &[everywhere, cert, key, keys],
            &[everywhere, cert, key, ca],
            &[everywhere, ("RAYGEN_ALLOW_INSECURE", "true")],
        ] {
            assert_eq!(check(safe), Ok(()), "{safe:?}");
        }
        assert!(check(&[cert]).expect_err("half").contains("tls.key"));
        assert!(check(&[ca]).expect_err("half").contains("tls.client_ca"));
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
