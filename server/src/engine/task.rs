//! Work that is not a generation (encoding, decoding, embedding, scoring), run between two steps.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::admission::Ticket;
use super::error::EngineError;
use super::model::LoadedModel;

/// A piece of work and whoever waits for it.
pub(super) trait Task: Send {
    /// Does it and answers. What comes back is why the engine cannot go on, if that is what it came to.
    fn run(self: Box<Self>) -> Option<String>;
    /// Answers that it was not done.
    fn fail(self: Box<Self>, error: EngineError);
    /// Whether nobody waits any more.
    fn is_closed(&self) -> bool;
    /// When to give up.
    fn deadline(&self) -> Option<Instant>;
}

/// A task made of a closure.
pub(super) struct Call<T, F> {
    pub(super) model: Arc<LoadedModel>,
    pub(super) work: F,
    pub(super) reply: oneshot::Sender<Result<T, EngineError>>,
    pub(super) deadline: Option<Instant>,
    /// The task's place in the queue, given back when the task is gone.
    pub(super) _ticket: Ticket,
}

impl<T, F> Task for Call<T, F>
where
    T: Send + 'static,
    F: FnOnce(&LoadedModel) -> Result<T, EngineError> + Send + 'static,
{
    fn run(self: Box<Self>) -> Option<String> {
        let outcome = (self.work)(&self.model);
        let stopped = match &outcome {
            Err(EngineError::Stopped { detail }) => Some(detail.clone()),
            _ => None,
        };
        // Whoever asked may be gone; then nobody needs the answer.
        let _ = self.reply.send(outcome);
        stopped
    }

    fn fail(self: Box<Self>, error: EngineError) {
        let _ = self.reply.send(Err(error));
    }

    fn is_closed(&self) -> bool {
        self.reply.is_closed()
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}
