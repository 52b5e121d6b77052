//! The loaded model: rows never depend on their neighbours, and everything refused says why.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod tiny;

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component};
use raygen_model::image::Picture;
use raygen_model::model::{Condition, Model, ModelError};
use raygen_model::sampler::{SampleState, Sampler, SamplingParams};
use raygen_model::transformer::{TransformerConfig, View, Views};

fn model_of(config: &raygen_model::bundle::BundleConfig) -> Model {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("bundle");
    tiny::write(&target, config);
    Model::load(&Bundle::open(&target).unwrap(), &Device::Cpu, DType::F32).unwrap()
}

fn model() -> Model {
    model_of(&tiny::config(1))
}

/// A grid of which every fifth position is undecided.
fn grid(seed: u32) -> Vec<u32> {
    (0..64u32).map(|i| if i % 5 == 0 { 24 } else { (i * 7 + seed * 13) % 24 }).collect()
}

fn complete_grid(seed: u32) -> Vec<u32> {
    (0..64u32).map(|i| (i * 11 + i / 8 + seed * 5) % 24).collect()
}

fn picture(side: usize) -> Picture {
    let pixels = (0..side * side).map(|i| ((i * 37) % 101) as f32 / 100.0).collect();
    Picture::new(side, side, pixels).unwrap()
}

#[test]
fn a_rows_logits_have_the_same_bits_whatever_shares_the_batch() {
    let model = model();
    let texts = ["effusion", "small right pneumothorax and pleural effusion, no nodule", ""];
    let conditions: Vec<_> =
        texts.iter().map(|text| model.condition(&model.tokenize(text).unwrap()).unwrap()).collect();
    assert_ne!(conditions[0].token_count(), conditions[1].token_count(), "the texts have two length classes");
    let grids: Vec<_> = (0..7).map(grid).collect();
    let rows: Vec<_> = grids.iter().enumerate().map(|(i, ids)| (ids.as_slice(), &conditions[i % 3])).collect();
    let together = model.logits(&rows).unwrap();
    for (row, logits) in rows.iter().zip(&together) {
        assert_eq!(logits.len(), 64 * 24);
        let alone = model.logits(&[*row]).unwrap();
        assert!(alone[0].iter().zip(logits).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    let mut reversed = rows.clone();
    reversed.reverse();
    let backwards = model.logits(&reversed).unwrap();
    assert!(backwards.iter().rev().zip(&together).all(|(a, b)| a == b));
}

#[test]
fn text_and_grid_both_matter_to_the_logits() {
    let model = model();
    let one = model.condition(&model.tokenize("effusion").unwrap()).unwrap();
    let other = model.condition(&model.tokenize("nodule").unwrap()).unwrap();
    let logits = model.logits(&[(&grid(0), &one), (&grid(0), &other), (&grid(1), &one)]).unwrap();
    assert_ne!(logits[0], logits[1]);
    assert_ne!(logits[0], logits[2]);
}

#[test]
fn the_same_seed_gives_the_same_tokens_alone_and_among_others() {
    let model = model();
    let condition = model.condition(&model.tokenize("pleural effusion").unwrap()).unwrap();
    for sampler in [Sampler::Published, Sampler::Maskgit, Sampler::Halton] {
        let params =
            SamplingParams { sampler, step_count: 5, guidance_scale: 2.5, seed: 99, ..SamplingParams::default() };
        let mut many: Vec<SampleState> = (0..4).map(|sample| model.empty_state(sample)).collect();
        model.generate(&condition, None, &params, &mut many).unwrap();
        for (sample, state) in many.iter().enumerate() {
            assert!(state.is_complete());
            let mut alone = [model.empty_state(sample as u32)];
            model.generate(&condition, None, &params, &mut alone).unwrap();
            assert_eq!(alone[0].ids, state.ids, "{sampler:?}");
        }
        assert_ne!(many[0].ids, many[1].ids, "{sampler:?}: samples differ");
    }
}

fn model_with_views() -> Model {
    let mut config = tiny::config(1);
    let Some(TransformerConfig::Raygen(transformer)) = &mut config.components.transformer else { panic!("no raygen") };
    transformer.views = Some(Views { default: View::PA, trained: vec![View::AP, View::PA] });
    model_of(&config)
}

#[test]
fn a_view_matters_to_the_logits_and_rows_of_different_views_share_a_batch_without_mixing() {
    let model = model_with_views();
    let text = model.tokenize("pleural effusion").unwrap();
    let of = |view| model.condition_of_view(&text, view).unwrap();
    let (default, ap, pa) = (of(None), of(Some(View::AP)), of(Some(View::PA)));
    let ids = grid(0);
    let together = model.logits(&[(&ids, &ap), (&ids, &pa), (&ids, &default)]).unwrap();
    assert_ne!(together[0], together[1]);
    assert_eq!(together[1], together[2]);
    for (condition, logits) in [&ap, &pa, &default].into_iter().zip(&together) {
        assert_eq!(&model.logits(&[(&ids, condition)]).unwrap()[0], logits);
    }
    for view in [View::Lateral, View::Frontal] {
        let error = model.condition_of_view(&text, Some(view)).unwrap_err();
        assert!(matches!(error, ModelError::UnknownView { .. }) && error.to_string().contains("AP, PA"), "{error}");
    }
    assert!(matches!(asks_for_a_view(&model_of(&tiny::config(1))), Err(ModelError::UnknownView { .. })));
}

fn asks_for_a_view(model: &Model) -> Result<(), ModelError> {
    model.condition_of_view(&model.tokenize("nodule")?, Some(View::PA)).map(drop)
}

#[test]
fn guidance_moves_away_from_the_empty_text_of_the_same_view() {
    let model = model_with_views();
    let text = model.tokenize("pleural effusion").unwrap();
    let params = SamplingParams { step_count: 4, guidance_scale: 60.0, seed: 5, ..SamplingParams::default() };
    let tokens = |view, negative: Option<&Condition>| {
        let mut states = [model.empty_state(0)];
        let condition = model.condition_of_view(&text, view).unwrap();
        model.generate(&condition, negative, &params, &mut states).unwrap();
        states[0].ids.clone()
    };
    let null = |view| model.null_condition_of_view(view).unwrap();
    // The default first: were one null condition kept for all views, it would be that one.
    assert_eq!(tokens(None, None), tokens(Some(View::PA), Some(&null(None))));
    assert_eq!(tokens(Some(View::AP), None), tokens(Some(View::AP), Some(&null(Some(View::AP)))));
    assert_ne!(tokens(Some(View::AP), None), tokens(Some(View::AP), Some(&null(Some(View::PA)))));
}

#[test]
fn only_the_undecided_part_of_a_canvas_is_generated() {
    let model = model();
    let condition = model.null_condition().unwrap();
    let mut states = [SampleState::from_canvas(grid(3), 24, 0)];
    model.generate(&condition, None, &SamplingParams::default(), &mut states).unwrap();
    for (before, after) in grid(3).iter().zip(&states[0].ids) {
        assert!(*after < 24 && (*before == 24 || before == after));
    }
}

#[test]
fn pictures_decode_alike_alone_and_together() {
    let model = model();
    let grids = [complete_grid(0), complete_grid(1), complete_grid(2)];
    let together = model.decode(&[&grids[0], &grids[1], &grids[2]]).unwrap();
    for (ids, picture) in grids.iter().zip(&together) {
        assert_eq!((picture.width, picture.height), (tiny::SIDE, tiny::SIDE));
        assert!(picture.pixels.iter().all(|value| (0.0..=1.0).contains(value)));
        assert_eq!(&model.decode(&[ids]).unwrap()[0], picture);
    }
    assert_ne!(together[0], together[1]);
    assert!(model.decode(&[]).unwrap().is_empty());
}

#[test]
fn pictures_of_any_size_encode_and_equal_ones_alike() {
    let model = model();
    let (same, large) = (picture(tiny::SIDE), picture(100));
    let grids = model.encode(&[&same, &large, &same]).unwrap();
    assert!(grids.iter().all(|ids| ids.len() == 64 && ids.iter().all(|&id| id < 24)));
    assert_eq!(grids[0], grids[2]);
    assert_eq!(model.encode(&[&large]).unwrap()[0], grids[1]);
}

#[test]
fn colour_tokenizers_take_and_give_gray() {
    let model = model_of(&tiny::config(3));
    let ids = model.encode(&[&picture(tiny::SIDE)]).unwrap();
    let pictures = model.decode(&[&ids[0]]).unwrap();
    assert_eq!(pictures[0].pixels.len(), tiny::SIDE * tiny::SIDE);
}

#[test]
fn grids_and_ids_that_do_not_fit_are_refused() {
    let model = model();
    let null = model.null_condition().unwrap();
    let short = vec![0; 63];
    assert!(matches!(model.decode(&[&short]), Err(ModelError::GridSize { expected: 64, found: 63 })));
    assert!(matches!(model.logits(&[(&short, &null)]), Err(ModelError::GridSize { .. })));
    let mut ids = complete_grid(0);
    ids[9] = 24;
    let undecided = model.decode(&[&ids]);
    assert!(matches!(undecided, Err(ModelError::IdOutOfRange { id: 24, position: 9, limit: 24 })));
    assert!(model.logits(&[(&ids, &null)]).is_ok(), "an undecided position is what the transformer is for");
    ids[9] = u32::MAX;
    assert!(matches!(model.logits(&[(&ids, &null)]), Err(ModelError::IdOutOfRange { limit: 25, .. })));
}

#[test]
fn an_approximate_picture_has_the_patches_decided_so_far() {
    let model = model();
    let undecided = vec![24; 64];
    // Four rounds over 24 ids in grids of 64: the first calls measure, one decode each.
    let measuring = (0..100).take_while(|_| model.approximate(&undecided).unwrap().is_none()).count();
    assert_eq!(measuring, 3, "the fourth decode is the last");
    assert!(model.approximate(&undecided).unwrap().unwrap().pixels.iter().all(|&value| value == 0.5));

    let ids = complete_grid(4);
    let rough = model.approximate(&ids).unwrap().unwrap();
    assert_eq!(rough, model.approximate(&ids).unwrap().unwrap());
    // Nearer to its own decoded picture than to another one's.
    let decoded = model.decode(&[&ids, &complete_grid(1)]).unwrap();
    let distance =
        |other: &Picture| -> f32 { rough.pixels.iter().zip(&other.pixels).map(|(a, b)| (a - b).powi(2)).sum() };
    assert!(distance(&decoded[0]) < distance(&decoded[1]));
}

#[test]
fn patches_that_cannot_be_measured_are_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("bundle");
    // Finite weights that overflow: pictures that are not numbers.
    tiny::write_with(&target, &tiny::config(1), |component, tensors| {
        if component == Component::VqGan {
            for name in ["decoder.conv_in.weight", "decoder.conv_in.bias"] {
                let spoilt = (tensors[name].ones_like().unwrap() * f64::from(f32::MAX)).unwrap();
                tensors.insert(name.to_owned(), spoilt);
            }
        }
    });
    let model = Model::load(&Bundle::open(&target).unwrap(), &Device::Cpu, DType::F32).unwrap();
    let first = model.approximate(&complete_grid(0)).unwrap_err();
    assert!(matches!(first, ModelError::NotFinite { .. }), "{first}");
    let second = model.approximate(&complete_grid(0)).unwrap_err();
    assert!(matches!(second, ModelError::NoPatches(_)), "{second}");
}

#[test]
fn a_film_of_many_grays_has_the_grid_of_its_8_bit_copy() {
    let model = model();
    for seed in 0..24usize {
        let pixels =
            (0..tiny::SIDE * tiny::SIDE).map(|i| ((i * 7919 + seed * 104_729) % 9973) as f32 / 9972.0).collect();
        let film = Picture::new(tiny::SIDE, tiny::SIDE, pixels).unwrap();
        let kept = film.to_u8().into_iter().map(|value| f32::from(value) / 255.0).collect();
        let kept = Picture::new(tiny::SIDE, tiny::SIDE, kept).unwrap();
        assert_eq!(model.encode(&[&film]).unwrap(), model.encode(&[&kept]).unwrap(), "film {seed}");
    }
}

#[test]
fn embeddings_leave_out_the_pads() {
    let model = model();
    let tokens = model.tokenize("pleural effusion").unwrap();
    let embedding = model.embed_text(&tokens).unwrap();
    assert_eq!((embedding.token_count, embedding.width), (4, 12));
    assert_eq!(embedding.values.len(), 48);
    assert_eq!(tokens.tokens.len(), 4);
}

#[test]
fn a_model_without_a_network_says_which_it_lacks() {
    let mut config = tiny::config(1);
    config.components.transformer = None;
    let model = model_of(&config);
    let tokens = model.tokenize("effusion").unwrap();
    assert!(matches!(model.condition(&tokens), Err(ModelError::ComponentAbsent { component: Component::Transformer })));
    assert!(model.embed_text(&tokens).is_ok());
    assert!(model.decode(&[&complete_grid(0)]).is_ok());

    let mut config = tiny::config(1);
    config.components.text_encoder = None;
    config.components.vqgan = None;
    let model = model_of(&config);
    assert!(matches!(
        model.tokenize("effusion"),
        Err(ModelError::ComponentAbsent { component: Component::TextEncoder })
    ));
    assert!(matches!(
        model.decode(&[&complete_grid(0)]),
        Err(ModelError::ComponentAbsent { component: Component::VqGan })
    ));
}

#[test]
fn the_model_describes_itself() {
    let info = model().info().clone();
    assert_eq!((info.grid_height, info.grid_width, info.image_size), (8, 8, 32));
    assert_eq!((info.codebook_size, info.mask_token_id), (24, 24));
    assert_eq!((info.device.as_str(), info.dtype.as_str(), info.licence.as_str()), ("cpu", "f32", "CC0-1.0"));
    let expected: usize = [Component::VqGan, Component::Transformer, Component::TextEncoder]
        .into_iter()
        .flat_map(|component| tiny::tensors(&tiny::config(1), component))
        .map(|(_, tensor)| tensor.elem_count())
        .sum();
    assert_eq!(info.parameter_count, expected as u64);
    assert!(info.supports_guidance);
}
