//! `raygen score`: films with their impressions in, metrics, reports and a gate's verdict out.

mod gate;
mod items;
mod junit;
mod report;
mod table;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use raygen_client::{
    Client, ScoreEvent,
    wire::{ItemScore, Metric, ModelState, ScoreConfig},
};
use serde_json::json;

use self::{
    gate::Gate,
    items::Films,
    report::{Item, Report},
};
use super::{
    Session,
    failure::Failure,
    files::{check_target, write_whole},
    local_server::LocalServer,
};

const GATE_HELP: &str = "\
Gate file (TOML): one table for each metric that is judged.

    [nll]
    max = 5.2           # fails above
    [text_gain]
    min = 0.05          # fails below
    [reconstruction_psnr]
    min = 28.0
    max_drop = 0.5      # fails when worse than --baseline by more than this
    [\"auroc/Pneumonia\"]  # a name with a slash is quoted
    min = 0.7

Metrics: nll, accuracy, text_gain, reconstruction_psnr, and what else the server's summary holds.

Exit codes: 0 passed (or there was no gate), 1 the gate failed, 2 it could not be judged: a metric is
missing or undefined, a protocol differs from the baseline's, a film or the server failed.
Without a gate, a server that refuses is 3, and one that cannot be reached 4.";

/// Arguments of `raygen score`.
#[derive(Debug, Args)]
#[command(after_long_help = GATE_HELP)]
pub(crate) struct ScoreArguments {
    /// The manifest (CSV): path, split, impression, labels, ...
    #[arg(long, value_name = "MANIFEST")]
    data: PathBuf,
    /// Which films. Where the manifest names no split, a tenth of the patients are val and the others train.
    #[arg(long, value_enum, default_value = "val")]
    split: SplitName,
    /// models/{model} or models/{model}/versions/{version}; needed where the server has several.
    #[arg(long, value_name = "MODEL", conflicts_with = "bundle")]
    model: Option<String>,
    /// Score this bundle: starts a server for it, and stops it afterwards.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Seed of the masks.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A former --json-out to compare with.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Thresholds to judge by; see --help.
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Write the gate's checks as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
    /// Write a table in Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Which films of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SplitName {
    /// Those that were learned from.
    Train,
    /// Those that were looked at while choosing settings.
    Val,
    /// Those that are kept for the end.
    Test,
    /// All.
    All,
}

/// Runs the command.
pub(crate) async fn run(session: &Session, arguments: ScoreArguments) -> Result<(), Failure> {
    let judging = arguments.gate.is_some();
    let result = score_and_judge(session, &arguments).await;
    match result {
        // A gate that something kept from being judged neither passed nor failed.
        Err(Failure::Client(error)) if judging => Err(Failure::NotJudged(error.to_string())),
        Err(Failure::Local(problem)) if judging => Err(Failure::NotJudged(problem)),
        other => other,
    }
}

async fn score_and_judge(session: &Session, arguments: &ScoreArguments) -> Result<(), Failure> {
    // Everything that can be wrong here is found before the first film is sent.
    let gate = arguments.gate.as_deref().map(Gate::read).transpose()?;
    let baseline = arguments.baseline.as_deref().map(report::read_baseline).transpose()?;
    let targets = [&arguments.junit, &arguments.json_out, &arguments.markdown];
    targets.into_iter().flatten().try_for_each(|path| check_target(path))?;
    let films = Films::select(&arguments.data, arguments.split, session.output)?;

    let server = match &arguments.bundle {
        Some(bundle) => Some(LocalServer::start(bundle).await?),
        None => None,
    };
    let client = match &server {
        // One's own server knows no keys, and is to see none.
        Some(server) => Client::connect(server.endpoint()).await?,
        None => session.connect().await?,
    };
    let model = resolve(&client, arguments.model.as_deref()).await?;
    let config = ScoreConfig { model: model.clone(), seed: arguments.seed, ..ScoreConfig::default() };
    let (items, metrics) = score(session, &client, config, films).await?;
    if let Some(server) = server {
        server.stop().await;
    }

    let mut report = Report::new(model, &items, &metrics);
    if let Some(gate) = gate {
        report.gate = Some(gate.judge(&report.metrics, baseline.as_ref())?);
    }
    write_reports(arguments, &report, baseline.as_ref())?;
    session.output.result(
        || table::words(&report, baseline.as_ref()),
        || json!({"event": "summary", "model": report.model, "metrics": report.metrics, "gate": report.gate}),
    );
    match &report.gate {
        Some(verdict) if !verdict.passed => Err(Failure::GateFailed),
        _ => Ok(()),
    }
}

/// The resolved name of the model, so that the report says what was scored. Without a name the server must have one model.
async fn resolve(client: &Client, model: Option<&str>) -> Result<String, Failure> {
    if let Some(model) = model {
        return Ok(client.model(model).await?.name);
    }
    let models = client.models().await?;
    let ready: Vec<String> =
        models.into_iter().filter(|model| model.state() == ModelState::Ready).map(|model| model.name).collect();
    match ready.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Failure::NotJudged("the server has no model that is ready".to_owned())),
        several => {
            Err(Failure::Usage(format!("the server has several models; choose with --model: {}", several.join(", "))))
        }
    }
}

async fn score(
    session: &Session,
    client: &Client,
    config: ScoreConfig,
    films: Films,
) -> Result<(Vec<ItemScore>, Vec<Metric>), Failure> {
    let bar = progress_bar(session, films.count());
    let (stream, reader) = films.read();
    let mut scoring = client.score(config, stream).await?;
    let mut scored = Vec::new();
    while let Some(event) = scoring.next().await? {
        match event {
            ScoreEvent::Item(item) => {
                session.output.event(|| json!({"event": "item", "item": Item::from(&item)}));
                scored.push(item);
                bar.inc(1);
            }
            ScoreEvent::Sample(_) => {}
            ScoreEvent::Summary { metrics, .. } => {
                bar.finish_and_clear();
                // The stream of films also ends where one cannot be read: that is no whole score.
                return match reader.failure() {
                    Some(problem) => Err(Failure::NotJudged(problem)),
                    None => Ok((scored, metrics)),
                };
            }
        }
    }
    Err(Failure::NotJudged("the server sent no summary".to_owned()))
}

fn progress_bar(session: &Session, count: usize) -> ProgressBar {
    if session.output.is_json() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count as u64);
    if let Ok(style) = ProgressStyle::with_template("{pos} of {len} films  {bar:24}  {per_sec}, {eta} left") {
        bar.set_style(style.progress_chars("━━╌"));
    }
    bar
}

fn write_reports(arguments: &ScoreArguments, report: &Report, baseline: Option<&Report>) -> Result<(), Failure> {
    if let Some(path) = &arguments.json_out {
        let mut text = serde_json::to_string_pretty(report)
            .map_err(|error| Failure::Local(format!("{}: cannot be written: {error}", path.display())))?;
        text.push('\n');
        write_whole(path, text.as_bytes())?;
    }
    if let Some(path) = &arguments.markdown {
        write_whole(path, table::markdown(report, baseline).as_bytes())?;
    }
    if let Some(path) = &arguments.junit {
        write_whole(path, junit::xml(report).as_bytes())?;
    }
    Ok(())
}
