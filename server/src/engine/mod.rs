//! The engine: one thread owns the models; requests join and leave the running batch between steps. Knows no gRPC.

mod admission;
mod deliver;
mod error;
pub mod fake;
mod model;
mod outbox;
mod request;
mod running;
mod scheduler;
mod score;
mod stats;
mod step;
mod task;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use tokio::sync::{oneshot, watch};

pub use admission::{Admission, Ticket, Work};
pub use error::EngineError;
pub use model::{Condition, Embedding, LoadedModel, ModelFault, ModelInfo, ModelRow, StepModel};
pub use outbox::{Envelope, Event, Finished, Inbox, Progress, Summary};
pub use request::{Generation, Preview};
pub use score::{RowScore, ScoreRow, score_rows};
pub use stats::EngineStats;

use request::Command;
use task::Call;
use worker::Worker;

/// Sizes of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSettings {
    /// Samples that run at once.
    pub max_slots: usize,
    /// Requests that may wait.
    pub queue_capacity: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { max_slots: 8, queue_capacity: 64 }
    }
}

/// How the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// At work.
    Running,
    /// Gone, and why. It does not come back: the process should end.
    Failed(String),
}

/// A handle on the engine; the thread ends when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Engine {
    commands: mpsc::Sender<Command>,
    admission: Arc<Admission>,
    stats: Arc<EngineStats>,
    state: watch::Receiver<EngineState>,
}

// === impl Engine ===

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(settings: EngineSettings) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let stats = Arc::new(EngineStats::new(settings.max_slots));
        let admission = Arc::new(Admission::new(settings.queue_capacity, Arc::clone(&stats)));
        let (failed, state) = watch::channel(EngineState::Running);
        let worker = Worker::new(settings.max_slots, Arc::clone(&admission), Arc::clone(&stats), failed);
        std::thread::Builder::new().name("raygen-engine".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(Self { commands, admission, stats, state })
    }

    /// Admits and starts a generation. The first event's sequence is 1: 0 is the admission itself.
    ///
    /// # Errors
    /// Refused at once: the queue is full, the deadline cannot be met, or the server is going.
    pub fn generate(&self, generation: Generation) -> Result<(Inbox, u32), EngineError> {
        self.check_running()?;
        let ticket = self.admission.try_enter(generation.work(), generation.deadline, Instant::now())?;
        self.generate_admitted(generation, ticket)
    }

    /// Starts a generation that has its place already.
    ///
    /// # Errors
    /// The engine is gone.
    pub fn generate_admitted(&self, generation: Generation, ticket: Ticket) -> Result<(Inbox, u32), EngineError> {
        let ahead = ticket.ahead;
        let (outbox, inbox) = outbox::channel(1);
        self.send(Command::Generate(Box::new(generation), outbox, ticket, tracing::Span::current()))?;
        Ok((inbox, ahead))
    }

    /// Does `work` on the engine's thread between two steps, under a place that was taken before.
    ///
    /// # Errors
    /// What `work` gives, the deadline, or the engine is gone.
    pub async fn call<T, F>(
        &self,
        ticket: Ticket,
        model: Arc<LoadedModel>,
        deadline: Option<Instant>,
        work: F,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&LoadedModel) -> Result<T, EngineError> + Send + 'static,
    {
        self.check_running()?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Task(Box::new(Call { model, work, reply, deadline, _ticket: ticket })))?;
        answer.await.unwrap_or_else(|_| Err(self.why_stopped()))
    }

    /// Takes a place in the queue, or says why not.
    ///
    /// # Errors
    /// As [`Self::generate`].
    pub fn try_enter(&self, work: Work, deadline: Option<Instant>) -> Result<Ticket, EngineError> {
        self.check_running()?;
        self.admission.try_enter(work, deadline, Instant::now())
    }

    /// Takes a place, waiting for one: for streams that were admitted and go on.
    ///
    /// # Errors
    /// The engine is gone.
    pub async fn enter(&self, work: Work) -> Result<Ticket, EngineError> {
        self.check_running()?;
        self.admission.enter(work).await
    }

    /// Lets nobody new in; what was admitted goes on.
    pub fn close(&self) {
        self.admission.close();
    }

    /// Counts of what it does.
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// Who waits.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// How it is, now and later.
    pub fn state(&self) -> watch::Receiver<EngineState> {
        self.state.clone()
    }

    fn send(&self, command: Command) -> Result<(), EngineError> {
        self.commands.send(command).map_err(|_| self.why_stopped())
    }

    fn check_running(&self) -> Result<(), EngineError> {
        match &*self.state.borrow() {
            EngineState::Running => Ok(()),
            EngineState::Failed(detail) => Err(EngineError::Stopped { detail: detail.clone() }),
        }
    }

    fn why_stopped(&self) -> EngineError {
        match &*self.state.borrow() {
            EngineState::Running => EngineError::Stopped { detail: "its thread has ended".to_owned() },
            EngineState::Failed(detail) => EngineError::Stopped { detail: detail.clone() },
        }
    }
}
