//! Score: a configuration, then films with their impressions; how well the model predicts them, and what the text helps.

mod config;
mod item;
mod samples;
mod summary;

use std::sync::Arc;

use raygen_model::text::TextTokens;
use raygen_model::transformer::View;
use raygen_proto::v1;
use raygen_proto::v1::score_request::{Message, ScoreItem};
use raygen_proto::v1::score_response::{Event, ItemScore, RatioScore, Summary};
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::errors::{ApiError, Reason, Violation};
use super::reply::{self, Gone, Reply};
use super::{Api, Deadline, Messages};
use crate::engine::{EngineError, LoadedModel, RowScore, Work};

use config::Config;
use item::{Matched, Prepared};
use summary::Totals;

/// Scores on their way to a client that reads late.
const UNREAD: usize = 64;
/// Items that may wait for a different impression to be scored against.
const MOST_PENDING: usize = 1024;

type Replying = Reply<v1::ScoreResponse>;

/// A scoring under way.
struct Scoring {
    api: Api,
    config: Config,
    deadline: Deadline,
    totals: Totals,
    /// The latest impression, and the latest one before it that the model reads as another one.
    latest: Option<Text>,
    before: Option<Text>,
    /// The first items, as long as all impressions were the same.
    pending: Vec<Matched>,
    items: u64,
}

/// An impression, what the model reads of it, and the view of its film.
#[derive(Clone)]
struct Text {
    text: String,
    tokens: TextTokens,
    view: Option<View>,
}

/// Why a scoring ended before its summary.
enum Stop {
    Error(ApiError),
    /// The client's stream broke, with the transport's status.
    Broken(Status),
    /// The reader is gone, or does not read.
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
    let mut call = api.calls.begin("Score").of(&request);
    let deadline = Deadline::of(&request);
    let mut requests = request.into_inner();
    let config = begin(&api, deadline, &mut requests).await.inspect_err(|status| call.end(status.code()))?;
    let (reply, reading) = reply::channel(call, None, UNREAD, api.reader_timeout, is_summary);
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
    tokio::spawn(scoring.run(requests, reply).in_current_span());
    Ok(Response::new(Box::pin(reading)))
}

/// The configuration: the first message, and the only one that is refused before the response begins.
async fn begin(api: &Api, deadline: Deadline, requests: &mut Streaming<v1::ScoreRequest>) -> Result<Config, Status> {
    drop(api.engine.try_enter(Work::NONE, deadline.instant()).map_err(ApiError::from)?);
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
    async fn run(mut self, mut requests: Streaming<v1::ScoreRequest>, reply: Replying) {
        let deadline = self.deadline;
        let outcome = tokio::select! {
            biased;
            () = reply.closed() => Err(Stop::Gone),
            () = deadline.passed() => Err(EngineError::DeadlineExceeded.into()),
            outcome = self.all(&mut requests, &reply) => outcome,
        };
        let last = match outcome {
            Ok(summary) => Ok(v1::ScoreResponse { event: Some(Event::Summary(summary)) }),
            Err(Stop::Gone) => return,
            Err(Stop::Broken(status)) => Err(status),
            Err(Stop::Error(error)) => Err(error.into()),
        };
        // Nothing is worth keeping while the reader takes its time.
        drop((self, requests));
        reply.finish(last).await;
    }

    async fn all(&mut self, requests: &mut Streaming<v1::ScoreRequest>, reply: &Replying) -> Result<Summary, Stop> {
        while let Some(request) = requests.message().await.map_err(Stop::Broken)? {
            match request.message {
                Some(Message::Item(item)) => self.item(item, reply).await?,
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
            self.settle(&tokens, reply).await?;
        }
        Ok(self.totals.summary())
    }

    async fn item(&mut self, item: ScoreItem, reply: &Replying) -> Result<(), Stop> {
        let index = self.items;
        self.items += 1;
        let prepared = item::prepare(&self.api, &self.config, index, item).await?;
        let Prepared { id, text, .. } = &prepared;
        let (id, text) = (id.clone(), text.clone());
        let matched = item::matched(&self.api, &self.config, self.deadline, prepared).await?;

        if self.latest.as_ref().is_none_or(|latest| latest.tokens.ids != text.tokens.ids) {
            self.before = self.latest.replace(text.clone());
        }
        self.pending.push(matched);
        if let Some(other) = self.before.clone() {
            self.settle_against(&other, &text, reply).await?;
        } else if self.pending.len() >= MOST_PENDING {
            let tokens = self.config.model.model.tokenize("").map_err(EngineError::from)?;
            self.settle(&tokens, reply).await?;
        }
        if self.config.sends_samples() {
            samples::send(&self.api, &self.config, self.deadline, (index, &id, &text), reply).await?;
        }
        Ok(())
    }

    /// Those that waited had the other impression, so they are compared with this one, and this one with the other.
    async fn settle_against(&mut self, other: &Text, newest: &Text, reply: &Replying) -> Result<(), Stop> {
        let last = self.pending.pop();
        self.settle(&newest.tokens, reply).await?;
        self.pending.extend(last);
        self.settle(&other.tokens, reply).await
    }

    /// Scores all that wait under a text that is not theirs, and sends them.
    async fn settle(&mut self, mismatched: &TextTokens, reply: &Replying) -> Result<(), Stop> {
        for matched in std::mem::take(&mut self.pending) {
            let wrong = item::under(&self.api, &self.config, self.deadline, &matched.film, mismatched.clone()).await?;
            let score = score_of(&self.config, &matched, &wrong);
            self.totals.add(&score, &matched.right);
            send(reply, Event::Item(score)).await?;
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

async fn send(reply: &Replying, event: Event) -> Result<(), Stop> {
    reply.send(Ok(v1::ScoreResponse { event: Some(event) })).await.map_err(|Gone| Stop::Gone)
}

/// The message behind which nothing comes.
fn is_summary(response: &v1::ScoreResponse) -> bool {
    matches!(response.event, Some(Event::Summary(_)))
}

/// Whether a model has what scoring needs.
fn complete(model: &Arc<LoadedModel>) -> Result<(), ApiError> {
    let info = model.info();
    super::validate::has(info.has_transformer, "transformer", model)?;
    super::validate::has(info.has_text_encoder, "text encoder", model)?;
    Ok(())
}
