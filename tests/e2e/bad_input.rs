//! The bad inputs that a server meets, over the wire: each is refused with the contract's code, reason and field, and
//! the server goes on serving.

use raygen_e2e::{BundleCopy, Refused, Server, TestResult, Wire, impression};
use raygen_proto::v1::{
    Canvas, DecodeRequest, EncodeRequest, GenerateRequest, GetModelRequest, ListModelsRequest, OutputOptions,
    SamplingParams, ScoreRequest, TokenGrid, canvas, encode_request,
    score_request::{Message, ScoreConfig, ScoreItem, score_item},
};
use tonic::{Code, Status};

use crate::pictures::decode;

/// What a refusal must say.
struct Expected {
    code: Code,
    reason: &'static str,
    /// The first field; empty where no field is to blame.
    field: &'static str,
}

fn invalid(reason: &'static str, field: &'static str) -> Expected {
    Expected { code: Code::InvalidArgument, reason, field }
}

fn field_invalid(field: &'static str) -> Expected {
    invalid("FIELD_INVALID", field)
}

fn check<T>(name: &str, outcome: Result<T, Status>, expected: &Expected) {
    let Err(status) = outcome else { panic!("{name}: was accepted") };
    let refused = Refused::from(&status);
    assert_eq!((refused.code, refused.reason.as_str()), (expected.code, expected.reason), "{name}: {refused:?}");
    let first = refused.fields.first().map_or("", String::as_str);
    assert_eq!(first, expected.field, "{name}: {refused:?}");
    assert!(!refused.message.is_empty(), "{name}: says nothing");
}

/// The server generates as if nothing had been.
async fn still_serves(wire: &Wire) -> TestResult {
    let sampling = Some(SamplingParams { step_count: Some(2), ..SamplingParams::default() });
    let generated = wire.generate(GenerateRequest { sampling, ..impression("Pneumonia.") }).await?;
    assert_eq!(generated.samples.len(), 1);
    Ok(())
}

fn sampling(change: impl FnOnce(&mut SamplingParams)) -> GenerateRequest {
    let mut sampling = SamplingParams::default();
    change(&mut sampling);
    GenerateRequest { sampling: Some(sampling), ..impression("Pneumonia.") }
}

#[tokio::test]
async fn impressions_that_are_none_are_refused() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    let many_words = "edema ".repeat(model.max_text_tokens as usize + 50);
    for (name, text, reason) in [
        ("nothing", "", "IMPRESSION_BLANK"),
        ("white space", " \t\r\n \u{a0}\u{3000}", "IMPRESSION_BLANK"),
        ("punctuation alone", "... --- !!", "IMPRESSION_BLANK"),
        ("accents without letters", "\u{301}\u{308}", "IMPRESSION_BLANK"),
        ("a pictogram alone", "🩻", "IMPRESSION_BLANK"),
        ("NUL", "Pulmonary\0edema", "FIELD_INVALID"),
        ("an escape", "Pulmonary \u{1b}[31medema", "FIELD_INVALID"),
        ("too many words", many_words.as_str(), "FIELD_INVALID"),
        ("a megabyte", &"pneumonia ".repeat(100_000), "FIELD_INVALID"),
    ] {
        let expected = invalid(reason, "impression");
        check(name, wire.generate(impression(text)).await, &expected);
        let input = Some(encode_request::Input::Impression(text.to_owned()));
        check(name, wire.encode(EncodeRequest { input, ..EncodeRequest::default() }).await, &expected);
    }
    still_serves(&wire).await
}

#[tokio::test]
async fn words_that_the_model_does_not_know_are_told_and_a_picture_comes() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let cases: [(&str, &[&str]); 7] = [
        ("a", &["a"]),
        ("肺炎", &["肺炎"]),
        ("[MASK] [CLS] [SEP]", &["mask", "cls", "sep"]),
        ("<s></s>", &["s"]),
        ("\u{202e}amedE", &["amede"]),
        ("Zebra crossing, ZEBRA!", &["zebra", "crossing"]),
        // A word that is known stays one, whatever clings to it.
        ("Pneumonia\u{200b}", &[]),
    ];
    for (text, unsupported) in cases {
        let request = GenerateRequest {
            sampling: Some(SamplingParams { step_count: Some(1), ..SamplingParams::default() }),
            ..impression(text)
        };
        let generated = wire.generate(request).await.map_err(|status| format!("{text}: {status}"))?;
        assert_eq!(generated.admitted.unsupported_terms, unsupported, "{text}");
        let picture = generated.samples.first().and_then(|sample| sample.image.as_ref()).ok_or("no picture")?;
        decode(&picture.data)?;
    }
    still_serves(&wire).await
}

#[tokio::test]
async fn numbers_that_are_zero_huge_or_none_are_refused_by_field() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    for count in [0, 257, u32::MAX] {
        let request = sampling(|sampling| sampling.step_count = Some(count));
        check(&format!("{count} steps"), wire.generate(request).await, &field_invalid("sampling.step_count"));
    }
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 1e30] {
        let request = sampling(|sampling| sampling.temperature = Some(number));
        check(&format!("T = {number}"), wire.generate(request).await, &field_invalid("sampling.temperature"));
        let request = sampling(|sampling| sampling.top_k_filter = Some(number));
        check(&format!("alpha = {number}"), wire.generate(request).await, &field_invalid("sampling.top_k_filter"));
        let request = sampling(|sampling| sampling.choice_temperature = Some(number));
        check(
            &format!("choice = {number}"),
            wire.generate(request).await,
            &field_invalid("sampling.choice_temperature"),
        );
        let request = sampling(|sampling| sampling.refinement = Some(number));
        check(&format!("refinement = {number}"), wire.generate(request).await, &field_invalid("sampling.refinement"));
        let request = sampling(|sampling| sampling.guidance_scale = Some(number));
        check(&format!("guidance = {number}"), wire.generate(request).await, &field_invalid("sampling.guidance_scale"));
    }
    let request = sampling(|sampling| sampling.top_k_filter = Some(1.0));
    check("alpha = 1", wire.generate(request).await, &field_invalid("sampling.top_k_filter"));
    for sampler in [99, -1, i32::MIN] {
        let request = sampling(|sampling| sampling.sampler = sampler);
        check(&format!("sampler {sampler}"), wire.generate(request).await, &field_invalid("sampling.sampler"));
    }
    for sample_count in [17, u32::MAX] {
        let request = GenerateRequest { sample_count, ..impression("Pneumonia.") };
        check(&format!("{sample_count} samples"), wire.generate(request).await, &field_invalid("sample_count"));
    }
    // Zero temperature is greedy, and minus zero is zero.
    for temperature in [0.0, -0.0, 1e-38] {
        let mut request = sampling(|sampling| sampling.temperature = Some(temperature));
        request.sampling.get_or_insert_default().step_count = Some(2);
        wire.generate(request).await?;
    }
    still_serves(&wire).await
}

#[tokio::test]
async fn guidance_on_a_model_that_was_not_trained_for_it_is_refused_as_unsupported() -> TestResult {
    let guided = || {
        sampling(|sampling| {
            sampling.guidance_scale = Some(2.0);
            sampling.step_count = Some(2);
        })
    };
    let negative = || GenerateRequest { negative_impression: "Edema.".to_owned(), ..guided() };
    let bundle = BundleCopy::new()?;
    bundle.change_config(|config| {
        config["text"]["condition_dropout"] = false.into();
        config["sampling"]["guidance_scale"] = 1.0.into();
    })?;
    let path = bundle.path().to_string_lossy().into_owned();
    let server = Server::start(["--device", "cpu", "--models", &path])?;
    let wire = server.wire().await?;
    assert!(!wire.model().await?.supports_guidance);
    check("guidance", wire.generate(guided()).await, &invalid("GUIDANCE_UNSUPPORTED", "sampling.guidance_scale"));
    let unguided = GenerateRequest { sampling: None, ..negative() };
    check("negative", wire.generate(unguided).await, &invalid("GUIDANCE_UNSUPPORTED", "negative_impression"));
    still_serves(&wire).await?;

    // The built-in model was trained for it.
    let wire = Server::shared()?.wire().await?;
    assert!(wire.model().await?.supports_guidance);
    wire.generate(guided()).await?;
    wire.generate(negative()).await?;
    Ok(())
}

#[tokio::test]
async fn names_and_options_that_nobody_knows_are_refused() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let not_found = Expected { code: Code::NotFound, reason: "MODEL_NOT_FOUND", field: "" };
    for model in
        ["models/nobody", "models/", "../../etc/passwd", "модель", "models/default/versions/99", &"m".repeat(5000)]
    {
        let request = GenerateRequest { model: model.to_owned(), ..impression("Pneumonia.") };
        check(model, wire.generate(request).await, &not_found);
        let request = DecodeRequest { model: model.to_owned(), ..DecodeRequest::default() };
        check(model, wire.decode(request).await, &not_found);
    }
    let empty = wire.models.clone().get_model(GetModelRequest::default()).await;
    check("no name", empty, &field_invalid("name"));
    let page = ListModelsRequest { page_token: "nonsense".to_owned(), page_size: u32::MAX };
    check("page token", wire.models.clone().list_models(page).await, &field_invalid("page_token"));
    let request = GenerateRequest { request_id: "not a UUID".to_owned(), ..impression("Pneumonia.") };
    check("request id", wire.generate(request).await, &field_invalid("request_id"));
    for (output, field) in [
        (OutputOptions { preview_mode: 99, ..OutputOptions::default() }, "output.preview_mode"),
        (OutputOptions { image_format: -7, ..OutputOptions::default() }, "output.image_format"),
    ] {
        let request = GenerateRequest { output: Some(output), ..impression("Pneumonia.") };
        check(field, wire.generate(request).await, &field_invalid(field));
    }
    still_serves(&wire).await
}

#[tokio::test]
async fn grids_that_do_not_fit_the_model_are_refused() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    let (height, width, mask) = (model.grid_height, model.grid_width, model.codebook_size);
    let full = TokenGrid { height, width, token_ids: vec![0; (height * width) as usize], mask_token_id: mask };
    let with = |place: usize, id: u32| {
        let mut grid = full.clone();
        grid.token_ids[place] = id;
        grid
    };
    let short = TokenGrid { token_ids: full.token_ids[1..].to_vec(), ..full.clone() };
    for (name, grid, field) in [
        ("0 x 0", TokenGrid::default(), "grid"),
        ("one row less", TokenGrid { height: height - 1, ..full.clone() }, "grid"),
        ("2^16 x 2^16", TokenGrid { height: 1 << 16, width: 1 << 16, ..full.clone() }, "grid"),
        ("2^31 x 2", TokenGrid { height: 1 << 31, width: 2, ..full.clone() }, "grid"),
        ("an id too few", short, "grid.token_ids"),
        ("an undecided position", with(0, mask), "grid.token_ids"),
        ("an id past the codebook", with(5, mask + 1), "grid.token_ids"),
        ("the largest id", with(5, u32::MAX), "grid.token_ids"),
        ("another mask id", TokenGrid { mask_token_id: mask + 1, ..full.clone() }, "grid.mask_token_id"),
    ] {
        check(
            name,
            wire.decode(DecodeRequest { grid: Some(grid), ..DecodeRequest::default() }).await,
            &invalid("GRID_INVALID", field),
        );
    }
    check("no grid", wire.decode(DecodeRequest::default()).await, &invalid("GRID_INVALID", "grid"));

    let on = |source, strength| GenerateRequest {
        canvas: Some(Canvas { source, mask: None, strength }),
        ..impression("Pneumonia.")
    };
    let grid = || Some(canvas::Source::Grid(full.clone()));
    check("a canvas of nothing", wire.generate(on(None, Some(0.5))).await, &field_invalid("canvas.source"));
    check("nothing to change", wire.generate(on(grid(), None)).await, &field_invalid("canvas"));
    for strength in [0.0, -1.0, 1.5, f32::NAN, f32::INFINITY] {
        let name = format!("strength {strength}");
        check(&name, wire.generate(on(grid(), Some(strength))).await, &field_invalid("canvas.strength"));
    }
    let past = Some(canvas::Source::Grid(with(1, mask + 7)));
    check(
        "a canvas past the codebook",
        wire.generate(on(past, Some(0.5))).await,
        &invalid("GRID_INVALID", "canvas.grid.token_ids"),
    );
    still_serves(&wire).await
}

#[tokio::test]
async fn scorings_that_make_no_sense_are_refused() -> TestResult {
    let server = Server::shared()?;
    let wire = server.wire().await?;
    let model = wire.model().await?;
    let config = |config: ScoreConfig| ScoreRequest { message: Some(Message::Config(config)) };
    let item = |item: ScoreItem| ScoreRequest { message: Some(Message::Item(item)) };
    let grid = TokenGrid {
        height: model.grid_height,
        width: model.grid_width,
        token_ids: vec![0; (model.grid_height * model.grid_width) as usize],
        mask_token_id: model.codebook_size,
    };
    let target = || Some(score_item::Target::Grid(grid.clone()));
    let good =
        || ScoreItem { id: "a".to_owned(), impression: "Edema.".to_owned(), target: target(), ..ScoreItem::default() };

    check("nothing", wire.score(Vec::new()).await, &field_invalid("config"));
    check("no configuration", wire.score(vec![item(good())]).await, &field_invalid("config"));
    let default = || config(ScoreConfig::default());
    check("two configurations", wire.score(vec![default(), default()]).await, &field_invalid("config"));
    let nobody = ScoreConfig { model: "models/nobody".to_owned(), ..ScoreConfig::default() };
    let not_found = Expected { code: Code::NotFound, reason: "MODEL_NOT_FOUND", field: "" };
    check("nobody's model", wire.score(vec![config(nobody)]).await, &not_found);
    for ratio in [0.0, -0.5, 1.0001, f32::NAN, f32::INFINITY] {
        let ratios = ScoreConfig { mask_ratios: vec![ratio], ..ScoreConfig::default() };
        check(
            &format!("ratio {ratio}"),
            wire.score(vec![config(ratios)]).await,
            &field_invalid("config.mask_ratios[0]"),
        );
    }
    let many = ScoreConfig { mask_ratios: vec![0.5; 1_000_000], ..ScoreConfig::default() };
    check("a million ratios", wire.score(vec![config(many)]).await, &field_invalid("config.mask_ratios"));
    let metric = ScoreConfig { set_metrics: vec!["beauty".to_owned()], ..ScoreConfig::default() };
    check("an unknown metric", wire.score(vec![config(metric)]).await, &field_invalid("config.set_metrics[0]"));

    let blank = ScoreItem { impression: " ".to_owned(), ..good() };
    check(
        "a blank item",
        wire.score(vec![default(), item(blank)]).await,
        &invalid("IMPRESSION_BLANK", "item.impression"),
    );
    let nothing = ScoreItem { target: None, ..good() };
    check("an item of nothing", wire.score(vec![default(), item(nothing)]).await, &field_invalid("item.target"));
    let small = ScoreItem { target: Some(score_item::Target::Grid(TokenGrid::default())), ..good() };
    check("an empty grid", wire.score(vec![default(), item(small)]).await, &invalid("GRID_INVALID", "item.grid"));
    let empty = ScoreRequest { message: None };
    check("an empty message", wire.score(vec![default(), empty]).await, &field_invalid("message"));
    still_serves(&wire).await
}
