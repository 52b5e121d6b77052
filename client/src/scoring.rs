//! Score: films with their impressions in, scores out as they come, metrics over the set last.

use raygen_proto::v1::{
    ScoreRequest, ScoreResponse,
    score_request::{Message, ScoreConfig, ScoreItem},
    score_response::{Event, GeneratedSample, ItemScore, Metric},
};
use tokio_stream::{Stream, StreamExt};
use tonic::Streaming;

use crate::{Client, ClientError};

/// One event of a scoring.
#[derive(Debug, Clone)]
pub enum ScoreEvent {
    /// The score of one item.
    Item(ItemScore),
    /// A picture generated for an item, if asked for.
    Sample(GeneratedSample),
    /// Last: metrics over the set.
    Summary {
        /// Items scored.
        item_count: u64,
        /// The metrics.
        metrics: Vec<Metric>,
    },
}

/// A scoring that was admitted. Dropping it cancels it.
#[derive(Debug)]
pub struct Scoring {
    client: Client,
    stream: Streaming<ScoreResponse>,
    complete: bool,
}

impl Client {
    /// Scores items under a model. Items are taken from the stream as fast as the server scores them.
    ///
    /// # Errors
    /// The server's refusal, or that it cannot be reached.
    pub async fn score(
        &self,
        config: ScoreConfig,
        items: impl Stream<Item = ScoreItem> + Send + 'static,
    ) -> Result<Scoring, ClientError> {
        let first = tokio_stream::once(ScoreRequest { message: Some(Message::Config(config)) });
        let rest = items.map(|item| ScoreRequest { message: Some(Message::Item(item)) });
        let response = self.raygen.clone().score(first.chain(rest)).await.map_err(|status| self.error(&status))?;
        Ok(Scoring { client: self.clone(), stream: response.into_inner(), complete: false })
    }
}

impl Scoring {
    /// The next event; `None` after the summary.
    ///
    /// # Errors
    /// What failed on the way; [`ClientError::Incomplete`] if the stream ends before its summary.
    pub async fn next(&mut self) -> Result<Option<ScoreEvent>, ClientError> {
        if self.complete {
            return Ok(None);
        }
        let message = self.stream.message().await.map_err(|status| self.client.error(&status))?;
        let message = message.ok_or(ClientError::Incomplete("the scoring ended without a summary"))?;
        Ok(Some(match message.event.ok_or(ClientError::Incomplete("a scoring event is empty"))? {
            Event::Item(item) => ScoreEvent::Item(item),
            Event::Sample(sample) => ScoreEvent::Sample(sample),
            Event::Summary(summary) => {
                self.complete = true;
                ScoreEvent::Summary { item_count: summary.item_count, metrics: summary.metrics }
            }
        }))
    }
}
