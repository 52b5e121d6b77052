//! Bad inputs, one by one: each is refused by field and reason, and none panics.

use raygen_proto::v1::SamplingParams as Asked;

use super::*;
use crate::engine::fake::FakeModel;

fn model() -> LoadedModel {
    LoadedModel::new("models/fake/versions/1", FakeModel::new())
}

fn without_guidance() -> LoadedModel {
    LoadedModel::new("models/fake/versions/1", FakeModel::new().with_info(|info| info.supports_guidance = false))
}

fn sampled(asked: &Asked, model: &LoadedModel) -> Result<SamplingParams, Vec<Violation>> {
    let mut violations = Violations::default();
    let params = sampling(&mut violations, "", Some(asked), model);
    match violations.finish() {
        Ok(()) => Ok(params),
        Err(ApiError::Invalid(violations)) => Err(violations),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn impressions_that_cannot_be_read_are_refused_with_the_reason() {
    let model = model();
    let long_words = "word ".repeat(15);
    let long_bytes = "x".repeat(MAX_TEXT_BYTES + 1);
    for (text, reason, said) in [
        ("", Reason::ImpressionBlank, "must not be blank"),
        ("  \n\t ", Reason::ImpressionBlank, "must not be blank"),
        ("?!.,", Reason::ImpressionBlank, "must not be blank"),
        ("a\0b", Reason::FieldInvalid, "U+0000 at byte 1"),
        ("\u{1b}[31m", Reason::FieldInvalid, "U+001B"),
        ("\u{9f}", Reason::FieldInvalid, "U+009F"),
        ("PNG\u{fffd}\u{fffd}", Reason::FieldInvalid, "U+FFFD"),
        (long_words.as_str(), Reason::FieldInvalid, "17 text tokens"),
        (long_bytes.as_str(), Reason::FieldInvalid, "8193 bytes; at most 8192"),
    ] {
        let violation = impression("impression", text, &model).expect_err("refused");
        assert_eq!((violation.field.as_str(), violation.reason), ("impression", reason), "{text:?}");
        assert!(violation.description.contains(said), "{}", violation.description);
    }
}

#[test]
fn strange_impressions_that_are_text_are_read() {
    let model = model();
    for text in ["Pneumonia", "line one\r\nline two\ttab", "e\u{301}", "مرحبا", "🩻 film", "[MASK] <s>", "漢字"]
    {
        impression("impression", text, &model).unwrap_or_else(|violation| panic!("{text:?}: {violation:?}"));
    }
}

#[test]
fn a_view_must_be_one_that_the_model_has_learnt() {
    let without = model();
    let with = LoadedModel::new(
        "models/fake/versions/1",
        FakeModel::new().with_info(|info| info.views = vec![View::AP, View::PA]),
    );
    assert_eq!(view("view", 0, &without), Ok(None));
    assert_eq!(view("view", v1::View::Pa.into(), &with), Ok(Some(View::PA)));
    let of_film = |named| view_of_film("item.view", named, &with).map_err(|violation| violation.field);
    assert_eq!(of_film(v1::View::Ap.into()), Ok(Some(View::AP)));
    assert_eq!(of_film(v1::View::Lateral.into()), Ok(None), "a film is what it is");
    assert_eq!(of_film(99), Err("item.view".to_owned()));
    for (asked, model, said) in [
        (v1::View::Pa.into(), &without, "knows no views"),
        (v1::View::Lateral.into(), &with, "has learnt AP, PA only"),
        (99, &with, "99 is not a view"),
        (-1, &without, "-1 is not a view"),
    ] {
        let violation = view("view", asked, model).expect_err("refused");
        assert_eq!((violation.field.as_str(), violation.reason), ("view", Reason::FieldInvalid));
        assert!(violation.description.contains(said), "{}", violation.description);
    }
}

#[test]
fn every_number_out_of_range_is_refused_by_its_path() {
    let model = model();
    let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 1e9];
    let mut cases: Vec<(Asked, &str)> = [0, 257, u32::MAX]
        .map(|step_count| (Asked { step_count: Some(step_count), ..Asked::default() }, "sampling.step_count"))
        .into();
    for value in floats {
        let value = Some(value);
        cases.push((Asked { temperature: value, ..Asked::default() }, "sampling.temperature"));
        cases.push((Asked { top_k_filter: value, ..Asked::default() }, "sampling.top_k_filter"));
        cases.push((Asked { guidance_scale: value, ..Asked::default() }, "sampling.guidance_scale"));
        cases.push((Asked { choice_temperature: value, ..Asked::default() }, "sampling.choice_temperature"));
        cases.push((Asked { refinement: value, ..Asked::default() }, "sampling.refinement"));
    }
    cases.push((Asked { top_k_filter: Some(1.0), ..Asked::default() }, "sampling.top_k_filter"));
    cases.push((Asked { guidance_scale: Some(0.0), ..Asked::default() }, "sampling.guidance_scale"));
    cases.push((Asked { sampler: 99, ..Asked::default() }, "sampling.sampler"));
    cases.push((Asked { sampler: -1, ..Asked::default() }, "sampling.sampler"));
    for (asked, field) in cases {
        let violations = sampled(&asked, &model).expect_err("refused");
        assert_eq!((violations[0].field.as_str(), violations[0].reason), (field, Reason::FieldInvalid), "{asked:?}");
    }
}

#[test]
fn numbers_at_the_edge_are_taken() {
    let model = model();
    for asked in [
        Asked { step_count: Some(1), ..Asked::default() },
        Asked { step_count: Some(256), ..Asked::default() },
        Asked { temperature: Some(-0.0), ..Asked::default() },
        Asked { temperature: Some(1e-38), ..Asked::default() },
        Asked { top_k_filter: Some(0.999), ..Asked::default() },
        Asked { seed: Some(u64::MAX), ..Asked::default() },
    ] {
        sampled(&asked, &model).unwrap_or_else(|violations| panic!("{violations:?}"));
    }
}

#[test]
fn absent_fields_take_the_models_defaults_and_a_seed_is_drawn() {
    let model = model();
    let params = sampled(&Asked { temperature: Some(0.5), ..Asked::default() }, &model).expect("in order");
    assert_eq!(params.step_count, model.info().default_sampling.step_count);
    assert_eq!(params.temperature, 0.5);
    let other = sampled(&Asked::default(), &model).expect("in order");
    assert_ne!(params.seed, other.seed);
    assert!(params.seed < 1 << 53);
}

#[test]
fn guidance_on_a_model_without_condition_dropout_has_its_own_reason() {
    let model = without_guidance();
    let violations = sampled(&Asked { guidance_scale: Some(2.0), ..Asked::default() }, &model).expect_err("refused");
    assert_eq!(violations[0].reason, Reason::GuidanceUnsupported);
    assert_eq!(violations[0].field, "sampling.guidance_scale");
    assert!(sampled(&Asked { guidance_scale: Some(1.0), ..Asked::default() }, &model).is_ok());
    let violation = negative_without_guidance("negative_impression", &model).expect_err("refused");
    assert_eq!(violation.reason, Reason::GuidanceUnsupported);
}

#[test]
fn grids_of_another_shape_or_with_ids_that_are_none_are_refused() {
    let model = model();
    let fine = v1::TokenGrid { height: 4, width: 4, token_ids: vec![0; 16], mask_token_id: 16 };
    let refused = |change: &dyn Fn(&mut v1::TokenGrid)| {
        let mut changed = fine.clone();
        change(&mut changed);
        let violation = grid("grid", &changed, model.info(), false).expect_err("refused");
        assert_eq!(violation.reason, Reason::GridInvalid);
        violation.field
    };
    assert_eq!(refused(&|g| g.height = 3), "grid");
    assert_eq!(refused(&|g| (g.height, g.width) = (1 << 16, 1 << 16)), "grid");
    assert_eq!(refused(&|g| (g.height, g.width) = (0, 0)), "grid");
    assert_eq!(refused(&|g| g.token_ids.truncate(15)), "grid.token_ids");
    assert_eq!(refused(&|g| g.token_ids[3] = 16), "grid.token_ids");
    assert_eq!(refused(&|g| g.token_ids[3] = u32::MAX), "grid.token_ids");
    assert_eq!(refused(&|g| g.mask_token_id = 1024), "grid.mask_token_id");

    assert!(grid("grid", &fine, model.info(), false).is_ok());
    let undecided = v1::TokenGrid { token_ids: vec![16; 16], ..fine };
    assert!(grid("grid", &undecided, model.info(), true).is_ok());
}

#[test]
fn counts_modes_and_ids_that_are_none_are_refused() {
    assert_eq!(sample_count("sample_count", 0).expect("one"), 1);
    assert_eq!(sample_count("sample_count", 16).expect("sixteen"), 16);
    for count in [17, u32::MAX] {
        assert_eq!(sample_count("sample_count", count).expect_err("refused").field, "sample_count");
    }
    for mode in [-1, 5, 99] {
        assert_eq!(preview("output.preview_mode", mode).expect_err("refused").reason, Reason::FieldInvalid);
    }
    assert_eq!(request_id("request_id", "").expect("none"), None);
    let id = "9F1C2E4A-7B3D-4C5E-8F60-123456789ABC";
    assert_eq!(request_id("request_id", id).expect("an id").as_deref(), Some(id.to_lowercase().as_str()));
    for bad in ["x", "9f1c2e4a-7b3d-1c5e-8f60-123456789abc", "\0"] {
        assert_eq!(request_id("request_id", bad).expect_err("refused").field, "request_id");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let mut violations = Violations::default();
    violations.keep(sample_count("sample_count", 17));
    violations.keep(preview("output.preview_mode", 99));
    let Err(ApiError::Invalid(all)) = violations.finish() else { panic!("refused") };
    let fields: Vec<&str> = all.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["sample_count", "output.preview_mode"]);
}
