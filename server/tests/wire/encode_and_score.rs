//! Encode, Decode, Score and the list of models over the wire.

use raygen_model::transformer::View;
use raygen_proto::v1;
use raygen_proto::v1::encode_request::Input;
use raygen_proto::v1::score_request::score_item::Target;
use raygen_proto::v1::score_request::{Message, ScoreConfig, ScoreItem};
use raygen_proto::v1::score_response::{Event, ItemScore, Metric, Summary};
use raygen_server::engine::EngineSettings;
use tonic::{Code, Status};

use crate::common::{FAKE, Served, refusal};

fn raw(data: Vec<u8>) -> v1::Image {
    v1::Image { format: v1::ImageFormat::Raw.into(), data, width: 8, height: 8, bit_depth: 8 }
}

fn grid(id: u32) -> v1::TokenGrid {
    v1::TokenGrid { height: 4, width: 4, token_ids: vec![id; 16], mask_token_id: 16 }
}

async fn encode(server: &Served, request: v1::EncodeRequest) -> Result<Vec<v1::EncodeResponse>, Status> {
    let mut stream = server.client().await.encode(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await? {
        events.push(event);
    }
    Ok(events)
}

#[tokio::test]
async fn a_picture_becomes_its_grid_and_the_grid_a_picture_again() {
    let server = Served::start().await;
    let request = v1::EncodeRequest {
        input: Some(Input::Image(raw(vec![128; 64]))),
        include_reconstruction: true,
        ..v1::EncodeRequest::default()
    };
    let events = encode(&server, request).await.expect("encoded");
    let Some(v1::encode_response::Event::Grid(found)) = &events[0].event else { panic!("a grid first") };
    assert_eq!(found, &grid(8));
    let Some(v1::encode_response::Event::Reconstruction(picture)) = &events[1].event else { panic!("a picture") };
    assert_eq!((picture.width, picture.format()), (8, v1::ImageFormat::Png));

    let request = v1::DecodeRequest { grid: Some(grid(8)), ..v1::DecodeRequest::default() };
    let decoded = server.client().await.decode(request).await.expect("decoded").into_inner();
    assert_eq!(decoded.image.expect("a picture").data, picture.data);
}

#[tokio::test]
async fn an_impression_becomes_its_embedding() {
    let server = Served::start().await;
    let input = Some(Input::Impression("acute edema".to_owned()));
    let events = encode(&server, v1::EncodeRequest { input, ..v1::EncodeRequest::default() }).await.expect("encoded");
    let Some(v1::encode_response::Event::Embedding(embedding)) = &events[0].event else { panic!("an embedding") };
    assert_eq!((embedding.token_count, embedding.width, embedding.values.len()), (2, 2, 4));
    assert_eq!(embedding.tokens, ["acute", "edema"]);
}

#[tokio::test]
async fn what_cannot_be_encoded_or_decoded_is_refused_by_field() {
    let server = Served::start().await;
    let image = |image| Some(Input::Image(image));
    let bomb = {
        // A PNG whose header claims 60,000 by 60,000 pixels.
        let mut data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        data.extend_from_slice(&60_000u32.to_be_bytes());
        data.extend_from_slice(&60_000u32.to_be_bytes());
        data.extend_from_slice(b"\x08\0\0\0\0\x96\x1f\x0b\x2e");
        v1::Image { data, ..v1::Image::default() }
    };
    for (input, reasons, field) in [
        (None, &["FIELD_INVALID"][..], "input"),
        (image(v1::Image::default()), &["IMAGE_INVALID"], "image"),
        (image(raw(vec![0; 63])), &["IMAGE_INVALID"], "image"),
        (image(v1::Image { format: 77, ..raw(vec![0; 64]) }), &["FIELD_INVALID"], "image.format"),
        (image(v1::Image { width: 20_000, height: 20_000, ..raw(vec![0; 64]) }), &["IMAGE_TOO_LARGE"], "image"),
        (image(raw(vec![0; 34 << 20])), &["IMAGE_TOO_LARGE"], "image"),
        (image(bomb), &["IMAGE_TOO_LARGE", "IMAGE_INVALID"], "image"),
        (Some(Input::Impression(String::new())), &["IMPRESSION_BLANK"], "impression"),
    ] {
        let status =
            encode(&server, v1::EncodeRequest { input, ..v1::EncodeRequest::default() }).await.expect_err("refused");
        let (code, reason, found) = refusal(&status);
        assert_eq!((code, found.as_str()), (Code::InvalidArgument, field), "{status:?}");
        assert!(reasons.contains(&reason.as_str()), "{status:?}");
    }
    for grid in [None, Some(grid(16)), Some(grid(u32::MAX)), Some(v1::TokenGrid { height: 5, ..grid(0) })] {
        let status = server
            .client()
            .await
            .decode(v1::DecodeRequest { grid, ..v1::DecodeRequest::default() })
            .await
            .expect_err("refused");
        assert_eq!(refusal(&status).1, "GRID_INVALID", "{status:?}");
    }
}

async fn score(server: &Served, messages: Vec<Message>) -> Result<(Vec<ItemScore>, u32, Summary), Status> {
    let requests: Vec<_> = messages.into_iter().map(|message| v1::ScoreRequest { message: Some(message) }).collect();
    let mut stream = server.client().await.score(tokio_stream::iter(requests)).await?.into_inner();
    let (mut items, mut samples) = (Vec::new(), 0);
    loop {
        match stream.message().await?.expect("a summary comes last").event.expect("an event") {
            Event::Item(item) => items.push(item),
            Event::Sample(_) => samples += 1,
            Event::Summary(summary) => {
                assert!(stream.message().await?.is_none());
                return Ok((items, samples, summary));
            }
        }
    }
}

fn item(id: &str, impression: &str, target: Target) -> Message {
    Message::Item(ScoreItem {
        id: id.to_owned(),
        impression: impression.to_owned(),
        target: Some(target),
        ..ScoreItem::default()
    })
}

fn metric<'a>(summary: &'a Summary, name: &str) -> &'a Metric {
    summary.metrics.iter().find(|metric| metric.name == name).expect("the metric")
}

#[tokio::test]
async fn items_are_scored_in_order_at_each_ratio_and_summed_up() {
    let server = Served::start().await;
    let messages = vec![
        Message::Config(ScoreConfig { mask_ratios: vec![0.5, 1.0], seed: 3, ..ScoreConfig::default() }),
        item("a", "edema", Target::Grid(grid(1))),
        item("b", "edema", Target::Grid(grid(2))),
        item("c", "pneumonia", Target::Image(raw(vec![128; 64]))),
        item("d", "pneumonia", Target::Grid(grid(4))),
    ];
    let (items, samples, summary) = score(&server, messages.clone()).await.expect("scored");
    assert_eq!(items.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert_eq!((summary.item_count, samples), (4, 0));
    for item in &items {
        let nlls: Vec<f64> = item.ratios.iter().map(|ratio| ratio.nll).collect();
        assert_eq!(item.ratios.iter().map(|ratio| ratio.mask_ratio).collect::<Vec<_>>(), [0.5, 1.0]);
        assert!((item.nll - (nlls[0] + nlls[1]) / 2.0).abs() < 1e-12);
        assert!(item.nll > 0.0 && item.text_gain != 0.0);
        assert_eq!(item.reconstruction_psnr.is_some(), item.id == "c", "absent for grids");
    }
    let nll = metric(&summary, "nll");
    let mean = items.iter().map(|item| item.nll).sum::<f64>() / 4.0;
    assert!((nll.value.expect("defined") - mean).abs() < 1e-12);
    assert!(nll.lower < nll.value && nll.value < nll.upper);
    assert_eq!((nll.sample_count, nll.higher_is_better), (4, false));
    assert!(nll.protocol.contains("0.5, 1") && nll.protocol.contains("seed 3"), "{}", nll.protocol);
    assert_eq!(metric(&summary, "reconstruction_psnr").sample_count, 1);

    let again = score(&server, messages).await.expect("scored");
    assert_eq!(again.0, items, "the same seed, the same masks");
}

#[tokio::test]
async fn the_text_gain_is_against_another_items_impression_or_none_at_all() {
    let server = Served::start().await;
    let config = || Message::Config(ScoreConfig { mask_ratios: vec![1.0], ..ScoreConfig::default() });
    let one = |impression: &str| item("x", impression, Target::Grid(grid(1)));
    let nll = async |impression: &str| score(&server, vec![config(), one(impression)]).await.expect("scored").0[0].nll;
    let (edema, pneumonia) = (nll("edema").await, nll("pneumonia").await);
    let (items, _, _) = score(&server, vec![config(), one("edema"), one("pneumonia")]).await.expect("scored");
    assert!((items[0].text_gain - (pneumonia - edema)).abs() < 1e-12, "the first waits for the next");
    assert!((items[1].text_gain - (edema - pneumonia)).abs() < 1e-12);
    let (alone, _, _) = score(&server, vec![config(), one("edema")]).await.expect("scored");
    assert_ne!(alone[0].text_gain, 0.0, "against the empty text");
}

#[tokio::test]
async fn a_film_is_scored_under_its_own_view_where_the_model_has_learnt_it() {
    let server = Served::with(EngineSettings::default(), |info| {
        info.views = vec![View::AP, View::PA];
        info.default_view = Some(View::PA);
    })
    .await;
    let nll = async |view: v1::View| {
        let Message::Item(item) = item("x", "edema", Target::Grid(grid(1))) else { panic!("an item") };
        let item = Message::Item(ScoreItem { view: view.into(), ..item });
        score(&server, vec![Message::Config(ScoreConfig::default()), item]).await.expect("scored").0[0].nll
    };
    assert_ne!(nll(v1::View::Ap).await, nll(v1::View::Pa).await);
    assert_eq!(nll(v1::View::Pa).await, nll(v1::View::Unspecified).await);
    assert_eq!(nll(v1::View::Lateral).await, nll(v1::View::Pa).await, "it has not learnt lateral films");
}

#[tokio::test]
async fn impressions_that_the_model_reads_alike_are_no_mismatch() {
    let server = Served::start().await;
    let config = || Message::Config(ScoreConfig { mask_ratios: vec![1.0], ..ScoreConfig::default() });
    let one = |impression: &str| item("x", impression, Target::Grid(grid(1)));
    let (alone, _, _) = score(&server, vec![config(), one("edema")]).await.expect("scored");
    let (items, _, _) = score(&server, vec![config(), one("edema"), one(" EDEMA ")]).await.expect("scored");
    for found in &items {
        assert_eq!(found.text_gain, alone[0].text_gain, "against the empty text, not against its own");
    }
    let (items, _, _) =
        score(&server, vec![config(), one("edema"), one("Edema"), one("pneumonia")]).await.expect("scored");
    assert_eq!(items[0].text_gain, items[1].text_gain, "both against the third");
    assert_ne!(items[0].text_gain, alone[0].text_gain);
}

#[tokio::test]
async fn pictures_are_generated_for_each_item_where_asked_for() {
    let server = Served::start().await;
    let config = ScoreConfig { samples_per_item: 2, return_samples: true, ..ScoreConfig::default() };
    let messages = vec![Message::Config(config), item("a", "edema", Target::Grid(grid(1)))];
    let (items, samples, _) = score(&server, messages).await.expect("scored");
    assert_eq!((items.len(), samples), (1, 2));
}

#[tokio::test]
async fn an_empty_set_has_undefined_metrics_and_says_why() {
    let server = Served::start().await;
    let (items, _, summary) = score(&server, vec![Message::Config(ScoreConfig::default())]).await.expect("scored");
    assert!(items.is_empty());
    let nll = metric(&summary, "nll");
    assert_eq!((nll.value, nll.undefined_reason.as_str()), (None, "no item was scored"));
}

#[tokio::test]
async fn a_scoring_that_is_wrong_is_refused_by_field() {
    let server = Served::start().await;
    let config = |change: fn(&mut ScoreConfig)| {
        let mut config = ScoreConfig::default();
        change(&mut config);
        vec![Message::Config(config)]
    };
    let with = |wrong: Message| vec![Message::Config(ScoreConfig::default()), wrong];
    let fine = || Target::Grid(grid(1));
    for (messages, reason, field) in [
        (vec![item("a", "edema", fine())], "FIELD_INVALID", "config"),
        (vec![], "FIELD_INVALID", "config"),
        (with(Message::Config(ScoreConfig::default())), "FIELD_INVALID", "config"),
        (config(|c| c.mask_ratios = vec![0.5, 0.0]), "FIELD_INVALID", "config.mask_ratios[1]"),
        (config(|c| c.mask_ratios = vec![f32::NAN]), "FIELD_INVALID", "config.mask_ratios[0]"),
        (config(|c| c.mask_ratios = vec![0.5; 1_000_000]), "FIELD_INVALID", "config.mask_ratios"),
        (config(|c| c.set_metrics = vec!["fid".to_owned()]), "FIELD_INVALID", "config.set_metrics[0]"),
        (config(|c| c.samples_per_item = 17), "FIELD_INVALID", "config.samples_per_item"),
        (
            config(|c| {
                c.sampling = Some(v1::SamplingParams { temperature: Some(-1.0), ..v1::SamplingParams::default() })
            }),
            "FIELD_INVALID",
            "config.sampling.temperature",
        ),
        (with(item("a", " ", fine())), "IMPRESSION_BLANK", "item.impression"),
        (with(item("a", "edema", Target::Grid(grid(16)))), "GRID_INVALID", "item.grid.token_ids"),
        (with(item("a", "edema", Target::Image(v1::Image::default()))), "IMAGE_INVALID", "item.image"),
    ] {
        let status = score(&server, messages).await.expect_err("refused");
        let expected = (Code::InvalidArgument, reason.to_owned(), field.to_owned());
        assert_eq!(refusal(&status), expected, "{status:?}");
    }
    server.settled().await;
}

#[tokio::test]
async fn models_are_listed_with_their_facts_and_failures() {
    let server = Served::start().await;
    let mut client = server.models().await;
    let list = client.list_models(v1::ListModelsRequest::default()).await.expect("listed").into_inner();
    assert_eq!(list.models.len(), 2);
    let (broken, fake) = (&list.models[0], &list.models[1]);
    assert_eq!(broken.state(), v1::model::State::Failed);
    assert!(broken.state_reason.contains("final_dense.weight"));
    assert_eq!((fake.name.as_str(), fake.state()), (FAKE, v1::model::State::Ready));
    assert_eq!((fake.grid_height, fake.codebook_size, fake.supports_guidance), (4, 16, true));

    let name = "models/fake".to_owned();
    let got = client.get_model(v1::GetModelRequest { name }).await.expect("got").into_inner().model;
    assert_eq!(got.as_ref(), Some(fake));
    let status = client.get_model(v1::GetModelRequest { name: "models/x".into() }).await.expect_err("refused");
    assert_eq!(refusal(&status).1, "MODEL_NOT_FOUND");
    let status = client.load_model(v1::LoadModelRequest { name: FAKE.into() }).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);
}
