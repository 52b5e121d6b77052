//! DenseNets beyond golden values: published sizes, rows that ignore their neighbours, a place in a bundle, and errors
//! that say what is wrong.

mod golden_support;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;

use candle_core::{DType, Device, Tensor};
use golden_support::{TestResult, floats, golden, weights};
use raygen_model::bundle::{Bundle, BundleConfig, BundleWriter, Component, StoreType, expected_tensors};
use raygen_model::densenet::{DENSENET_121, DENSENET_169, DENSENET_201, DenseNet, DenseNetConfig, Head};
use raygen_model::import::{self, DenseNetOptions, ImportError};
use raygen_model::model::Model;
use raygen_model::text::TextConfig;
use raygen_nn::Parameters;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn tiny() -> DenseNetConfig {
    DenseNetConfig {
        growth_rate: 4,
        block_layers: vec![2, 1],
        initial_features: 8,
        bottleneck: 2,
        in_channels: 1,
        image_size: 32,
        ..DenseNetConfig::published(DENSENET_121, names(&["Mass", "", "Nodule"]))
    }
}

/// A bundle of a classifier alone.
fn bundle_config(classifier: &DenseNetConfig) -> Result<BundleConfig, Box<dyn Error>> {
    Ok(serde_json::from_value(serde_json::json!({
        "format_version": 1, "components": { "classifier": classifier }, "image_size": 32,
        "grid": { "height": 1, "width": 1 }, "text": TextConfig::plain(8),
    }))?)
}

fn shapes(classifier: &DenseNetConfig) -> Result<BTreeMap<String, Vec<usize>>, Box<dyn Error>> {
    expected_tensors(&bundle_config(classifier)?, Component::Classifier)?.ok_or_else(|| "no shapes".into())
}

/// Tensors that make a network: numbers that differ from place to place, variances above 0.
fn tensors(classifier: &DenseNetConfig) -> Result<HashMap<String, Tensor>, Box<dyn Error>> {
    let of = |(name, shape): (String, Vec<usize>)| {
        let count: usize = shape.iter().product();
        let low = if name.ends_with("running_var") { 1.0 } else { 0.0 };
        let values = (0..count).map(|place| low + 0.3 * (place as f32 * 0.77 + name.len() as f32).sin()).collect();
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    };
    shapes(classifier)?.into_iter().map(of).collect()
}

fn wave(dims: &[usize]) -> candle_core::Result<Tensor> {
    let count: usize = dims.iter().product();
    Tensor::from_vec((0..count).map(|place| (place as f32 * 0.37).sin()).collect(), dims, &Device::Cpu)
}

fn tiny_net(config: &DenseNetConfig) -> Result<DenseNet, Box<dyn Error>> {
    Ok(DenseNet::new(config, weights(&tensors(config)?.into_iter().collect()))?)
}

#[test]
fn the_published_depths_have_the_published_parameters() -> TestResult {
    // Parameters as torchvision counts them, less its head of 1000 classes; norms, each of four tensors.
    for (blocks, features, parameters, norms) in [
        (DENSENET_121, 1024, 7_978_856 - 1_025_000, 121),
        (DENSENET_169, 1664, 14_149_480 - 1_665_000, 169),
        (DENSENET_201, 1920, 20_013_928 - 1_921_000, 201),
    ] {
        let config = DenseNetConfig::published(blocks, names(&["Mass", "Nodule", "Hernia"]));
        assert_eq!(config.features(), features);
        let shapes = shapes(&config)?;
        let count: usize = shapes
            .iter()
            .filter(|(name, _)| !name.contains("running_"))
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum();
        assert_eq!(count, parameters + 3 * (features + 1));
        // Beside the norms as many convolutions, less one, and the head.
        assert_eq!(shapes.len(), 4 * norms + (norms - 1) + 2);
    }
    let config = DenseNetConfig::published(DENSENET_121, names(&["Mass"]));
    let shapes = shapes(&config)?;
    assert_eq!(shapes["features.denseblock4.denselayer16.norm1.running_var"], [992]);
    assert_eq!(shapes["features.transition3.conv.weight"], [512, 1024, 1, 1]);
    assert_eq!(shapes["classifier.weight"], [1, 1024]);
    Ok(())
}

#[test]
fn a_film_has_the_same_bits_in_any_batch() -> TestResult {
    let net = DenseNet::new(&tiny(), Parameters::initialised(3, &Device::Cpu).builder(DType::F32))?;
    let images = wave(&[5, 1, 37, 45])?;
    let bits = |tensor: Tensor| -> Result<Vec<u32>, Box<dyn Error>> {
        Ok(floats(&tensor)?.into_iter().map(f32::to_bits).collect())
    };
    let (features, logits) = (net.features(&images)?, net.logits(&images)?);
    for row in 0..5 {
        let alone = images.narrow(0, row, 1)?;
        assert!(bits(net.features(&alone)?)? == bits(features.narrow(0, row, 1)?)?, "features of row {row}");
        assert!(bits(net.logits(&alone)?)? == bits(logits.narrow(0, row, 1)?)?, "logits of row {row}");
    }
    Ok(())
}

#[test]
fn a_film_that_is_not_a_number_gives_no_answer() -> TestResult {
    let net = tiny_net(&tiny())?;
    let images = (wave(&[1, 1, 32, 32])? * f64::NAN)?;
    for answer in [net.feature_maps(&images)?, net.features(&images)?, net.logits(&images)?] {
        assert!(floats(&answer)?.iter().all(|value| value.is_nan()), "{answer}");
    }
    Ok(())
}

#[test]
fn images_of_other_channels_or_too_small_are_refused() -> TestResult {
    let net = tiny_net(&tiny())?;
    assert_eq!(tiny().smallest_side(), 5);
    assert_eq!(net.logits(&wave(&[1, 1, 5, 5])?)?.dims(), [1, 3]);
    for dims in [[1, 3, 32, 32], [1, 1, 4, 32], [1, 1, 32, 0]] {
        let message = net.logits(&wave(&dims)?).err().ok_or("computed")?.to_string();
        assert!(message.contains("expected [batch, 1, H, W] with H and W of 5"), "{message}");
    }
    Ok(())
}

#[test]
fn probabilities_and_scores_follow_the_head_and_the_operating_points() -> TestResult {
    let points = Some(vec![Some(0.4), None, Some(0.4)]);
    let net = tiny_net(&DenseNetConfig { operating_points: points, ..tiny() })?;
    let logits = Tensor::new(&[[0f32, 2.0, -2.0], [1000.0, -1000.0, 0.5]], &Device::Cpu)?;
    let close = |ours: Tensor, expected: &[f32]| -> TestResult {
        let ours = floats(&ours)?;
        assert!(ours.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{ours:?} instead of {expected:?}");
        Ok(())
    };
    close(net.probabilities(&logits)?, &[0.5, 0.880_797, 0.119_202_9, 1.0, 0.0, 0.622_459_3])?;
    let probabilities = Tensor::new(&[[0.2f32, 0.9, 0.4], [0.7, 0.1, 1.0]], &Device::Cpu)?;
    close(net.scores(&probabilities)?, &[0.25, 0.5, 0.5, 0.75, 0.5, 1.0])?;
    assert!(net.scores(&Tensor::zeros((1, 2), DType::F32, &Device::Cpu)?).is_err());

    let net = tiny_net(&DenseNetConfig { head: Head::Softmax, ..tiny() })?;
    close(net.probabilities(&logits)?, &[0.117_310_4, 0.866_813_3, 0.015_876_24, 1.0, 0.0, 0.0])?;
    close(net.scores(&probabilities)?, &[0.2, 0.9, 0.4, 0.7, 0.1, 1.0])
}

#[test]
fn configurations_without_a_network_name_the_field() {
    let field = |change: fn(&mut DenseNetConfig)| {
        let mut config = tiny();
        change(&mut config);
        config.validate().err().map(|error| error.field)
    };
    assert_eq!(field(|_| ()), None);
    assert_eq!(field(|config| config.growth_rate = 0).as_deref(), Some("growth_rate"));
    assert_eq!(field(|config| config.block_layers = vec![]).as_deref(), Some("the number of block_layers"));
    assert_eq!(field(|config| config.block_layers = vec![2, usize::MAX]).as_deref(), Some("block_layers"));
    assert!(field(|config| config.growth_rate = 1 << 19).is_some_and(|field| field.contains("growth_rate")));
    assert_eq!(field(|config| config.in_channels = 2).as_deref(), Some("in_channels"));
    assert_eq!(field(|config| config.image_size = 4).as_deref(), Some("image_size"));
    assert_eq!(field(|config| config.classes = names(&["Mass", "Mass"])).as_deref(), Some("classes"));
    assert_eq!(field(|config| config.classes.clear()).as_deref(), Some("the number of classes"));
    let points = |points: &[f32]| Some(points.iter().copied().map(Some).collect());
    for wrong in [points(&[0.5, 0.5]), points(&[0.5, 0.5, 1.0]), points(&[f32::NAN, 0.5, 0.5])] {
        let error = DenseNetConfig { operating_points: wrong, ..tiny() }.validate().unwrap_err();
        assert_eq!(error.field, "operating_points");
    }
}

#[test]
fn a_bundle_holds_a_classifier_and_checks_it() -> TestResult {
    let config = DenseNetConfig { operating_points: Some(vec![Some(0.125), None, Some(0.75)]), ..tiny() };
    let folder = tempfile::tempdir()?;
    let write = |name: &str, change: &dyn Fn(&mut BTreeMap<String, Tensor>)| -> Result<Bundle, Box<dyn Error>> {
        let mut all = tensors(&config)?.into_iter().collect();
        change(&mut all);
        let mut writer = BundleWriter::create(folder.path().join(name))?;
        writer.write_config(&bundle_config(&config)?)?;
        writer.write_tensors(Component::Classifier, &all, StoreType::F32)?;
        writer.finish()?;
        Ok(Bundle::open(folder.path().join(name))?)
    };
    let read = |bundle: &Bundle| bundle.tensors(Component::Classifier, &Device::Cpu, DType::F32);
    let bundle = write("whole", &|_| ())?;
    assert_eq!(bundle.config().components.classifier.as_ref(), Some(&config));
    let net = DenseNet::new(&config, weights(&read(&bundle)?))?;
    let images = wave(&[1, 1, 32, 32])?;
    assert_eq!(floats(&net.logits(&images)?)?, floats(&tiny_net(&config)?.logits(&images)?)?);

    let name = "features.denseblock2.denselayer1.norm1.running_var";
    let message = |spoilt: &dyn Fn(&mut BTreeMap<String, Tensor>)| -> Result<String, Box<dyn Error>> {
        Ok(read(&write("spoilt", spoilt)?).err().ok_or("was read")?.to_string())
    };
    let missing = message(&|tensors| drop(tensors.remove(name)))?;
    assert!(missing.contains(&format!("classifier.safetensors has no tensor {name}")), "{missing}");
    let wrong = Tensor::zeros((2, 12), DType::F32, &Device::Cpu)?;
    let misshapen = message(&|tensors| drop(tensors.insert("classifier.weight".to_owned(), wrong.clone())))?;
    assert!(misshapen.contains("classifier.weight is [2, 12]") && misshapen.contains("[3, 12]"), "{misshapen}");
    let extra = message(&|tensors| drop(tensors.insert("op_threshs".to_owned(), wrong.clone())))?;
    assert!(extra.contains("op_threshs"), "{extra}");
    // Who only loads the model is told too.
    let spoilt = write("spoilt", &|tensors| drop(tensors.remove(name)))?;
    let message = Model::load(&spoilt, &Device::Cpu, DType::F32).err().ok_or("loaded")?.to_string();
    assert!(message.contains(&format!("classifier.safetensors has no tensor {name}")), "{message}");
    let negative = |tensors: &mut BTreeMap<String, Tensor>| {
        let variance = tensors.get_mut(name).expect("a variance");
        *variance = variance.affine(0.0, -1.0).expect("a tensor");
    };
    let message = Model::load(&write("spoilt", &negative)?, &Device::Cpu, DType::F32).err().ok_or("loaded")?;
    assert!(message.to_string().contains("classifier"), "{message}");
    Model::load(&bundle, &Device::Cpu, DType::F32)?;
    let mut bad = bundle_config(&config)?;
    bad.components.classifier = Some(DenseNetConfig { in_channels: 2, ..config.clone() });
    assert_eq!(bad.validate().unwrap_err().field, "components.classifier.in_channels");
    Ok(())
}

/// The error of importing the tiny network's tensors after `change` has edited them.
fn refusal(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> Result<String, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("net.safetensors");
    let mut tensors = tensors(&tiny())?;
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path)?;
    let options = DenseNetOptions { image_size: Some(32), ..DenseNetOptions::default() };
    let message = import::densenet(&path, &options).err().ok_or("the import should have failed")?.to_string();
    assert!(message.contains("net.safetensors"), "{message}");
    Ok(message)
}

#[test]
fn a_file_with_a_wrong_tensor_is_refused_by_its_name() -> TestResult {
    let set = |name: &'static str, tensor: candle_core::Result<Tensor>| {
        let tensor = tensor?;
        refusal(|tensors| drop(tensors.insert(name.to_owned(), tensor)))
    };
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);

    let name = "features.denseblock1.denselayer2.conv1.weight";
    let message = refusal(|tensors| drop(tensors.remove(name)))?;
    assert!(message.contains(&format!("`{name}` [8, 12, 1, 1] is missing")), "{message}");
    let message = refusal(|tensors| drop(tensors.remove("classifier.weight")))?;
    assert!(message.contains("`classifier.weight`") && message.contains("missing"), "{message}");
    let message = set("features.norm0.bias", zeros(&[7]))?;
    assert!(message.contains("`features.norm0.bias` has shape [7]; expected [8]"), "{message}");
    let message = set("features.conv0.weight", zeros(&[8]))?;
    assert!(message.contains("`features.conv0.weight`") && message.contains("expected 4 dimensions"), "{message}");
    let message = set("features.norm5.bias", Tensor::full(f32::NAN, 12, &Device::Cpu))?;
    assert!(message.contains("`features.norm5.bias`") && message.contains("not a finite number"), "{message}");
    let message = set("features.norm5.running_var", Tensor::full(-1f32, 12, &Device::Cpu))?;
    assert!(message.contains("features.norm5.running_var") && message.contains("-1"), "{message}");
    let message = set("features.norm6.weight", zeros(&[12]))?;
    assert!(message.contains("`features.norm6.weight` is not expected"), "{message}");
    // A layer beyond a gap: the gap is what is wrong.
    let message = set("features.denseblock2.denselayer3.norm1.weight", zeros(&[16]))?;
    assert!(message.contains("denseblock2.denselayer2") && message.contains("missing"), "{message}");
    let message = set("features.denseblock99999999999.denselayer1.norm1.weight", zeros(&[1]))?;
    assert!(message.contains("denseblock99999999999"), "{message}");
    Ok(())
}

#[test]
fn thresholds_that_are_none_are_told_apart_from_wrong_ones() -> TestResult {
    let points = |values: &[f32]| -> Result<Tensor, Box<dyn Error>> { Ok(Tensor::new(values, &Device::Cpu)?) };
    for (wrong, problem) in [
        (points(&[0.5, f32::INFINITY, 0.5])?, "`operating_points`: hold inf"),
        (points(&[0.5, f32::NAN, 2.0])?, "`operating_points`: hold 2"),
        (points(&[0.5, 0.5])?, "`op_threshs` has shape [2]; expected [3]"),
    ] {
        let message = refusal(|tensors| drop(tensors.insert("op_threshs".to_owned(), wrong)))?;
        assert!(message.contains(problem), "{message}");
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("net.safetensors");
    let mut all = tensors(&tiny())?;
    all.insert("op_threshs".to_owned(), points(&[f32::NAN; 3])?);
    candle_core::safetensors::save(&all, &path)?;
    let config = import::densenet(&path, &DenseNetOptions::default())?.config;
    assert_eq!((config.operating_points, config.classes), (None, names(&["class_0", "class_1", "class_2"])));
    Ok(())
}

#[test]
fn another_network_given_as_a_classifier_says_what_it_is() -> TestResult {
    for file in ["raygen.ckpt", "vqgan.ckpt", "cxr_bert/pytorch_model.bin"] {
        let error = import::densenet(&golden(file), &DenseNetOptions::default()).err().ok_or("imported")?;
        assert!(matches!(error, ImportError::OtherPart { .. }), "{file}: {error}");
    }
    Ok(())
}

#[test]
fn a_file_that_torchxrayvision_released_is_told_by_its_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    let eighteen = DenseNetConfig { classes: (0..18).map(|index| index.to_string()).collect(), ..tiny() };
    let import_as = |name: &str| -> Result<DenseNetConfig, Box<dyn Error>> {
        let path = folder.path().join(name);
        candle_core::safetensors::save(&tensors(&eighteen)?, &path)?;
        Ok(import::densenet(&path, &DenseNetOptions::default())?.config)
    };
    let released = import_as("chex-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt")?;
    let points = released.operating_points.ok_or("no operating points")?;
    assert_eq!((points[0], points[2], points[17]), (Some(0.198_896_9), None, Some(0.108_882_47)));
    // CheXpert has no infiltrations: the output was never trained.
    assert_eq!(released.classes[..4], ["Atelectasis", "Consolidation", "", "Pneumothorax"]);
    let renamed = import_as("mine.pt")?;
    assert_eq!(renamed.operating_points, None);
    assert_eq!(renamed.classes[..4], ["Atelectasis", "Consolidation", "Infiltration", "Pneumothorax"]);
    assert_eq!((renamed.image_size, renamed.head), (224, Head::Sigmoid));
    Ok(())
}

#[test]
fn options_that_disagree_with_the_weights_are_refused_by_field() -> TestResult {
    let refusal = |options: DenseNetOptions| -> Result<String, Box<dyn Error>> {
        let path = golden("densenet/torchvision.pth");
        Ok(import::densenet(&path, &options).err().ok_or("imported")?.to_string())
    };
    let message = refusal(DenseNetOptions { classes: Some(names(&["Mass"])), ..DenseNetOptions::default() })?;
    assert!(message.contains("`classes`: names 1, but the weights have 5 outputs"), "{message}");
    let points = Some(vec![Some(0.5)]);
    let message = refusal(DenseNetOptions { operating_points: points, ..DenseNetOptions::default() })?;
    assert!(message.contains("`operating_points`"), "{message}");
    let message = refusal(DenseNetOptions { image_size: Some(8), ..DenseNetOptions::default() })?;
    assert!(message.contains("`image_size`: 8 is not between 29"), "{message}");
    Ok(())
}
