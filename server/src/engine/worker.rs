//! The engine's thread: commands in, then turn after turn of expiring, one task, filling slots, a step, delivering.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use raygen_model::sampler::SampleState;
use tokio::sync::watch;

use super::EngineState;
use super::admission::Admission;
use super::error::EngineError;
use super::model::LoadedModel;
use super::request::Command;
use super::running::Running;
use super::scheduler::{RequestId, Row, Scheduler};
use super::stats::EngineStats;
use super::step::{StepRow, step};
use super::task::Task;

/// Everything the thread owns.
pub(super) struct Worker {
    pub(super) scheduler: Scheduler,
    pub(super) requests: HashMap<RequestId, Running>,
    tasks: VecDeque<Box<dyn Task>>,
    next_id: RequestId,
    admission: Arc<Admission>,
    pub(super) stats: Arc<EngineStats>,
    state: watch::Sender<EngineState>,
    /// Why nothing can be computed any more, once that is known.
    lost: Option<String>,
}

/// A row that has just taken a step.
pub(super) struct Stepped {
    pub(super) row: Row,
    pub(super) state: SampleState,
}

// === impl Worker ===

impl Worker {
    pub(super) fn new(
        max_slots: usize,
        admission: Arc<Admission>,
        stats: Arc<EngineStats>,
        state: watch::Sender<EngineState>,
    ) -> Self {
        Self {
            scheduler: Scheduler::new(max_slots),
            requests: HashMap::new(),
            tasks: VecDeque::new(),
            next_id: 0,
            admission,
            stats,
            state,
            lost: None,
        }
    }

    /// Works until every handle is dropped, or until a panic or the loss of the device: then everyone is told and the engine
    /// stays down.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while self.receive(commands) {
            let turn = catch_unwind(AssertUnwindSafe(|| self.turn(Instant::now())));
            let lost = match turn {
                Ok(()) => self.lost.take(),
                // The panic's own text may hold what a client wrote, so it goes nowhere; the hook has said where it was.
                Err(_) => Some("a step panicked; this is a bug of the server".to_owned()),
            };
            if let Some(detail) = lost {
                self.fail_all(&detail);
                return;
            }
        }
    }

    /// Takes in all commands; waits for one only when there is nothing to do. False when there will be no more work.
    fn receive(&mut self, commands: &Receiver<Command>) -> bool {
        if self.is_idle() {
            match commands.recv() {
                Ok(command) => self.accept(command, Instant::now()),
                Err(_) => return false,
            }
        }
        loop {
            match commands.try_recv() {
                Ok(command) => self.accept(command, Instant::now()),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !self.is_idle(),
            }
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.tasks.is_empty()
    }

    pub(super) fn accept(&mut self, command: Command, now: Instant) {
        match command {
            Command::Task(task) => self.tasks.push_back(task),
            Command::Generate(generation, outbox, ticket, span) => {
                let id = self.next_id;
                self.next_id += 1;
                let samples = u32::try_from(generation.starts.len()).unwrap_or(u32::MAX);
                self.scheduler.submit(id, samples, generation.deadline);
                self.requests.insert(id, Running::new(*generation, outbox, ticket, span, now));
            }
        }
    }

    /// One round. `now` decides which deadlines have passed.
    pub(super) fn turn(&mut self, now: Instant) {
        self.sweep(now);
        self.run_one_task();
        self.fill_slots(now);
        let stepped = self.step_all();
        self.deliver(stepped);
        self.stats.set_slots_in_use(self.scheduler.rows().len());
    }

    /// Lets go of everything that nobody waits for any more.
    fn sweep(&mut self, now: Instant) {
        for id in self.scheduler.expired(now) {
            self.fail(id, EngineError::DeadlineExceeded);
        }
        let gone: Vec<RequestId> =
            self.requests.iter().filter(|(_, request)| request.outbox.is_closed()).map(|(id, _)| *id).collect();
        for id in gone {
            self.fail(id, EngineError::Cancelled);
        }
        for task in std::mem::take(&mut self.tasks) {
            if task.deadline().is_some_and(|deadline| deadline <= now) {
                task.fail(EngineError::DeadlineExceeded);
            } else if !task.is_closed() {
                self.tasks.push_back(task);
            }
        }
    }

    /// One task a turn, so that neither tasks nor samples wait for more than one of the others.
    fn run_one_task(&mut self) {
        if let Some(task) = self.tasks.pop_front() {
            let stopped = task.run();
            self.lost = self.lost.take().or(stopped);
        }
    }

    fn fill_slots(&mut self, now: Instant) {
        for started in self.scheduler.fill() {
            let Some(request) = self.requests.get_mut(&started.row.request) else {
                // Its request failed a moment ago, in this loop.
                continue;
            };
            if started.last {
                request.ticket = None;
            }
            let first = request.condition().is_none();
            let begun = request.start(started.row.sample, now);
            if first {
                self.stats.queue_seconds.took(request.waited());
            }
            if let Err(fault) = begun {
                self.fail(started.row.request, fault.into());
            }
        }
        self.stats.set_slots_in_use(self.scheduler.rows().len());
    }

    /// One step of every running row, one forward pass for each model.
    fn step_all(&mut self) -> Vec<Stepped> {
        let mut stepped = Vec::new();
        for (model, rows) in self.rows_by_model() {
            stepped.extend(self.step_model(&model, &rows));
        }
        stepped
    }

    fn rows_by_model(&self) -> Vec<(Arc<LoadedModel>, Vec<Row>)> {
        let mut groups: Vec<(Arc<LoadedModel>, Vec<Row>)> = Vec::new();
        for &row in self.scheduler.rows() {
            let Some(request) = self.requests.get(&row.request) else {
                continue;
            };
            let model = &request.generation.model;
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, model)) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((Arc::clone(model), vec![row])),
            }
        }
        groups
    }

    fn step_model(&mut self, model: &LoadedModel, rows: &[Row]) -> Vec<Stepped> {
        let began = Instant::now();
        let mut taken = Vec::with_capacity(rows.len());
        let mut batch = Vec::with_capacity(rows.len());
        let mut spans = Vec::new();
        let mut spanned = None;
        for row in rows {
            let Some(request) = self.requests.get(&row.request) else {
                continue;
            };
            let (Some(state), Some(condition)) = (request.samples.get(&row.sample), request.condition()) else {
                continue;
            };
            // The rows of a request stand together: one span for all of them.
            if spanned.replace(row.request) != Some(row.request) {
                spans.push(request.step_span(state.step + 1, rows.len()));
            }
            taken.push(*row);
            batch.push(StepRow {
                guidance: request.guidance(state),
                state: state.clone(),
                params: &request.generation.params,
                condition,
            });
        }
        let (outcomes, computed) = step(model, batch);
        let took = began.elapsed();
        drop(spans);
        self.stats.step_of(computed, took);
        if computed > 0 {
            self.admission.measured(took);
        }

        let mut previous = None;
        let mut stepped = Vec::with_capacity(outcomes.len());
        for (row, outcome) in taken.into_iter().zip(outcomes) {
            // The rows of a request stand together.
            if previous.replace(row.request) != Some(row.request)
                && let Some(request) = self.requests.get_mut(&row.request)
            {
                request.stepped(took);
            }
            match outcome {
                Ok(state) => stepped.push(Stepped { row, state }),
                Err(error) => self.fail(row.request, error),
            }
        }
        stepped
    }

    pub(super) fn fail(&mut self, id: RequestId, error: EngineError) {
        if let EngineError::Stopped { detail } = &error {
            self.lost.get_or_insert_with(|| detail.clone());
        }
        self.scheduler.remove(id);
        if let Some(request) = self.requests.remove(&id) {
            request.outbox.fail(error);
        }
    }

    fn fail_all(&mut self, detail: &str) {
        tracing::error!(detail, "the engine has stopped; nothing can be served any more");
        // First the state, so that nobody who is told finds the engine running.
        self.state.send_replace(EngineState::Failed(detail.to_owned()));
        self.admission.shut();
        let stopped = || EngineError::Stopped { detail: detail.to_owned() };
        for (_, request) in self.requests.drain() {
            request.outbox.fail(stopped());
        }
        for task in self.tasks.drain(..) {
            task.fail(stopped());
        }
        self.scheduler = Scheduler::new(1);
        self.stats.set_slots_in_use(0);
    }
}

#[cfg(test)]
#[path = "promise_tests.rs"]
mod promises;
#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
