//! Real bundles with random weights behind the engine, and bundles that cannot be served.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use raygen_model::bundle::Component;
use raygen_model::image::DecodeLimits;
use raygen_proto::v1;
use raygen_proto::v1::encode_request::Input;
use raygen_server::api::Api;
use raygen_server::engine::{Engine, EngineSettings};
use raygen_server::repository::{DeviceChoice, DtypeChoice, LoadError, Placement, Repository, load};
use raygen_server::serve::{ServeOptions, serve};
use tonic::transport::Channel;

use crate::common::{collect, request};
use crate::tiny;

type Client = v1::ray_gen_service_client::RayGenServiceClient<Channel>;

fn placement() -> Placement {
    Placement::open(DeviceChoice::Cpu, DtypeChoice::Auto).expect("the CPU")
}

async fn served(repository: Repository) -> Client {
    let engine = Engine::start(EngineSettings { max_slots: 6, queue_capacity: 64 }).expect("engine");
    let api = Api::new(engine, Arc::new(repository), DecodeLimits::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(serve(listener, api, ServeOptions::default(), std::future::pending()));
    Client::connect(url).await.expect("connected")
}

async fn tiny_client() -> Client {
    let directory = tempfile::tempdir().expect("a directory");
    let bundle = directory.path().join("tiny");
    tiny::write(&bundle, &tiny::config(1));
    served(load(Some(&bundle), &placement()).expect("loaded")).await
}

fn asked(text: &str, seed: u64, steps: u32, guidance: f32, samples: u32) -> v1::GenerateRequest {
    let sampling = v1::SamplingParams {
        seed: Some(seed),
        step_count: Some(steps),
        guidance_scale: Some(guidance),
        ..v1::SamplingParams::default()
    };
    v1::GenerateRequest { sampling: Some(sampling), sample_count: samples, ..request(text) }
}

async fn grids(mut client: Client, asked: v1::GenerateRequest) -> Vec<(u32, Vec<u32>)> {
    let outcome = collect(client.generate(asked).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let mut grids: Vec<_> = outcome
        .events
        .iter()
        .filter_map(|event| match &event.event {
            Some(v1::generate_response::Event::Sample(sample)) => {
                Some((event.sample_index, sample.grid.as_ref().expect("a grid").token_ids.clone()))
            }
            _ => None,
        })
        .collect();
    grids.sort();
    grids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_models_tokens_do_not_depend_on_who_shares_the_batch() {
    let client = tiny_client().await;
    let mix = [
        asked("pleural effusion", 1, 4, 1.0, 1),
        asked("right pneumothorax and small nodule, no acute disease at all", 2, 9, 3.0, 2),
        asked("no acute disease", 3, 2, 1.0, 3),
        asked("nodule", 4, 12, 2.0, 1),
        asked("small effusion", 5, 6, 1.0, 2),
    ];
    let mut alone = Vec::new();
    for one in &mix {
        alone.push(grids(client.clone(), one.clone()).await);
    }
    let together: Vec<_> = mix.iter().map(|one| tokio::spawn(grids(client.clone(), one.clone()))).collect();
    for (expected, task) in alone.into_iter().zip(together) {
        assert_eq!(task.await.expect("joined"), expected);
    }
}

#[tokio::test]
async fn a_real_bundle_encodes_decodes_embeds_and_scores() {
    let mut client = tiny_client().await;
    let data = (0..64 * 64).map(|at| (at % 251) as u8).collect();
    let image = v1::Image { format: v1::ImageFormat::Raw.into(), data, width: 64, height: 64, bit_depth: 8 };
    let input = Some(Input::Image(image.clone()));
    let encoding = v1::EncodeRequest { input, include_reconstruction: true, ..v1::EncodeRequest::default() };
    let mut events = client.encode(encoding).await.expect("encoded").into_inner();
    let first = events.message().await.expect("one").expect("one").event;
    let Some(v1::encode_response::Event::Grid(grid)) = first else { panic!("{first:?}") };
    assert_eq!((grid.height, grid.token_ids.len(), grid.mask_token_id), (8, 64, 24));
    let second = events.message().await.expect("two").expect("two").event;
    assert!(matches!(second, Some(v1::encode_response::Event::Reconstruction(picture)) if picture.width == 32));

    let input = Some(Input::Impression("pleural effusion".to_owned()));
    let mut events = client
        .encode(v1::EncodeRequest { input, ..v1::EncodeRequest::default() })
        .await
        .expect("embedded")
        .into_inner();
    let event = events.message().await.expect("one").expect("one").event;
    let Some(v1::encode_response::Event::Embedding(embedding)) = event else { panic!("{event:?}") };
    assert_eq!((embedding.token_count, embedding.width), (4, 12));

    use v1::score_request::{Message, ScoreConfig, ScoreItem, score_item::Target};
    let item =
        |target| ScoreItem { impression: "pleural effusion".to_owned(), target: Some(target), ..ScoreItem::default() };
    let messages = [
        Message::Config(ScoreConfig::default()),
        Message::Item(item(Target::Image(image))),
        Message::Item(item(Target::Grid(grid))),
    ];
    let requests = messages.map(|message| v1::ScoreRequest { message: Some(message) });
    let mut events = client.score(tokio_stream::iter(requests)).await.expect("scored").into_inner();
    let mut nlls = Vec::new();
    while let Some(response) = events.message().await.expect("goes on") {
        if let Some(v1::score_response::Event::Item(item)) = response.event {
            nlls.push(item.nll);
        }
    }
    assert_eq!(nlls.len(), 2);
    // A model with random weights knows about as much as a die with 24 sides.
    assert!(nlls.iter().all(|nll| (1.0..10.0).contains(nll)), "{nlls:?}");
}

#[tokio::test]
async fn an_impression_of_words_that_the_model_does_not_know_is_generated_and_scored_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let bundle = directory.path().join("tiny");
    let mut config = tiny::config(1);
    config.text.pass_over_unknown_words = true;
    tiny::write(&bundle, &config);
    let mut client = served(load(Some(&bundle), &placement()).expect("loaded")).await;

    let outcome = collect(client.generate(request("fractured rib")).await.expect("admitted").into_inner()).await;
    assert!(outcome.error.is_none(), "{:?}", outcome.error);
    let Some(v1::generate_response::Event::Admitted(admitted)) = &outcome.events[0].event else { panic!("admitted") };
    assert_eq!(admitted.unsupported_terms, ["fractured", "rib"]);
    let picture = outcome.grids()[0].clone();

    use v1::score_request::{Message, ScoreConfig, ScoreItem, score_item::Target};
    let item = |impression: &str| {
        let grid = v1::TokenGrid { height: 8, width: 8, token_ids: picture.clone(), mask_token_id: 24 };
        Message::Item(ScoreItem {
            impression: impression.to_owned(),
            target: Some(Target::Grid(grid)),
            ..ScoreItem::default()
        })
    };
    let messages = [Message::Config(ScoreConfig::default()), item("fractured rib"), item("broken clavicle")];
    let requests = messages.map(|message| v1::ScoreRequest { message: Some(message) });
    let mut events = client.score(tokio_stream::iter(requests)).await.expect("scored").into_inner();
    let mut gains = Vec::new();
    while let Some(response) = events.message().await.expect("goes on") {
        if let Some(v1::score_response::Event::Item(item)) = response.event {
            gains.push(item.text_gain);
        }
    }
    assert_eq!(gains, [0.0, 0.0], "both are the null condition, so neither text helps");
}

/// Writes a bundle whose transformer is spoilt.
fn spoilt(target: &Path, spoil: impl Fn(&mut std::collections::BTreeMap<String, Tensor>)) {
    tiny::write_with(target, &tiny::config(1), |component, tensors| {
        if component == Component::Transformer {
            spoil(tensors);
        }
    });
}

#[test]
fn a_bad_bundle_is_refused_by_file_and_tensor() {
    let directory = tempfile::tempdir().expect("a directory");
    let failure = |name: &str| {
        let error = load(Some(&directory.path().join(name)), &placement()).expect_err("refused");
        error.to_string()
    };
    spoilt(&directory.path().join("missing"), |tensors| drop(tensors.remove("final_dense.weight")));
    let error = failure("missing");
    assert!(error.contains("transformer.safetensors") && error.contains("final_dense.weight"), "{error}");
    assert!(error.starts_with("models/missing/versions/1 cannot be loaded from "), "{error}");

    spoilt(&directory.path().join("misshapen"), |tensors| {
        let tensor = tensors.get_mut("final_dense.weight").expect("there");
        *tensor = tensor.t().expect("transposed").contiguous().expect("whole");
    });
    let error = failure("misshapen");
    assert!(error.contains("final_dense.weight") && error.contains("[8, 24]"), "{error}");

    tiny::write(&directory.path().join("cut"), &tiny::config(1));
    let file = directory.path().join("cut/vqgan.safetensors");
    let bytes = std::fs::read(&file).expect("read");
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("cut");
    assert!(failure("cut").contains("vqgan.safetensors"), "{}", failure("cut"));
}

#[test]
fn among_several_bundles_the_good_ones_serve_and_the_bad_ones_say_why() {
    let directory = tempfile::tempdir().expect("a directory");
    tiny::write(&directory.path().join("good/1"), &tiny::config(1));
    tiny::write(&directory.path().join("good/2"), &tiny::config(1));
    spoilt(&directory.path().join("bad/1"), |tensors| drop(tensors.remove("final_dense.weight")));
    let repository = load(Some(directory.path()), &placement()).expect("something serves");
    assert_eq!(repository.resolve("models/good").expect("ready").name, "models/good/versions/2");
    let error = repository.resolve("models/bad").expect_err("not ready").to_string();
    assert!(error.contains("final_dense.weight"), "{error}");

    std::fs::remove_dir_all(directory.path().join("good")).expect("removed");
    assert!(matches!(load(Some(directory.path()), &placement()), Err(LoadError::AllBad { .. })));
    let empty = tempfile::tempdir().expect("a directory");
    assert!(matches!(load(Some(empty.path()), &placement()), Err(LoadError::NoBundle(_))));
    assert!(matches!(load(Some(Path::new("/nowhere")), &placement()), Err(LoadError::Directory { .. })));
}
