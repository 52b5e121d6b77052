//! `raygen bench`: many clients at once, or a given rate; how long until the first preview and the result.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use raygen_client::wire::{GenerateRequest, OutputOptions, PreviewMode, SamplingParams};
use raygen_client::{Client, ClientError, GenerateEvent};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::files::{check_target, read, write_whole};
use super::{Session, failure::Failure};

mod report;

use report::{Outcome, Report};

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// Requests under way at once, each followed by the next.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// Instead: begin so many requests a second, whether or not earlier ones have ended.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Requests in all.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: u64,
    /// Instead: begin requests for so many seconds.
    #[arg(long, value_name = "SECONDS", conflicts_with = "requests")]
    duration: Option<f64>,
    /// Requests that are sent first and not counted.
    #[arg(long, default_value_t = 1, value_name = "N")]
    warm_up: u64,
    /// Step counts, taken in turn; the model's own unless given.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    steps: Vec<u32>,
    /// Impressions, one a line, taken in turn; otherwise each finding that the model was trained on.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// The model; the server's default unless given.
    #[arg(long, default_value = "", hide_default_value = true)]
    model: String,
    /// Pictures of each request.
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: u32,
    /// Classifier-free guidance.
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f32>,
    /// What to ask for while a picture emerges.
    #[arg(long, value_enum, default_value = "decoded")]
    previews: Previews,
    /// Give a request up after so many seconds.
    #[arg(long, default_value_t = 120.0, value_name = "SECONDS")]
    timeout: f64,
    /// Also write the result as JSON.
    #[arg(long, value_name = "FILE")]
    json_out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Previews {
    None,
    Tokens,
    Approximate,
    Decoded,
}

/// What each request of a bench is made from.
struct Mix {
    prompts: Vec<String>,
    steps: Vec<u32>,
    template: GenerateRequest,
    patience: Duration,
}

// === impl BenchArguments ===

impl BenchArguments {
    fn seconds(name: &str, value: f64) -> Result<Duration, Failure> {
        Duration::try_from_secs_f64(value)
            .ok()
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| Failure::Usage(format!("--{name} {value}: must be a number of seconds above 0")))
    }

    /// Time between two beginnings, where a rate is asked for.
    fn interval(&self) -> Result<Option<Duration>, Failure> {
        let Some(rate) = self.rate else { return Ok(None) };
        let interval = Duration::try_from_secs_f64(1.0 / rate).ok().filter(|interval| !interval.is_zero());
        match interval {
            Some(interval) => Ok(Some(interval)),
            None => Err(Failure::Usage(format!("--rate {rate}: must be a number of requests a second above 0"))),
        }
    }

    async fn mix(&self, client: &Client) -> Result<Mix, Failure> {
        let prompts = match &self.prompts {
            Some(path) => {
                let text = String::from_utf8(read(path)?)
                    .map_err(|_| Failure::Usage(format!("{}: is not UTF-8 text", path.display())))?;
                text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
            }
            None => {
                let model = match self.model.as_str() {
                    "" => client.models().await?.into_iter().next(),
                    name => Some(client.model(name).await?),
                };
                model.map(|model| model.supported_terms).unwrap_or_default()
            }
        };
        if prompts.is_empty() {
            return Err(Failure::Usage(
                "there are no impressions to ask for; give some with --prompts FILE".to_owned(),
            ));
        }
        let preview_mode = match self.previews {
            Previews::None => PreviewMode::None,
            Previews::Tokens => PreviewMode::Tokens,
            Previews::Approximate => PreviewMode::Approximate,
            Previews::Decoded => PreviewMode::Decoded,
        };
        let output = OutputOptions { preview_mode: preview_mode.into(), ..OutputOptions::default() };
        Ok(Mix {
            prompts,
            steps: self.steps.clone(),
            template: GenerateRequest {
                model: self.model.clone(),
                sample_count: self.count,
                output: Some(output),
                sampling: Some(SamplingParams { guidance_scale: self.guidance, ..SamplingParams::default() }),
                ..GenerateRequest::default()
            },
            patience: Self::seconds("timeout", self.timeout)?,
        })
    }
}

// === impl Mix ===

impl Mix {
    /// The n-th request: every combination of step count and impression comes round.
    fn request(&self, n: u64) -> GenerateRequest {
        let at = |len: usize| usize::try_from(n % len as u64).unwrap_or_default();
        let mut request = self.template.clone();
        request.impression.clone_from(&self.prompts[at(self.prompts.len())]);
        if let Some(sampling) = &mut request.sampling {
            sampling.seed = Some(n);
            sampling.step_count = match self.steps.as_slice() {
                [] => None,
                steps => Some(steps[at(steps.len())]),
            };
        }
        request
    }

    async fn measure(&self, client: &Client, n: u64) -> Outcome {
        let began = Instant::now();
        let mut outcome = Outcome::default();
        let ended = timeout(self.patience, follow(client, self.request(n), began, &mut outcome)).await;
        outcome.total = began.elapsed();
        outcome.failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(kind(&error)),
            Err(_) => Some("given up after --timeout".to_owned()),
        };
        outcome
    }
}

async fn follow(
    client: &Client,
    request: GenerateRequest,
    began: Instant,
    outcome: &mut Outcome,
) -> Result<(), ClientError> {
    let mut generation = client.generate(request).await?;
    outcome.admitted = Some(began.elapsed());
    while let Some(event) = generation.next().await? {
        match event {
            GenerateEvent::Admitted(_) => {}
            GenerateEvent::Progress(progress) => {
                outcome.previews += 1;
                if outcome.first_preview.is_none() && progress.preview.is_some() {
                    outcome.first_preview = Some(began.elapsed());
                }
            }
            GenerateEvent::Sample(_) => outcome.pictures += 1,
            GenerateEvent::Summary(summary) => outcome.summary = Some(summary),
        }
    }
    Ok(())
}

/// What a failure is counted under.
fn kind(error: &ClientError) -> String {
    match error {
        ClientError::Refused(refusal) => refusal.reason.clone().unwrap_or_else(|| refusal.code_name().to_owned()),
        ClientError::Unreachable { .. } => "connection lost".to_owned(),
        other => other.to_string(),
    }
}

/// Runs the command.
pub(crate) async fn run(session: &Session, arguments: BenchArguments) -> Result<(), Failure> {
    if let Some(path) = &arguments.json_out {
        check_target(path)?;
    }
    let interval = arguments.interval()?;
    let limit = arguments.duration.map(|seconds| BenchArguments::seconds("duration", seconds)).transpose()?;
    let client = session.connect().await?;
    let mix = std::sync::Arc::new(arguments.mix(&client).await?);
    for n in 0..arguments.warm_up {
        // A server that refuses already now is no server to measure.
        follow(&client, mix.request(n), Instant::now(), &mut Outcome::default()).await?;
    }

    let began = Instant::now();
    let (outcomes, mut measured) = mpsc::unbounded_channel();
    let enough = |n: u64| match limit {
        Some(limit) => began.elapsed() >= limit,
        None => n >= arguments.requests,
    };
    let mut begun = 0;
    let mut under_way = 0;
    let mut report = Report::default();
    // Shown on a terminal only.
    let progress = if session.output.is_json() { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    loop {
        let room = interval.is_some() || under_way < u64::from(arguments.concurrency);
        let more = !enough(begun);
        if !more && under_way == 0 {
            break;
        }
        let due = match interval {
            Some(interval) => began + interval.saturating_mul(u32::try_from(begun).unwrap_or(u32::MAX)),
            None => began,
        };
        tokio::select! {
            biased;
            Some(outcome) = measured.recv() => {
                under_way -= 1;
                report.add(outcome);
                progress.set_message(format!("{} of {begun} requests have ended", report.requests()));
            }
            () = sleep_until(due), if more && room => {
                let (client, mix, outcomes) = (client.clone(), std::sync::Arc::clone(&mix), outcomes.clone());
                let n = begun;
                tokio::spawn(async move {
                    // The receiver lives as long as requests are under way.
                    let _ = outcomes.send(mix.measure(&client, n).await);
                });
                begun += 1;
                under_way += 1;
            }
        }
    }
    progress.finish_and_clear();
    report.finish(began.elapsed());
    let value = || -> Value {
        json!({
            "event": "bench", "endpoint": session.endpoint,
            "concurrency": interval.is_none().then_some(arguments.concurrency), "rate": arguments.rate,
            "steps": arguments.steps, "count": arguments.count, "result": report.value(),
        })
    };
    if let Some(path) = &arguments.json_out {
        write_whole(path, format!("{:#}\n", value()).as_bytes())?;
    }
    session.output.result(|| report.words(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impressions_and_step_counts_come_round_and_seeds_differ() {
        let mix = Mix {
            prompts: vec!["a".to_owned(), "b".to_owned()],
            steps: vec![4, 8, 16],
            template: GenerateRequest { sampling: Some(SamplingParams::default()), ..GenerateRequest::default() },
            patience: Duration::from_secs(1),
        };
        let seen: std::collections::BTreeSet<_> = (0..6)
            .map(|n| {
                let request = mix.request(n);
                let sampling = request.sampling.unwrap_or_default();
                assert_eq!(sampling.seed, Some(n));
                (request.impression, sampling.step_count)
            })
            .collect();
        assert_eq!(seen.len(), 6);
    }
}
