//! The command line: arguments, dispatch, exit codes.

mod bench;
mod decode;
mod emergence;
mod encode;
mod failure;
mod files;
mod generate;
mod grid_view;
mod local_server;
mod models;
mod output;
mod progress;
mod score;
mod token_file;

use std::{fs, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use raygen_client::{Client, ConnectOptions};

use self::{failure::Failure, output::Output};

/// Chest X-rays from radiology impressions. Every picture is synthetic and never for diagnosis.
///
/// Exit codes: 0 done, 1 a file could not be written here, 2 usage, 3 refused by the server, 4 unreachable,
/// 130 interrupted. `score` with a gate: 0 passed, 1 failed, 2 could not be judged.
#[derive(Debug, Parser)]
#[command(name = "raygen", version, max_term_width = 110)]
struct Arguments {
    /// Where the server listens.
    #[arg(long, global = true, env = "RAYGEN_ENDPOINT", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    endpoint: String,
    /// Authorities to trust instead of the system's, in PEM; for https:// endpoints.
    #[arg(long, global = true, env = "RAYGEN_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Certificate of this client, in PEM, where the server asks for one.
    #[arg(long, global = true, env = "RAYGEN_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, global = true, env = "RAYGEN_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// API key; the environment keeps it out of the list of processes.
    #[arg(long, global = true, env = "RAYGEN_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// Write machine-readable JSON lines to standard output.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate pictures from an impression, and watch the token grid fill.
    Generate(generate::GenerateArguments),
    /// Encode a picture into its token grid, or an impression into its embedding.
    Encode(encode::EncodeArguments),
    /// Decode a token file into a picture.
    Decode(decode::DecodeArguments),
    /// Score films with their impressions under a model, and judge the result by a gate.
    Score(score::ScoreArguments),
    /// Send many requests and tell how long they take.
    Bench(bench::BenchArguments),
    /// List the models of the server.
    Models,
}

/// Where to call, and how to talk.
struct Session {
    endpoint: String,
    options: ConnectOptions,
    output: Output,
}

impl Arguments {
    /// Reads the certificates.
    fn connect_options(&self) -> Result<ConnectOptions, Failure> {
        let read = |option: &str, path: &PathBuf| {
            fs::read(path).map_err(|error| Failure::Usage(format!("{option}: {}: {error}", path.display())))
        };
        let tls_identity = match (&self.tls_cert, &self.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((read("--tls-cert", cert)?, read("--tls-key", key)?)),
            _ => return Err(Failure::Usage("--tls-cert and --tls-key go together".to_owned())),
        };
        let tls_ca = self.tls_ca.as_ref().map(|path| read("--tls-ca", path)).transpose()?;
        Ok(ConnectOptions { tls_ca, tls_identity, api_key: self.api_key.clone() })
    }
}

impl Session {
    async fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect_with(&self.endpoint, self.options.clone()).await?)
    }
}

/// Parses the arguments, runs the command, and says what became of it.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    let options = match arguments.connect_options() {
        Ok(options) => options,
        Err(failure) => return output.failure(&failure),
    };
    let session = Session { endpoint: arguments.endpoint, options, output };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&Failure::Local(format!("cannot start: {error}"))),
    };
    let result = runtime.block_on(async {
        tokio::select! {
            result = dispatch(&session, arguments.command) => result,
            // Dropping the command cancels its calls, puts the cursor back and stops a server that it started.
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    });
    // A blocking read of a film must not hold up the exit.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.failure(&failure),
    }
}

async fn dispatch(session: &Session, command: Command) -> Result<(), Failure> {
    match command {
        Command::Generate(arguments) => generate::run(session, arguments).await,
        Command::Encode(arguments) => encode::run(session, arguments).await,
        Command::Decode(arguments) => decode::run(session, arguments).await,
        Command::Score(arguments) => score::run(session, arguments).await,
        Command::Bench(arguments) => bench::run(session, arguments).await,
        Command::Models => models::run(session).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn numbers_that_only_the_server_can_judge_reach_it() {
        let parsed = Arguments::try_parse_from([
            "raygen",
            "generate",
            "Edema.",
            "--out",
            "a.png",
            "--temperature",
            "NaN",
            "--guidance",
            "-1e9",
            "--steps",
            "0",
        ]);
        let Ok(Arguments { command: Command::Generate(generate), .. }) = parsed else { panic!("{parsed:?}") };
        let sampling = generate.sampling();
        assert!(sampling.temperature.is_some_and(f32::is_nan));
        assert_eq!((sampling.guidance_scale, sampling.step_count), (Some(-1e9), Some(0)));
        assert_eq!((sampling.seed, sampling.choice_temperature), (None, None));
    }
}
