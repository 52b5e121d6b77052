//! A server of one's own for one command: started on a free port for a bundle, stopped when the command ends.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::failure::Failure;

/// Longest wait for a bundle to be read and warmed up.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Lines of the server's words that are repeated when it does not start.
const REPEATED_LINES: usize = 8;
/// What the server says once it serves; log lines before that may name other addresses.
const READY: &str = "is ready on";
const LOCAL_ADDRESS: &str = "127.0.0.1:";
/// What every setting's variable begins with.
const SETTINGS_PREFIX: &str = "RAYGEN_";

/// A running server; ended when dropped.
#[derive(Debug)]
pub(crate) struct LocalServer {
    child: Child,
    endpoint: String,
}

impl LocalServer {
    /// Starts the `raygen-server` beside this program, or else the one in PATH, for a bundle, and waits until it is ready.
    pub(crate) async fn start(bundle: &Path) -> Result<Self, Failure> {
        if !bundle.is_dir() {
            return Err(Failure::Usage(format!("{}: is no folder; name a bundle", bundle.display())));
        }
        let program = find()?;
        let failed = |problem: String| Failure::NotJudged(format!("{}: {problem}", program.display()));
        let mut child = command(&program, bundle, env::vars_os().map(|(name, _)| name))
            .spawn()
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        let (sender, mut lines) = mpsc::channel(64);
        drain(child.stdout.take(), sender.clone());
        drain(child.stderr.take(), sender);
        let mut said = Vec::new();
        let ready = timeout(START_LIMIT, async {
            while let Some(line) = lines.recv().await {
                if let Some(address) = address(&line) {
                    return Some(address);
                }
                said.push(line);
            }
            None
        });
        match ready.await {
            Ok(Some(address)) => {
                // The pipes are read to the end, so that the server never waits for a reader.
                tokio::spawn(async move { while lines.recv().await.is_some() {} });
                Ok(Self { child, endpoint: format!("http://{address}") })
            }
            Ok(None) => {
                let last: Vec<&str> = said.iter().rev().take(REPEATED_LINES).rev().map(String::as_str).collect();
                Err(failed(format!("did not start with {}:\n{}", bundle.display(), last.join("\n"))))
            }
            Err(_) => Err(failed(format!("was not ready with {} after {} s", bundle.display(), START_LIMIT.as_secs()))),
        }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Ends it. It holds nothing that would be lost.
    pub(crate) async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

/// How the server is started. Settings in the environment are meant for a server of the user's: they could give this one
/// a port that is taken, another device or another model.
fn command(program: &Path, bundle: &Path, variables: impl Iterator<Item = OsString>) -> Command {
    let mut command = Command::new(program);
    command.args(["--listen", "127.0.0.1:0", "--models"]).arg(bundle);
    for name in variables.filter(|name| name.to_string_lossy().starts_with(SETTINGS_PREFIX)) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The server beside this program, or else in PATH.
fn find() -> Result<PathBuf, Failure> {
    let name = format!("raygen-server{}", env::consts::EXE_SUFFIX);
    let own = env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned()));
    let path = env::var_os("PATH").unwrap_or_default();
    own.into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(&name))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Failure::NotJudged(format!(
                "{name} is neither beside raygen nor in PATH; build it with: cargo build --release"
            ))
        })
}

fn drain(pipe: Option<impl AsyncRead + Unpin + Send + 'static>, sender: mpsc::Sender<String>) {
    let Some(pipe) = pipe else { return };
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
}

/// The address in the server's ready line.
fn address(line: &str) -> Option<String> {
    let (_, ready) = line.split_once(READY)?;
    let (_, rest) = ready.split_once(LOCAL_ADDRESS)?;
    let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
    Some(format!("{LOCAL_ADDRESS}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_gives_the_port_that_was_free() {
        let line = "raygen-server is ready on http://127.0.0.1:40123 with models/default/versions/1 on cpu";
        assert_eq!(address(line).as_deref(), Some("127.0.0.1:40123"));
        assert_eq!(address("metrics on http://127.0.0.1:9090"), None);
        assert_eq!(address("raygen-server is ready on http://127.0.0.1:0"), None);
    }

    #[test]
    fn settings_in_the_environment_do_not_reach_it() {
        let names = ["RAYGEN_HTTP", "PATH", "RAYGEN_ENGINE__MAX_SLOTS"];
        let command = command(Path::new("raygen-server"), Path::new("bundle"), names.into_iter().map(OsString::from));
        let mut changed: Vec<_> = command.as_std().get_envs().collect();
        changed.sort();
        assert_eq!(changed, [("RAYGEN_ENGINE__MAX_SLOTS".as_ref(), None), ("RAYGEN_HTTP".as_ref(), None)]);
    }

    #[tokio::test]
    async fn a_bundle_that_is_not_there_is_a_usage_error() {
        let failure = LocalServer::start(Path::new("no/such/bundle")).await.err();
        assert_eq!(failure.map(|failure| failure.exit_code()), Some(2));
    }
}
