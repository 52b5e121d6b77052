//! The engine turn by turn, without a thread or a clock of its own, over the fake model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use raygen_model::sampler::SamplingParams;
use tokio::sync::watch;

use super::*;
use crate::engine::admission::{Admission, Work};
use crate::engine::fake::{Controls, FAIL, FakeModel, LOST, NAN, PANIC};
use crate::engine::model::LoadedModel;
use crate::engine::outbox::{self, Envelope, Event, Inbox};
use crate::engine::request::{Generation, Preview};
use crate::engine::task::Call;

pub(super) struct Bench {
    pub(super) worker: Worker,
    model: Arc<LoadedModel>,
    pub(super) controls: Arc<Controls>,
    pub(super) admission: Arc<Admission>,
    state: watch::Receiver<EngineState>,
    pub(super) now: Instant,
}

impl Bench {
    pub(super) fn new(max_slots: usize) -> Self {
        let fake = FakeModel::new();
        let controls = fake.controls();
        let stats = Arc::new(EngineStats::new(max_slots));
        let admission = Arc::new(Admission::new(64, Arc::clone(&stats)));
        let (sender, state) = watch::channel(EngineState::Running);
        let worker = Worker::new(max_slots, Arc::clone(&admission), stats, sender);
        let model = Arc::new(LoadedModel::new("models/fake/versions/1", fake));
        Self { worker, model, controls, admission, state, now: Instant::now() }
    }

    pub(super) fn generation(&self, text: &str, steps: u32) -> Generation {
        let info = self.model.info();
        Generation {
            model: Arc::clone(&self.model),
            text: self.model.model.tokenize(text).expect("tokenized"),
            negative: None,
            view: None,
            params: SamplingParams { step_count: steps, seed: 7, ..SamplingParams::default() },
            starts: vec![vec![info.codebook_size; info.positions()]],
            preview: Preview::Tokens,
            preview_interval: 1,
            include_confidence: false,
            deadline: None,
        }
    }

    pub(super) fn submit(&mut self, generation: Generation) -> Inbox {
        let ticket = self.admission.try_enter(Work::ONE, None, self.now).expect("a place");
        let (outbox, inbox) = outbox::channel(1);
        self.worker.accept(Command::Generate(Box::new(generation), outbox, ticket, tracing::Span::none()), self.now);
        inbox
    }

    pub(super) fn turn(&mut self) {
        self.worker.turn(self.now);
    }

    pub(super) fn finish(&mut self) {
        for _ in 0..10_000 {
            if self.worker.is_idle() {
                return;
            }
            self.turn();
        }
        panic!("the engine does not come to an end");
    }
}

async fn all(mut inbox: Inbox) -> (Vec<Envelope>, Option<EngineError>) {
    let mut events = Vec::new();
    while let Some(next) = inbox.next().await {
        match next {
            Ok(envelope) => events.push(envelope),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

fn grids(events: &[Envelope]) -> Vec<Vec<u32>> {
    let grid = |envelope: &Envelope| match &envelope.event {
        Event::Progress(progress) => Some(progress.ids.clone()),
        Event::Sample(sample) => Some(sample.ids.clone()),
        Event::Summary(_) => None,
    };
    events.iter().filter_map(grid).collect()
}

async fn alone(generation: impl Fn(&Bench) -> Generation) -> Vec<Vec<u32>> {
    let mut bench = Bench::new(8);
    let generation = generation(&bench);
    let inbox = bench.submit(generation);
    bench.finish();
    grids(&all(inbox).await.0)
}

#[tokio::test]
async fn a_generation_shows_every_step_and_ends_with_its_picture_and_a_summary() {
    let mut bench = Bench::new(8);
    let inbox = bench.submit(bench.generation("pneumonia", 4));
    bench.finish();
    let (events, error) = all(inbox).await;
    assert_eq!(error, None);
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
    let Event::Progress(last) = &events[3].event else { panic!("a step") };
    assert_eq!((last.step, last.step_count), (4, 4));
    let Event::Sample(sample) = &events[4].event else { panic!("the sample") };
    assert!(sample.ids.iter().all(|&id| id < 16));
    assert_eq!(sample.picture.width, 8);
    assert!(matches!(events[5].event, Event::Summary(_)));
}

#[tokio::test]
async fn a_request_that_joins_a_running_batch_gets_the_tokens_that_it_gets_alone() {
    let first = |bench: &Bench| bench.generation("pneumonia", 9);
    let second = |bench: &Bench| Generation {
        params: SamplingParams { guidance_scale: 3.0, ..bench.generation("", 5).params },
        ..bench.generation("effusion edema", 5)
    };
    let mut bench = Bench::new(8);
    let (one, two) = (first(&bench), second(&bench));
    let one = bench.submit(one);
    for _ in 0..3 {
        bench.turn();
    }
    let two = bench.submit(two);
    bench.finish();

    assert_eq!(grids(&all(one).await.0), alone(first).await);
    assert_eq!(grids(&all(two).await.0), alone(second).await);
    // Alone, together (the second's first step has guidance 1, so no row of its own), with a guidance row, alone.
    assert_eq!(bench.controls.batches(), [1, 1, 1, 2, 3, 3, 3, 3, 1]);
}

#[tokio::test]
async fn samples_of_one_request_differ_and_do_not_depend_on_the_slots() {
    let many = |bench: &Bench| Generation {
        starts: vec![bench.generation("", 1).starts.remove(0); 5],
        ..bench.generation("edema", 3)
    };
    let finals = async |slots: usize| {
        let mut bench = Bench::new(slots);
        let generation = many(&bench);
        let inbox = bench.submit(generation);
        bench.finish();
        let (events, _) = all(inbox).await;
        let mut samples: Vec<(u32, Vec<u32>)> = events
            .iter()
            .filter_map(|event| match &event.event {
                Event::Sample(sample) => Some((event.sample_index, sample.ids.clone())),
                _ => None,
            })
            .collect();
        samples.sort();
        samples
    };
    let wide = finals(8).await;
    assert_eq!(wide.len(), 5);
    assert!(wide.windows(2).all(|pair| pair[0].1 != pair[1].1));
    assert_eq!(finals(2).await, wide);
}

#[tokio::test]
async fn a_request_keeps_its_place_in_the_queue_until_its_last_sample_has_a_slot() {
    let mut bench = Bench::new(2);
    let mut generation = bench.generation("edema", 2);
    generation.starts = vec![generation.starts.remove(0); 3];
    let inbox = bench.submit(generation);
    bench.turn();
    assert_eq!(bench.admission.waiting(), 1);
    bench.finish();
    assert_eq!(bench.admission.waiting(), 0);
    assert!(all(inbox).await.1.is_none());
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_slot_at_the_next_step() {
    let mut bench = Bench::new(1);
    let gone = bench.submit(bench.generation("pneumonia", 200));
    let waiting = bench.submit(bench.generation("edema", 2));
    bench.turn();
    drop(gone);
    bench.finish();
    assert!(all(waiting).await.1.is_none());
    assert_eq!(bench.controls.batches().len(), 3, "one step for the one that left, two for the other");
    assert_eq!(bench.worker.stats.slots_in_use(), 0);
}

#[tokio::test]
async fn a_deadline_ends_a_request_in_the_queue_and_in_a_slot() {
    let mut bench = Bench::new(1);
    let deadline = Some(bench.now + Duration::from_secs(5));
    let running = bench.submit(Generation { deadline, ..bench.generation("pneumonia", 200) });
    let waiting = bench.submit(Generation { deadline, ..bench.generation("edema", 2) });
    bench.turn();
    bench.now += Duration::from_secs(5);
    bench.turn();
    assert!(bench.worker.is_idle());
    assert_eq!(all(running).await.1, Some(EngineError::DeadlineExceeded));
    assert_eq!(all(waiting).await.1, Some(EngineError::DeadlineExceeded));
}

#[tokio::test]
async fn a_row_of_nan_fails_alone() {
    let good = |bench: &Bench| bench.generation("pneumonia", 4);
    let mut bench = Bench::new(8);
    let (bad, fine) = (bench.generation(NAN, 4), good(&bench));
    let (bad, fine) = (bench.submit(bad), bench.submit(fine));
    bench.finish();
    assert_eq!(all(bad).await.1, Some(EngineError::Numeric { step: Some(1) }));
    assert_eq!(grids(&all(fine).await.0), alone(good).await);
}

#[tokio::test]
async fn a_row_that_makes_its_batch_fail_fails_alone() {
    let good = |bench: &Bench| bench.generation("pneumonia", 4);
    let mut bench = Bench::new(8);
    let (bad, fine) = (bench.generation(FAIL, 4), good(&bench));
    let (bad, fine) = (bench.submit(bad), bench.submit(fine));
    bench.finish();
    assert!(matches!(all(bad).await.1, Some(EngineError::Model { .. })));
    assert_eq!(grids(&all(fine).await.0), alone(good).await);
}

#[tokio::test]
async fn the_text_is_turned_into_a_condition_once_for_all_samples_and_steps() {
    let mut bench = Bench::new(2);
    let mut generation = bench.generation("edema", 6);
    generation.starts = vec![generation.starts.remove(0); 4];
    let inbox = bench.submit(generation);
    bench.finish();
    assert!(all(inbox).await.1.is_none());
    assert_eq!(bench.controls.conditions(), 1);
}

#[tokio::test]
async fn picture_previews_come_with_every_nth_step_and_the_last_is_the_result() {
    for preview in [Preview::Decoded, Preview::Approximate] {
        let mut bench = Bench::new(1);
        let generation = Generation { preview, preview_interval: 2, ..bench.generation("edema", 4) };
        let inbox = bench.submit(generation);
        bench.finish();
        let (events, _) = all(inbox).await;
        let steps: Vec<(u32, bool)> = events
            .iter()
            .filter_map(|event| match &event.event {
                Event::Progress(progress) => Some((progress.step, progress.picture.is_some())),
                _ => None,
            })
            .collect();
        assert_eq!(steps, [(2, true), (4, true)]);
    }
}

#[tokio::test]
async fn a_reader_that_never_reads_loses_previews_and_nothing_else() {
    let mut bench = Bench::new(1);
    let generation = Generation { preview: Preview::Decoded, ..bench.generation("edema", 50) };
    let inbox = bench.submit(generation);
    bench.finish();
    let (events, error) = all(inbox).await;
    assert_eq!(error, None);
    let Some(Event::Summary(summary)) = events.last().map(|event| &event.event) else { panic!("a summary") };
    let previews = events.len() as u32 - 2;
    assert_eq!(summary.dropped_previews, 50 - previews);
    assert!(previews < 10);
    assert!(matches!(events[events.len() - 2].event, Event::Sample(_)));
    assert_eq!(events.last().map(|event| event.sequence), Some(52), "gaps are dropped previews");
}

#[tokio::test]
async fn a_task_runs_between_two_steps_and_its_deadline_counts() {
    let mut bench = Bench::new(1);
    let inbox = bench.submit(bench.generation("edema", 10));
    let task = |bench: &Bench, deadline| {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let ticket = bench.admission.try_enter(Work::ONE, None, bench.now).expect("a place");
        let model = Arc::clone(&bench.model);
        let work = |model: &LoadedModel| Ok(model.model.decode(&[&[0; 16]])?.len());
        (Command::Task(Box::new(Call { model, work, reply, deadline, _ticket: ticket })), answer)
    };
    let (command, in_time) = task(&bench, None);
    bench.worker.accept(command, bench.now);
    let (command, late) = task(&bench, Some(bench.now));
    bench.worker.accept(command, bench.now);
    bench.turn();
    assert_eq!(in_time.await.expect("answered"), Ok(1));
    assert_eq!(late.await.expect("answered"), Err(EngineError::DeadlineExceeded));
    bench.finish();
    assert!(all(inbox).await.1.is_none());
}

#[tokio::test]
async fn a_panic_in_a_step_is_told_to_all_and_ends_the_engine() {
    let mut bench = Bench::new(1);
    let (running, waiting) = (bench.generation(PANIC, 4), bench.generation("edema", 4));
    let (running, waiting) = (bench.submit(running), bench.submit(waiting));
    let (commands, receiver) = std::sync::mpsc::channel();
    let Bench { worker, state, admission, .. } = bench;
    let thread = std::thread::spawn(move || worker.run(&receiver));
    for inbox in [running, waiting] {
        let Some(EngineError::Stopped { detail }) = all(inbox).await.1 else { panic!("told") };
        assert_eq!(detail, "a step panicked; this is a bug of the server", "the panic's text stays here");
    }
    thread.join().expect("the panic was caught");
    assert!(matches!(&*state.borrow(), EngineState::Failed(_)));
    assert!(admission.is_closed());
    assert!(commands.send(unreachable_command()).is_err(), "nobody listens");
}

#[tokio::test]
async fn a_lost_device_is_told_to_all_and_ends_the_engine() {
    let mut bench = Bench::new(2);
    let generations = [LOST, "edema", "pneumonia"].map(|text| bench.generation(text, 4));
    let inboxes = generations.map(|generation| bench.submit(generation));
    let (commands, receiver) = std::sync::mpsc::channel();
    let Bench { worker, state, admission, .. } = bench;
    let thread = std::thread::spawn(move || worker.run(&receiver));
    for inbox in inboxes {
        assert!(matches!(all(inbox).await.1, Some(EngineError::Stopped { .. })));
    }
    thread.join().expect("an orderly end");
    assert!(matches!(&*state.borrow(), EngineState::Failed(_)));
    assert!(admission.is_closed());
    assert!(commands.send(unreachable_command()).is_err(), "nobody listens");
}

#[tokio::test]
async fn a_device_lost_in_a_task_ends_the_engine_too() {
    let mut bench = Bench::new(1);
    let (reply, answer) = tokio::sync::oneshot::channel();
    let ticket = bench.admission.try_enter(Work::ONE, None, bench.now).expect("a place");
    let model = Arc::clone(&bench.model);
    let lost = |_: &LoadedModel| Err::<(), _>(crate::engine::ModelFault::DeviceLost("gone".to_owned()).into());
    let task = Box::new(Call { model, work: lost, reply, deadline: None, _ticket: ticket });
    bench.worker.accept(Command::Task(task), bench.now);
    let waiting = bench.submit(bench.generation("edema", 400));
    let (_commands, receiver) = std::sync::mpsc::channel();
    let Bench { worker, state, .. } = bench;
    std::thread::spawn(move || worker.run(&receiver)).join().expect("an orderly end");
    assert!(matches!(answer.await.expect("answered"), Err(EngineError::Stopped { .. })));
    assert!(matches!(all(waiting).await.1, Some(EngineError::Stopped { .. })));
    assert!(matches!(&*state.borrow(), EngineState::Failed(_)));
}

#[tokio::test]
async fn a_batch_that_runs_out_of_memory_is_halved_and_nobody_notices() {
    let mut bench = Bench::new(8);
    bench.controls.memory_for(3);
    let generation = |bench: &Bench, words: &str| Generation { preview: Preview::None, ..bench.generation(words, 2) };
    let words = ["edema", "pneumonia", "effusion", "no edema", "acute", "no pneumonia", "no effusion", "acute edema"];
    let inboxes = words.map(|words| {
        let generation = generation(&bench, words);
        bench.submit(generation)
    });
    bench.finish();
    for (inbox, words) in inboxes.into_iter().zip(words) {
        let (events, error) = all(inbox).await;
        assert_eq!(error, None);
        assert_eq!(grids(&events), alone(|bench| generation(bench, words)).await, "{words}");
    }
    // 8 and 4 rows do not fit, 2 do; later steps begin with 2.
    assert_eq!(bench.controls.batches(), [2; 8]);
}

#[tokio::test]
async fn patches_are_measured_one_decode_a_turn_and_grids_go_out_meanwhile() {
    let mut bench = Bench::new(4);
    bench.controls.measures(3);
    let generation = Generation { preview: Preview::Approximate, ..bench.generation("edema", 5) };
    let starts = vec![generation.starts[0].clone(); 4];
    let inbox = bench.submit(Generation { starts, ..generation });
    for left in [2, 1, 0] {
        bench.turn();
        assert_eq!(bench.controls.left_to_measure(), left, "four rows, one decode");
    }
    bench.finish();
    let (events, error) = all(inbox).await;
    assert_eq!(error, None);
    let pictures: Vec<(u32, bool)> = events
        .iter()
        .filter(|event| event.sample_index == 0)
        .filter_map(|event| match &event.event {
            Event::Progress(progress) => Some((progress.step, progress.picture.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(pictures, [(1, false), (2, false), (3, false), (4, true), (5, true)]);
}

fn unreachable_command() -> Command {
    let bench = Bench::new(1);
    let ticket = bench.admission.try_enter(Work::ONE, None, bench.now).expect("a place");
    Command::Generate(Box::new(bench.generation("edema", 1)), outbox::channel(0).0, ticket, tracing::Span::none())
}
