//! Generate over the wire: a real client, a real port, the fake model.

use std::time::{Duration, Instant};

use raygen_model::transformer::View;
use raygen_proto::v1;
use raygen_proto::v1::generate_response::Event;
use raygen_server::engine::EngineSettings;
use raygen_server::engine::fake::NAN;
use tonic::{Code, Request};

use crate::common::{FAKE, Served, collect, raw_request, refusal, request};

#[tokio::test]
async fn a_generation_is_admitted_shows_its_steps_and_ends_with_picture_and_summary() {
    let server = Served::start().await;
    let mut client = server.client().await;
    let stream = client.generate(request("pneumonia with gadgets")).await.expect("admitted").into_inner();
    let outcome = collect(stream).await;
    assert!(outcome.error.is_none());

    let Some(Event::Admitted(admitted)) = &outcome.events[0].event else { panic!("admitted comes first") };
    assert_eq!((admitted.model.as_str(), admitted.seed), (FAKE, 7));
    assert_eq!(admitted.unsupported_terms, ["with", "gadgets"]);
    let steps: Vec<u32> = outcome
        .events
        .iter()
        .filter_map(|event| match &event.event {
            Some(Event::Progress(progress)) => Some(progress.step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    let samples = outcome.samples();
    let image = samples[0].image.as_ref().expect("a picture");
    assert_eq!((image.format(), image.width, image.height), (v1::ImageFormat::Png, 8, 8));
    assert!(image.data.starts_with(b"\x89PNG"));
    assert_eq!(outcome.summary().dropped_preview_count, 0);
    let sequences: Vec<u64> = outcome.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (0..7).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens_and_samples_differ_from_each_other() {
    let server = Served::start().await;
    let mut client = server.client().await;
    let asked = v1::GenerateRequest { sample_count: 3, ..request("edema") };
    let first = collect(client.generate(asked.clone()).await.expect("admitted").into_inner()).await;
    let second = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    assert_eq!(first.samples().len(), 3);
    let sorted = |mut grids: Vec<Vec<u32>>| {
        grids.sort();
        grids
    };
    let grids = sorted(first.grids());
    assert_eq!(grids, sorted(second.grids()));
    assert!(grids.windows(2).all(|pair| pair[0] != pair[1]));
}

#[tokio::test]
async fn formats_previews_and_confidence_are_as_asked() {
    let server = Served::start().await;
    let mut client = server.client().await;
    for (format, magic) in
        [(v1::ImageFormat::Jpeg, &b"\xff\xd8\xff"[..]), (v1::ImageFormat::Png, b"\x89PNG"), (v1::ImageFormat::Raw, b"")]
    {
        let output = v1::OutputOptions {
            preview_mode: v1::PreviewMode::Decoded.into(),
            preview_interval: 2,
            image_format: format.into(),
            include_confidence: true,
        };
        let asked = v1::GenerateRequest { output: Some(output), ..request("edema") };
        let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
        let samples = outcome.samples();
        let image = samples[0].image.as_ref().expect("a picture");
        assert_eq!(image.format(), format);
        assert!(image.data.starts_with(magic));
        let previews: Vec<_> = outcome
            .events
            .iter()
            .filter_map(|event| match &event.event {
                Some(Event::Progress(progress)) => Some(progress),
                _ => None,
            })
            .collect();
        assert_eq!(previews.iter().map(|preview| preview.step).collect::<Vec<_>>(), [2, 4]);
        for preview in previews {
            assert_eq!(preview.confidence.len(), 16);
            assert!(preview.preview.as_ref().expect("a preview").data.starts_with(b"\xff\xd8\xff"));
        }
    }
    let none = v1::OutputOptions { preview_mode: v1::PreviewMode::None.into(), ..v1::OutputOptions::default() };
    let asked = v1::GenerateRequest { output: Some(none), ..request("edema") };
    let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    assert_eq!(outcome.events.len(), 3, "admitted, sample, summary");
}

#[tokio::test]
async fn only_the_masked_part_of_a_canvas_is_made_anew() {
    let server = Served::start().await;
    let mut client = server.client().await;
    let data = (0..64).map(|at| if at % 8 >= 4 { 255 } else { 0 }).collect();
    let mask = v1::Image { format: v1::ImageFormat::Raw.into(), data, width: 8, height: 8, bit_depth: 8 };
    let grid = v1::TokenGrid { height: 4, width: 4, token_ids: vec![5; 16], mask_token_id: 16 };
    let canvas = v1::Canvas { source: Some(v1::canvas::Source::Grid(grid)), mask: Some(mask), strength: None };
    let asked = v1::GenerateRequest { canvas: Some(canvas), ..request("edema") };
    let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    let ids = &outcome.grids()[0];
    for (position, id) in ids.iter().enumerate() {
        assert!(position % 4 >= 2 || *id == 5, "position {position} was to be kept");
    }
    assert!(ids.iter().any(|id| *id != 5));
}

#[tokio::test]
async fn a_wrong_request_is_refused_before_the_response_begins_and_the_server_goes_on() {
    let server = Served::start().await;
    let mut client = server.client().await;
    let sampling = |change: fn(&mut v1::SamplingParams)| {
        let mut sampling = v1::SamplingParams::default();
        change(&mut sampling);
        v1::GenerateRequest { sampling: Some(sampling), ..request("edema") }
    };
    let picture = v1::Image { data: b"not a picture".to_vec(), ..v1::Image::default() };
    let canvas =
        v1::Canvas { source: Some(v1::canvas::Source::Image(picture)), strength: Some(0.5), ..v1::Canvas::default() };
    let invalid = Code::InvalidArgument;
    for (asked, code, reason, field) in [
        (request(" "), invalid, "IMPRESSION_BLANK", "impression"),
        (request("a\0b"), invalid, "FIELD_INVALID", "impression"),
        (sampling(|s| s.step_count = Some(0)), invalid, "FIELD_INVALID", "sampling.step_count"),
        (sampling(|s| s.temperature = Some(f32::NAN)), invalid, "FIELD_INVALID", "sampling.temperature"),
        (sampling(|s| s.sampler = 99), invalid, "FIELD_INVALID", "sampling.sampler"),
        (v1::GenerateRequest { view: v1::View::Pa.into(), ..request("edema") }, invalid, "FIELD_INVALID", "view"),
        (v1::GenerateRequest { sample_count: 17, ..request("edema") }, invalid, "FIELD_INVALID", "sample_count"),
        (v1::GenerateRequest { request_id: "x".into(), ..request("edema") }, invalid, "FIELD_INVALID", "request_id"),
        (v1::GenerateRequest { canvas: Some(canvas), ..request("edema") }, invalid, "IMAGE_INVALID", "canvas.image"),
        (
            v1::GenerateRequest { model: "models/nope".into(), ..request("edema") },
            Code::NotFound,
            "MODEL_NOT_FOUND",
            "",
        ),
        (
            v1::GenerateRequest { model: "models/broken".into(), ..request("edema") },
            Code::FailedPrecondition,
            "MODEL_NOT_READY",
            "",
        ),
    ] {
        let status = client.generate(asked).await.expect_err("refused");
        assert_eq!(refusal(&status), (code, reason.to_owned(), field.to_owned()), "{status:?}");
    }
    let outcome = collect(client.generate(request("edema")).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none());
}

#[tokio::test]
async fn a_view_changes_the_picture_and_the_unspecified_one_is_the_models_default() {
    let server = Served::with(EngineSettings::default(), |info| {
        info.views = vec![View::AP, View::PA];
        info.default_view = Some(View::PA);
    })
    .await;
    let mut client = server.client().await;
    let mut grids = Vec::new();
    for view in [v1::View::Unspecified, v1::View::Pa, v1::View::Ap] {
        let asked = v1::GenerateRequest { view: view.into(), ..request("edema") };
        grids.push(collect(client.generate(asked).await.expect("admitted").into_inner()).await.grids());
    }
    assert_eq!(grids[0], grids[1]);
    assert_ne!(grids[1], grids[2]);
    let name = v1::GetModelRequest { name: FAKE.to_owned() };
    let model = server.models().await.get_model(name).await.expect("described").into_inner().model.expect("a model");
    assert_eq!(model.views().collect::<Vec<_>>(), [v1::View::Ap, v1::View::Pa]);
    assert_eq!(model.default_view(), v1::View::Pa);
    let lateral = v1::GenerateRequest { view: v1::View::Lateral.into(), ..request("edema") };
    let status = client.generate(lateral).await.expect_err("refused");
    assert_eq!(refusal(&status), (Code::InvalidArgument, "FIELD_INVALID".to_owned(), "view".to_owned()));
}

#[tokio::test]
async fn guidance_on_a_model_that_has_none_is_refused_with_its_reason() {
    let server = Served::with(EngineSettings::default(), |info| info.supports_guidance = false).await;
    let mut client = server.client().await;
    let sampling = v1::SamplingParams { guidance_scale: Some(3.0), ..v1::SamplingParams::default() };
    let asked = v1::GenerateRequest { sampling: Some(sampling), ..request("edema") };
    let status = client.generate(asked).await.expect_err("refused");
    let expected = (Code::InvalidArgument, "GUIDANCE_UNSUPPORTED".to_owned(), "sampling.guidance_scale".to_owned());
    assert_eq!(refusal(&status), expected);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_says_when_to_retry() {
    let server = Served::with(EngineSettings { max_slots: 1, queue_capacity: 1 }, |_| {}).await;
    server.controls.slow(Duration::from_millis(1000));
    let mut client = server.client().await;
    let mut running = client.generate(request("edema")).await.expect("admitted").into_inner();
    // Its first step is over, so it has its slot.
    while !matches!(running.message().await.expect("goes on").expect("goes on").event, Some(Event::Progress(_))) {}
    let _waiting = client.generate(request("edema")).await.expect("waits");
    let began = Instant::now();
    let status = client.generate(request("edema")).await.expect_err("refused");
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
    assert_eq!(refusal(&status).0, Code::ResourceExhausted);
    assert_eq!(refusal(&status).1, "QUEUE_FULL");
    let pushback = status.metadata().get("grpc-retry-pushback-ms").expect("pushback").to_str().expect("text");
    assert!(pushback.parse::<u64>().expect("a number") >= 100);
}

#[tokio::test]
async fn a_deadline_holds_over_the_whole_stream() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(100));
    let mut client = server.client().await;
    let sampling = v1::SamplingParams { step_count: Some(50), ..v1::SamplingParams::default() };
    let mut asked = Request::new(v1::GenerateRequest { sampling: Some(sampling), ..request("edema") });
    asked.metadata_mut().insert("grpc-timeout", "450m".parse().expect("metadata"));
    let began = Instant::now();
    let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    let error = outcome.error.expect("too late");
    assert_eq!(refusal(&error).0, Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(outcome.events.len() > 1, "what was done in time was sent");
    server.settled().await;
}

#[tokio::test]
async fn a_deadline_that_cannot_be_met_is_refused_at_once() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(100));
    let mut client = server.client().await;
    let long = v1::SamplingParams { step_count: Some(200), ..v1::SamplingParams::default() };
    let long = v1::GenerateRequest { sampling: Some(long), ..request("edema") };
    let mut running = client.generate(long).await.expect("admitted").into_inner();
    while !matches!(running.message().await.expect("goes on").expect("goes on").event, Some(Event::Progress(_))) {}
    let sampling = v1::SamplingParams { step_count: Some(100), ..v1::SamplingParams::default() };
    let mut asked = Request::new(v1::GenerateRequest { sampling: Some(sampling), ..request("edema") });
    asked.set_timeout(Duration::from_secs(2));
    let status = client.generate(asked).await.expect_err("refused");
    assert_eq!(refusal(&status).1, "DEADLINE_UNREACHABLE");
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_work() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(20));
    let mut client = server.client().await;
    let sampling = v1::SamplingParams { step_count: Some(256), ..v1::SamplingParams::default() };
    let asked = v1::GenerateRequest { sampling: Some(sampling), sample_count: 4, ..request("edema") };
    let mut stream = client.generate(asked).await.expect("admitted").into_inner();
    while !matches!(stream.message().await.expect("goes on").expect("goes on").event, Some(Event::Progress(_))) {}
    drop(stream);
    server.settled().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let steps = server.controls.batches().len();
    assert!(steps < 50, "{steps} steps");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.controls.batches().len(), steps, "nothing runs any more");
    assert_eq!(server.api.calls().ended()[&("Generate", "CANCELLED")], 1);
}

#[tokio::test]
async fn a_request_id_in_use_is_aborted_and_free_again_afterwards() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(250));
    let mut client = server.client().await;
    let id = "9f1c2e4a-7b3d-4c5e-8f60-123456789abc".to_owned();
    let asked = v1::GenerateRequest { request_id: id, ..request("edema") };
    let running = client.generate(asked.clone()).await.expect("admitted").into_inner();
    let status = client.generate(asked.clone()).await.expect_err("in use");
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(refusal(&status).1, "REQUEST_ID_IN_FLIGHT");
    assert!(collect(running).await.error.is_none());
    server.settled().await;
    assert!(client.generate(asked).await.is_ok());
}

#[tokio::test]
async fn a_row_of_nan_fails_alone_among_its_neighbours() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(20));
    let mut client = server.client().await;
    let fine = client.generate(request("edema")).await.expect("admitted").into_inner();
    let bad = client.generate(request(NAN)).await.expect("admitted").into_inner();
    let (fine, bad) = tokio::join!(collect(fine), collect(bad));
    assert!(fine.error.is_none());
    let error = bad.error.expect("failed");
    assert_eq!((error.code(), refusal(&error).1.as_str()), (Code::Internal, "NUMERIC_FAILURE"));
}

#[tokio::test]
async fn an_idle_engine_tries_a_deadline_whatever_its_last_step_took() {
    let server = Served::start().await;
    server.controls.slow(Duration::from_millis(1500));
    let mut client = server.client().await;
    let one_step = |steps| {
        let sampling = v1::SamplingParams { step_count: Some(steps), ..v1::SamplingParams::default() };
        v1::GenerateRequest { sampling: Some(sampling), ..request("edema") }
    };
    collect(client.generate(one_step(1)).await.expect("admitted").into_inner()).await;
    server.settled().await;
    server.controls.slow(Duration::ZERO);
    let mut asked = Request::new(one_step(4));
    asked.set_timeout(Duration::from_secs(4));
    let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_everything_of_it_is_free() {
    let patience = Duration::from_millis(300);
    let server = Served::with_patience(EngineSettings::default(), |info| info.image_size = 512, patience).await;
    let mut client = server.narrow_client().await;
    let stalled = client.generate(raw_request(8)).await.expect("admitted").into_inner();
    // The stream is held, and nothing of it is read.
    server.settled().await;
    assert_eq!(server.api.calls().ended()[&("Generate", "CANCELLED")], 1);
    let outcome = collect(client.generate(request("edema")).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "another call on the same connection");
    assert_eq!(server.api.engine().stats().slots_in_use(), 0);

    let outcome = collect(stalled).await;
    let error = outcome.error.clone().expect("told");
    assert_eq!((error.code(), refusal(&error).1.as_str()), (Code::Cancelled, "CANCELLED"), "{error:?}");
    assert!(outcome.samples().len() < 8);
}
