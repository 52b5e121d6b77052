//! The `raygen-server` program.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use raygen_model::image::DecodeLimits;
use raygen_server::api::Api;
use raygen_server::engine::Engine;
use raygen_server::repository::{self, Placement, Repository};
use raygen_server::security::{Keys, Security, Tls, hash_key};
use raygen_server::serve::{ServeOptions, serve};
use raygen_server::settings::Settings;
use raygen_server::telemetry::traces::Traces;
use raygen_server::{http, telemetry};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Large tensors come and go with every step; the system's allocator would give their memory back each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads for work that is neither the engine's nor the network's: reading and writing pictures.
const BLOCKING_THREADS: usize = 16;

/// Generates, encodes, decodes and scores chest X-rays over gRPC and gRPC-web. Not for diagnosis.
#[derive(Parser)]
#[command(name = "raygen-server", version)]
struct Arguments {
    /// Settings in TOML; see --print-config. Environment variables (RAYGEN_LISTEN, RAYGEN_ENGINE__MAX_SLOTS) and
    /// options win over it.
    #[arg(long, value_name = "FILE", env = "RAYGEN_CONFIG")]
    config: Option<PathBuf>,
    /// Address of gRPC and gRPC-web [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Address of /metrics, /livez and /readyz [default: off].
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// A bundle, or a directory of {model}/{version}/ bundles [default: the embedded model].
    #[arg(long, value_name = "DIR")]
    models: Option<String>,
    /// auto, cpu or cuda[:N] [default: auto].
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// auto, f32, bf16 or f16 [default: auto].
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
    /// Read an API key from standard input, print the line of it for keys.file, and end.
    #[arg(long)]
    hash_key: bool,
    /// Print the settings as they came together, and end.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr changes nothing of the outcome.
            let _ = writeln!(std::io::stderr(), "raygen-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.hash_key {
        return print_hash();
    }
    let options = [
        ("listen", &arguments.listen),
        ("http", &arguments.http),
        ("models", &arguments.models),
        ("device", &arguments.device),
        ("dtype", &arguments.dtype),
    ];
    let given = options.into_iter().filter_map(|(name, value)| value.clone().map(|value| (name, value)));
    // Variables that are not UTF-8 are none of ours.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = Settings::layered(arguments.config.as_deref(), environment, given)?;
    if arguments.print_config {
        return std::io::stdout().write_all(settings.to_toml().as_bytes()).context("--print-config");
    }
    settings.check()?;
    telemetry::keep_panics_to_their_place();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("the runtime cannot be started")?;
    // Traces are sent by tasks of the runtime.
    let traces = {
        let _inside = runtime.enter();
        let ratio = settings.traces_percent as f64 / 100.0;
        let to = |endpoint: &String| Traces::to(endpoint, ratio).map_err(|problem| anyhow!(problem));
        settings.traces_endpoint.as_ref().map(to).transpose()?
    };
    telemetry::start(&settings.log_filter, settings.log_format, traces.as_ref());
    let outcome = runtime.block_on(run_server(settings));
    if let Some(traces) = traces {
        traces.finish();
    }
    // A blocked thread must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// From standard input, so that no key is in the list of processes or the shell's history.
fn print_hash() -> Result<()> {
    let mut key = String::new();
    std::io::stdin().read_line(&mut key).context("--hash-key: standard input")?;
    let line = hash_key(key.trim_end_matches(['\r', '\n'])).map_err(|problem| anyhow!("--hash-key: {problem}"))?;
    writeln!(std::io::stdout(), "{line}").context("--hash-key")
}

fn security(settings: &Settings) -> Result<Security> {
    let tls = settings.tls_files().map(Tls::open).transpose()?.map(Arc::new);
    let keys = settings.keys_file.as_ref().map(Keys::open).transpose()?.map(Arc::new);
    Ok(Security { tls, keys, reread: settings.security_reread })
}

async fn run_server(settings: Settings) -> Result<()> {
    let stop = stop_signal()?;
    let security = security(&settings)?;
    // Ports first: a port that is taken is told before a minute of loading.
    let listener = bind("listen", settings.listen).await?;
    let http_listener = match settings.http {
        Some(address) => Some(bind("http", address).await?),
        None => None,
    };

    let placement = Placement::open(settings.device, settings.dtype).map_err(|problem| anyhow!("device: {problem}"))?;
    let (models, loading_on) = (settings.models.clone(), placement.clone());
    let repository = tokio::task::spawn_blocking(move || repository::load(models.as_deref(), &loading_on)).await??;
    let repository = match &settings.default_model {
        Some(name) => repository.with_default(name).context("default_model")?,
        None => repository,
    };

    let engine = Engine::start(settings.engine).context("the engine's thread cannot be started")?;
    let address = listener.local_addr().context("listen")?;
    let scheme = if security.tls.is_some() { "https" } else { "http" };
    let announcement = announcement(scheme, address, &repository, &placement);
    let api = Api::new(engine, repository.into(), DecodeLimits::default()).with_reader_timeout(settings.reader_timeout);
    if let Some(listener) = http_listener {
        let api = api.clone();
        tokio::spawn(async move {
            if let Err(error) = http::serve(listener, api).await {
                tracing::error!(%error, "the HTTP port failed");
            }
        });
    }
    // Whoever started us may have stopped listening: that is no reason to end.
    let _ = writeln!(std::io::stdout(), "{announcement}");
    let options = ServeOptions {
        max_message_bytes: settings.max_message_bytes,
        drain_timeout: settings.drain_timeout,
        security,
        port: settings.port,
    };
    serve(listener, api, options, stop).await?;
    Ok(())
}

async fn bind(setting: &'static str, address: std::net::SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{setting}: cannot listen on {address}"))
}

/// The line that says all is ready, and one to try.
fn announcement(scheme: &str, address: std::net::SocketAddr, repository: &Repository, placement: &Placement) -> String {
    let models: Vec<&str> = repository.ready().map(|model| model.name.as_str()).collect();
    // Cargo tells its children.
    let program =
        if std::env::var_os("CARGO").is_some() { "cargo run --release -p raygen-client --" } else { "raygen" };
    let endpoint = match address {
        usual if usual == Settings::default().listen && scheme == "http" => String::new(),
        other => format!(" --endpoint {scheme}://{other}"),
    };
    format!(
        "raygen-server is ready on {scheme}://{address} with {} on {placement}\n\
         Try: {program}{endpoint} generate \"Pneumonia with pleural effusion\" --out film.png",
        models.join(", ")
    )
}

/// Ends with the first SIGTERM or Ctrl-C; the second one ends the process.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be caught")?;
    let (told, stop) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping; once more ends at once");
        let _ = told.send(());
        either(&mut terminate, &mut interrupt).await;
        std::process::exit(130);
    });
    Ok(async move {
        // The sender lives until it has sent.
        let _ = stop.await;
    })
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
