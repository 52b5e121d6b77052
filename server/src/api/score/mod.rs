//! Score: a configuration, then films with their impressions; how well the model predicts them, and what the text helps.

mod config;
mod item;
mod samples;
mod summary;

use std::sync::Arc;

use raygen_model::text::TextTokens;
use raygen_proto::v1;
use raygen_proto::v1::score_request::{Message, ScoreItem};
use raygen_proto::v1::score_response::{Event, ItemScore, RatioScore};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::errors::{ApiError, Reason, Violation};
use super::{Api, Call, Deadline, Messages};
use crate::engine::{EngineError, LoadedModel, RowScore};

use config::Config;
use item::{Matched, Prepared};
use summary::Totals;

/// Scores on their way to a client that reads late.
const UNREAD: usize = 64;
/// Items that may wait for a different impression to be scored against.
const MOST_PENDING: usize = 1024;

type Sender = mpsc::Sender<Result<v1::ScoreResponse, Status>>;

/// A scoring under way.
struct Scoring {
    api: Api,
    config: Config,
    deadline: Deadline,
    totals: Totals,
    /// The latest impression, and the latest one before it that differs.
    latest: Option<Text>,
    before: Option<Text>,
    /// The first items, as long as all impressions were the same.
    pending: Vec<Matched>,
    items: u64,
}

/// An impression, and what the model reads of it.
#[derive(Clone)]
struct Text {
    text: String,
    tokens: TextTokens,
}

/// Why a scoring ended before its summary.
enum Stop {
    Error(ApiError),
    /// The client's stream broke, with the transport's status.
    Broken(Status),
    /// The reader is gone.
    Gone,
}

impl<E: Into<ApiError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

pub(super) async fn serve(
    api: Api,
    request: Request<Streaming<v1::ScoreRequest>>,
) -> Result<Response<Messages<v1::ScoreResponse>>, Status> {
    let mut call = api.calls.begin("Score");
    let deadline = Deadline::of(&request);
    let mut requests = request.into_inner();
    let config = begin(&api, deadline, &mut requests).await.inspect_err(|status| call.end(status.code()))?;
    let (sender, receiver) = mpsc::channel(UNREAD);
    let scoring = Scoring {
        totals: Totals::new(&config),
        api,
        config,
        deadline,
        latest: None,
        before: None,
        pending: Vec::new(),
        items: 0,
    };
    tokio::spawn(scoring.run(requests, sender, call));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// The configuration: the first message, and the only one that is refused before the response begins.
async fn begin(api: &Api, deadline: Deadline, requests: &mut Streaming<v1::ScoreRequest>) -> Result<Config, Status> {
    drop(api.engine.try_enter(0, deadline.instant()).map_err(ApiError::from)?);
    let missing = || {
        let description = "must be the first message: the configuration, then the items";
        Status::from(ApiError::from(Violation::new("config", Reason::FieldInvalid, description)))
    };
    let first = requests.message().await?.ok_or_else(missing)?;
    let Some(Message::Config(config)) = first.message else {
        return Err(missing());
    };
    let model = api.repository.resolve(&config.model)?;
    Ok(Config::check(&config, model)?)
}

// === impl Scoring ===

impl Scoring {
    async fn run(mut self, mut requests: Streaming<v1::ScoreRequest>, sender: Sender, mut call: Call) {
        let deadline = self.deadline;
        let outcome = tokio::select! {
            biased;
            () = sender.closed() => Err(Stop::Gone),
            () = deadline.passed() => Err(EngineError::DeadlineExceeded.into()),
            outcome = self.all(&mut requests, &sender) => outcome,
        };
        let status = match outcome {
            Ok(()) => return call.end(Code::Ok),
            Err(Stop::Gone) => return,
            Err(Stop::Broken(status)) => status,
            Err(Stop::Error(error)) => error.into(),
        };
        call.end(status.code());
        // A reader that left meanwhile needs no status.
        let _ = sender.send(Err(status)).await;
    }

    async fn all(&mut self, requests: &mut Streaming<v1::ScoreRequest>, sender: &Sender) -> Result<(), Stop> {
        while let Some(request) = requests.message().await.map_err(Stop::Broken)? {
            match request.message {
                Some(Message::Item(item)) => self.item(item, sender).await?,
                Some(Message::Config(_)) => {
                    let description = "came twice; open another stream for another configuration";
                    return Err(Violation::new("config", Reason::FieldInvalid, description).into());
                }
                None => {
                    let description = "is missing; send an item";
                    return Err(Violation::new("message", Reason::FieldInvalid, description).into());
                }
            }
        }
        // Everyone had the same impression: what is left to compare with is no text at all.
        if !self.pending.is_empty() {
            let tokens = self.config.model.model.tokenize("").map_err(EngineError::from)?;
            self.settle(&tokens, sender).await?;
        }
        let summary = self.totals.summary();
        send(sender, Event::Summary(summary)).await
    }

    async fn item(&mut self, item: ScoreItem, sender: &Sender) -> Result<(), Stop> {
        let index = self.items;
        self.items += 1;
        let prepared = item::prepare(&self.api, &self.config, index, item).await?;
        let Prepared { id, text, .. } = &prepared;
        let (id, text) = (id.clone(), text.clone());
        let matched = item::matched(&self.api, &self.config, self.deadline, prepared).await?;

        if self.latest.as_ref().is_none_or(|latest| latest.text != text.text) {
            self.before = self.latest.replace(text.clone());
        }
        self.pending.push(matched);
        if let Some(other) = self.before.clone() {
            self.settle_against(&other, &text, sender).await?;
        } else if self.pending.len() >= MOST_PENDING {
            let tokens = self.config.model.model.tokenize("").map_err(EngineError::from)?;
            self.settle(&tokens, sender).await?;
        }
        if self.config.sends_samples() {
            samples::send(&self.api, &self.config, self.deadline, (index, &id, &text), sender).await?;
        }
        Ok(())
    }

    /// Those that waited had the other impression, so they are compared with this one, and this one with the other.
    async fn settle_against(&mut self, other: &Text, newest: &Text, sender: &Sender) -> Result<(), Stop> {
        let last = self.pending.pop();
        self.settle(&newest.tokens, sender).await?;
        self.pending.extend(last);
        self.settle(&other.tokens, sender).await
    }

    /// Scores all that wait under a text that is not theirs, and sends them.
    async fn settle(&mut self, mismatched: &TextTokens, sender: &Sender) -> Result<(), Stop> {
        for matched in std::mem::take(&mut self.pending) {
            let wrong = item::under(&self.api, &self.config, self.deadline, &matched.film, mismatched.clone()).await?;
            let score = score_of(&self.config, &matched, &wrong);
            self.totals.add(&score, &matched.right);
            send(sender, Event::Item(score)).await?;
        }
        Ok(())
    }
}

fn score_of(config: &Config, matched: &Matched, wrong: &[RowScore]) -> ItemScore {
    let mean = |scores: &[RowScore]| scores.iter().map(|score| score.nll).sum::<f64>() / scores.len().max(1) as f64;
    let nll = mean(&matched.right);
    let ratios = config.mask_ratios.iter().zip(&matched.right);
    ItemScore {
        id: matched.film.id.clone(),
        ratios: ratios
            .map(|(&mask_ratio, score)| RatioScore { mask_ratio, nll: score.nll, accuracy: score.accuracy })
            .collect(),
        nll,
        text_gain: mean(wrong) - nll,
        reconstruction_psnr: matched.film.psnr,
    }
}

async fn send(sender: &Sender, event: Event) -> Result<(), Stop> {
    sender.send(Ok(v1::ScoreResponse { event: Some(event) })).await.map_err(|_| Stop::Gone)
}

/// Whether a model has what scoring needs.
fn complete(model: &Arc<LoadedModel>) -> Result<(), ApiError> {
    let info = model.info();
    super::validate::has(info.has_transformer, "transformer", model)?;
    super::validate::has(info.has_text_encoder, "text encoder", model)?;
    Ok(())
}
