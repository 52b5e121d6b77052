//! DenseNets in every layout that people have, against what PyTorch computes with them.

mod golden_support;

use std::error::Error;

use candle_core::{DType, Device, Tensor};
use golden_support::{TestResult, assert_close, expected, floats, golden, pick, weights};
use raygen_model::densenet::{DenseNet, DenseNetConfig, Fit, Head, PixelScale};
use raygen_model::image::Picture;
use raygen_model::import::{self, DenseNetOptions, ImportedDenseNet};

const EXPECTED: &str = "densenet/expected.safetensors";
const SIDE: usize = 64;

fn import_golden(file: &str) -> Result<ImportedDenseNet, Box<dyn Error>> {
    let options = DenseNetOptions { image_size: Some(SIDE), ..DenseNetOptions::default() };
    Ok(import::densenet(&golden("densenet").join(file), &options)?)
}

/// The golden films as the network reads them.
fn images(config: &DenseNetConfig) -> Result<Tensor, Box<dyn Error>> {
    let tensors = expected(EXPECTED)?;
    let films = pick(&tensors, "images")?;
    let mut values = Vec::new();
    for film in floats(films)?.chunks(SIDE * SIDE) {
        let pixels = film.iter().map(|value| value / 255.0).collect();
        values.extend(config.pixels(&Picture::new(SIDE, SIDE, pixels)?)?);
    }
    Ok(Tensor::from_vec(values, (films.dim(0)?, config.in_channels, SIDE, SIDE), &Device::Cpu)?)
}

fn assert_computes(file: &str, prefix: &str) -> TestResult {
    let imported = import_golden(file)?;
    let net = DenseNet::new(&imported.config, weights(&imported.tensors))?;
    let images = images(&imported.config)?;
    let tensors = expected(EXPECTED)?;
    let expected = |name: &str| pick(&tensors, &format!("{prefix}.{name}"));
    assert_close(&format!("{file}: maps"), &net.feature_maps(&images)?, expected("map")?, 1e-4)?;
    assert_close(&format!("{file}: features"), &net.features(&images)?, expected("features")?, 1e-4)?;
    assert_close(&format!("{file}: logits"), &net.logits(&images)?, expected("logits")?, 1e-4)
}

#[test]
fn torchvisions_state_dict_computes_what_torchvision_does() -> TestResult {
    assert_computes("torchvision.pth", "torchvision")
}

#[test]
fn chexnets_checkpoint_computes_what_its_network_does() -> TestResult {
    assert_computes("chexnet.pth.tar", "torchvision")
}

#[test]
fn chexnets_checkpoint_of_an_old_pytorch_computes_what_its_network_does() -> TestResult {
    assert_computes("chexnet_legacy.pth.tar", "torchvision")
}

#[test]
fn torchxrayvisions_state_dict_computes_what_its_network_does() -> TestResult {
    assert_computes("torchxrayvision.pt", "xrv")
}

#[test]
fn torchxrayvisions_whole_module_computes_what_its_network_does() -> TestResult {
    assert_computes("torchxrayvision_module.pt", "xrv")
}

#[test]
fn torchxrayvisions_whole_module_of_an_old_pytorch_computes_what_its_network_does() -> TestResult {
    assert_computes("torchxrayvision_module_legacy.pt", "xrv")
}

#[test]
fn sides_that_no_stage_divides_and_unlike_channels_compute_the_same() -> TestResult {
    let imported = import_golden("torchvision.pth")?;
    let net = DenseNet::new(&imported.config, weights(&imported.tensors))?;
    let tensors = expected(EXPECTED)?;
    let grey = (pick(&tensors, "odd")?.to_dtype(DType::F32)? / 255.0)?.unsqueeze(1)?;
    let colours = Tensor::cat(&[&grey, &(&grey * 0.5)?, &grey.neg()?], 1)?;
    assert_close("odd maps", &net.feature_maps(&colours)?, pick(&tensors, "torchvision_odd.map")?, 1e-4)?;
    assert_close("odd logits", &net.logits(&colours)?, pick(&tensors, "torchvision_odd.logits")?, 1e-4)
}

#[test]
fn the_shapes_of_the_tensors_tell_the_network() -> TestResult {
    for file in ["torchvision.pth", "chexnet.pth.tar"] {
        let config = import_golden(file)?.config;
        assert_eq!(config.block_layers, [2, 2, 2, 2], "{file}");
        assert_eq!((config.growth_rate, config.initial_features, config.bottleneck), (4, 8, 4), "{file}");
        assert_eq!((config.in_channels, config.classes.len(), config.features()), (3, 5, 16), "{file}");
        assert_eq!((config.scale, config.fit, config.head), (PixelScale::ImageNet, Fit::CentreCrop, Head::Sigmoid));
    }
    let config = import_golden("torchxrayvision.pt")?.config;
    assert_eq!(config.block_layers, [1, 3, 2, 2]);
    assert_eq!((config.bottleneck, config.in_channels, config.scale), (2, 1, PixelScale::TorchXRayVision));
    Ok(())
}

#[test]
fn only_counters_of_batches_are_passed_over() -> TestResult {
    let passed_over = import_golden("torchvision.pth")?.passed_over;
    assert_eq!(passed_over.len(), 21, "one for every norm");
    assert!(passed_over.iter().all(|name| name.ends_with(".num_batches_tracked")), "{passed_over:?}");
    assert!(import_golden("chexnet.pth.tar")?.passed_over.is_empty());
    Ok(())
}

#[test]
fn scores_are_those_of_torchxrayvision_with_its_operating_points() -> TestResult {
    let points = [Some(0.3), Some(0.05), None, Some(0.9), Some(0.5)];
    let options = DenseNetOptions {
        image_size: Some(SIDE),
        operating_points: Some(points.to_vec()),
        ..DenseNetOptions::default()
    };
    // The distributed files hold no points, so that a user gives them.
    let imported = import::densenet(&golden("densenet/torchxrayvision_module.pt"), &options)?;
    let net = DenseNet::new(&imported.config, weights(&imported.tensors))?;
    let logits = net.logits(&images(&imported.config)?)?;
    let scores = net.scores(&net.probabilities(&logits)?)?;
    assert_close("scores", &scores, pick(&expected(EXPECTED)?, "xrv.scores")?, 1e-4)
}

#[test]
fn thresholds_in_a_file_are_kept_and_nan_is_an_output_that_was_never_trained() -> TestResult {
    for file in ["torchxrayvision.pt", "torchxrayvision_module_legacy.pt"] {
        let imported = import_golden(file)?;
        let points = imported.config.operating_points.as_deref();
        assert_eq!(points, Some([Some(0.3), Some(0.05), None, Some(0.9), Some(0.5)].as_slice()), "{file}");
        assert_eq!(imported.config.classes, ["class_0", "class_1", "", "class_3", "class_4"], "{file}");
        assert!(!imported.passed_over.iter().any(|name| name.contains("op_threshs")), "{file}");
        let net = DenseNet::new(&imported.config, weights(&imported.tensors))?;
        let logits = net.logits(&images(&imported.config)?)?;
        let scores = net.scores(&net.probabilities(&logits)?)?;
        assert_close(&format!("{file}: scores"), &scores, pick(&expected(EXPECTED)?, "xrv.scores")?, 1e-4)?;
    }
    Ok(())
}
