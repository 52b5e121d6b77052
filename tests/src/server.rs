//! A real server process on a free port.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::{Failure, TestResult, Wire, programs};

/// Longest wait for a server to be ready, or to end.
const LIMIT: Duration = Duration::from_secs(120);
/// What the server's ready line says before its address.
const READY: &str = "is ready on http://";

/// Runs a server until its own input ends, which it does with the test program, however that ends. The shell gives up its
/// outputs, so that they end with the server's.
const UNTIL_WE_END: &str = r#""$@" & server=$!; exec >&- 2>&-; read -r nothing; kill -KILL "$server""#;

/// The server that tests share which only call it. Starting it takes longer than most of them: it lives as long as the test
/// program.
static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();

/// A server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: String,
    ready_line: String,
    /// Reads standard error to its end.
    errors: Option<JoinHandle<String>>,
}

impl Server {
    /// Starts a server with these arguments beside `--listen`, and waits until it is ready.
    ///
    /// # Errors
    /// It ends before that, with what it said.
    pub fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> TestResult<Self> {
        Self::ready(spawn(programs::command("raygen-server")?, arguments)?)
    }

    /// Waits for the ready line.
    fn ready(mut child: Child) -> TestResult<Self> {
        let (sender, ready) = mpsc::channel();
        let output = child.stdout.take().ok_or("no standard output")?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains(READY) {
                    // A test that gave up waiting no longer listens.
                    let _ = sender.send(line);
                }
            }
        });
        let errors = collect(child.stderr.take().ok_or("no standard error")?);
        let mut server = Self { child, address: String::new(), ready_line: String::new(), errors: Some(errors) };
        match ready.recv_timeout(LIMIT) {
            Ok(line) => {
                let address = line.split_once(READY).map_or("", |(_, rest)| rest);
                server.address = address.split_whitespace().next().unwrap_or_default().to_owned();
                server.ready_line = line;
                Ok(server)
            }
            Err(_) => {
                // The shell around a shared server kills it when its input ends.
                match server.child.stdin.take() {
                    Some(input) => drop(input),
                    None => server.child.kill()?,
                }
                Err(format!("the server did not become ready: {}", server.last_words()).into())
            }
        }
    }

    /// The server that tests share which only call it: the embedded model on CPU.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn shared() -> TestResult<&'static Self> {
        let start = || {
            let mut shell = programs::without_settings(Command::new("sh"));
            shell.args(["-c", UNTIL_WE_END, "sh"]).arg(programs::program("raygen-server")?).stdin(Stdio::piped());
            Self::ready(spawn(shell, ["--device", "cpu"])?)
        };
        let shared = SHARED.get_or_init(|| start().map_err(|error| error.to_string()));
        shared.as_ref().map_err(|problem| Failure::from(problem.as_str()))
    }

    /// Starts a server that should refuse to, and gives its exit code and what it said.
    ///
    /// # Errors
    /// It goes on running.
    pub fn refuses<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> TestResult<(i32, String)> {
        let mut child = spawn(programs::command("raygen-server")?, arguments)?;
        let errors = collect(child.stderr.take().ok_or("no standard error")?);
        let mut server = Self { child, address: String::new(), ready_line: String::new(), errors: Some(errors) };
        let status = server.wait()?;
        Ok((status.code().unwrap_or(-1), server.last_words()))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The line that it printed once it was ready.
    pub fn ready_line(&self) -> &str {
        &self.ready_line
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn wire(&self) -> TestResult<Wire> {
        Wire::connect(self.endpoint()).await
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// There is no `kill` here, or no such process.
    pub fn terminate(&self) -> TestResult {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err("kill failed".into()) }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on for two minutes.
    pub fn wait(&mut self) -> TestResult<ExitStatus> {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        Err("the server goes on running".into())
    }

    fn last_words(&mut self) -> String {
        self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn<S: AsRef<OsStr>>(mut command: Command, arguments: impl IntoIterator<Item = S>) -> TestResult<Child> {
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    Ok(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until the pipe broke is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
