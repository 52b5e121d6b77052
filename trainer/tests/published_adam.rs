//! Ten steps of our Adam on the golden batch move the golden weights to where the published PyTorch code moves them.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use raygen_model::import::{self, TransformerOptions};
use raygen_model::transformer::Transformer;
use raygen_nn::{Parameters, cross_entropy};
use raygen_trainer::config::OptimiserConfig;
use raygen_trainer::optim::AdamW;

/// The golden run's: Adam at 1e-3 with PyTorch's defaults.
const ADAM: OptimiserConfig = OptimiserConfig {
    learning_rate: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    weight_decay: 0.0,
    warm_up_steps: 0,
    clip_norm: f64::INFINITY,
    final_ratio: 1.0,
    ema_decay: 0.0,
    plateau: None,
};
const STEPS: usize = 10;
/// Of the largest value of a tensor; some are within it in itself.
const TOLERANCE: f32 = 1e-3;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden").join(name)
}

fn tensors(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(golden(name), &Device::Cpu).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference, and largest expected value.
fn difference(what: &str, ours: &Tensor, expected: &Tensor) -> (f32, f32) {
    assert_eq!(ours.dims(), expected.dims(), "{what}: shapes differ");
    let (ours, expected) = (floats(ours), floats(expected));
    let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let error = ours.iter().zip(&expected).fold(0f32, |error, (a, b)| error.max((a - b).abs()));
    (error, largest)
}

/// Asserts max |ours - expected| <= tolerance * max |expected|.
fn assert_close(what: &str, ours: &Tensor, expected: &Tensor) {
    let (error, largest) = difference(what, ours, expected);
    println!("{what}: {:.1e}", error / largest);
    assert!(error <= TOLERANCE * largest, "{what}: differs by {error:e}; largest expected value {largest:e}");
}

/// The packed bias of queries, keys and values. A softmax does not see a bias of the keys: its gradient is rounding alone,
/// which Adam blows up to steps of its own, in PyTorch as here. They stay within the tolerance itself, not within that of the
/// largest value.
fn assert_close_packed_bias(what: &str, ours: &Tensor, expected: &Tensor) {
    let width = ours.elem_count() / 3;
    for (place, part) in ["queries", "keys", "values"].into_iter().enumerate() {
        let third = |tensor: &Tensor| tensor.narrow(0, place * width, width).unwrap();
        let what = format!("{what} of the {part}");
        if part == "keys" {
            let (error, _) = difference(&what, &third(ours), &third(expected));
            assert!(error <= TOLERANCE, "{what}: differs by {error:e}");
        } else {
            assert_close(&what, &third(ours), &third(expected));
        }
    }
}

#[test]
fn ten_adam_steps_match_the_published_code() {
    let heads: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(golden("raygen_config.json")).unwrap()).unwrap();
    let number = |key: &str| heads[key].as_u64().unwrap() as usize;
    let options = TransformerOptions { heads: number("n_heads"), max_text_tokens: number("context_len") };
    let imported = import::transformer(&golden("raygen.ckpt"), options).unwrap();
    let start = imported.tensors.clone();
    let parameters = Parameters::from_tensors(imported.tensors).unwrap();
    let transformer = Transformer::new(&imported.config, parameters.builder(DType::F32)).unwrap();

    let batch = tensors("raygen_expected.safetensors");
    let ids = batch["masked_ids"].to_dtype(DType::U32).unwrap();
    let targets = batch["ids"].to_dtype(DType::U32).unwrap().flatten_all().unwrap();
    let weights = batch["mask"].to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    let loss = || {
        let context = transformer.context_from_normalised(&batch["text_features"], None).unwrap();
        let logits = transformer.logits(&ids, &context).unwrap().flatten(0, 1).unwrap();
        cross_entropy(&logits, &targets, &weights, 0.0).unwrap()
    };

    // As the stage has it: the tensors that the published code never calls have no gradient and no moments.
    let trained: Vec<_> = parameters.named().into_iter().filter(|(name, _)| !imported.config.is_unused(name)).collect();
    let mut adam = AdamW::new(ADAM, &trained).unwrap();
    let mut losses = Vec::new();
    for _ in 0..STEPS {
        let loss = loss();
        losses.push(loss.to_scalar::<f32>().unwrap());
        let report = adam.step(&trained, &loss.backward().unwrap(), ADAM.learning_rate).unwrap();
        assert_eq!(report.without_gradient, 0);
    }

    let expected = tensors("adam10_expected.safetensors");
    assert_close("losses", &Tensor::new(losses.as_slice(), &Device::Cpu).unwrap(), &expected["losses"]);
    for (name, var) in parameters.named() {
        if name.ends_with("in_proj_bias") {
            assert_close_packed_bias(&name, var.as_tensor(), &expected[&name]);
        } else {
            assert_close(&name, var.as_tensor(), &expected[&name]);
        }
        if imported.config.is_unused(&name) {
            assert_eq!(floats(var.as_tensor()), floats(&start[&name]), "{name} moved");
        } else {
            assert_ne!(floats(var.as_tensor()), floats(&start[&name]), "{name} never moved");
        }
    }
    assert_eq!(parameters.named().len() + 1, expected.len(), "every expected tensor and the losses were compared");
}
