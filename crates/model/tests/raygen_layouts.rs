//! The files that RayGen's own scripts write beside Lightning's: the dump for debugging, and the classifier.

mod golden_support;
#[path = "../examples/write_foreign/torch.rs"]
#[allow(dead_code, reason = "the example uses the other part")]
mod torch;

use std::error::Error;

use golden_support::{TestResult, floats, golden};
use raygen_model::bundle::{Component, expected_tensors};
use raygen_model::densenet::{DenseNetConfig, Fit, PixelScale};
use raygen_model::import::{self, DenseNetOptions, Tensors, TransformerOptions};
use raygen_model::text::TextConfig;
use torch::{CLASSIFIER, DUMP, Fill, TorchTensor, write};

const FOUR_HEADS: TransformerOptions = TransformerOptions { heads: 4, max_text_tokens: 16 };

fn stored(prefix: &str, tensors: &Tensors) -> Result<Vec<TorchTensor>, Box<dyn Error>> {
    let one = |(name, tensor): (&String, &candle_core::Tensor)| {
        let (name, shape) = (format!("{prefix}{name}"), tensor.dims().to_vec());
        Ok(TorchTensor { name, shape, fill: Fill::Values(floats(tensor)?) })
    };
    tensors.iter().map(one).collect()
}

#[test]
fn a_dump_for_debugging_holds_what_the_checkpoint_of_lightning_does() -> TestResult {
    let expected = import::transformer(&golden("end_to_end/raygen.ckpt"), FOUR_HEADS)?;
    assert!(!expected.text_encoder.is_empty());
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model1_29.pth");
    // Names without Lightning's `model.`; the text encoder is the module `tokenizer` there too.
    let mut tensors = stored("", &expected.tensors)?;
    tensors.extend(stored("tokenizer.", &expected.text_encoder)?);
    write(&path, Some(&DUMP), &tensors)?;
    let dump = import::transformer(&path, FOUR_HEADS)?;
    assert_eq!(dump.config, expected.config);
    assert!(dump.passed_over.is_empty(), "{:?}", dump.passed_over);
    for (ours, expected) in [(&dump.tensors, &expected.tensors), (&dump.text_encoder, &expected.text_encoder)] {
        assert!(ours.keys().eq(expected.keys()));
        for (name, tensor) in expected {
            assert_eq!(floats(&ours[name])?, floats(tensor)?, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_dump_without_the_text_encoder_is_a_transformer_alone() -> TestResult {
    let expected = import::transformer(&golden("raygen.ckpt"), FOUR_HEADS)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model1_29.pth");
    write(&path, Some(&DUMP), &stored("", &expected.tensors)?)?;
    let dump = import::transformer(&path, FOUR_HEADS)?;
    assert!(dump.text_encoder.is_empty() && dump.tensors.keys().eq(expected.tensors.keys()));
    Ok(())
}

#[test]
fn raygens_own_classifier_is_known_by_its_head_and_its_ten_classes() -> TestResult {
    let classes = (0..10).map(|index| index.to_string()).collect();
    let config = DenseNetConfig {
        growth_rate: 4,
        block_layers: vec![2, 1],
        initial_features: 8,
        ..DenseNetConfig::published([1; 4], classes)
    };
    let bundle = serde_json::from_value(serde_json::json!({
        "format_version": 1, "components": { "classifier": config }, "image_size": 224,
        "grid": { "height": 1, "width": 1 }, "text": TextConfig::plain(8),
    }))?;
    let shapes = expected_tensors(&bundle, Component::Classifier)?.ok_or("no shapes")?;
    let named = |(name, shape): (String, Vec<usize>)| {
        let fill = if name.ends_with("running_var") { Fill::Ones } else { Fill::Random };
        let name = name.replace("classifier.", "classifier.0.");
        TorchTensor { name: format!("densenet121.{name}"), shape, fill }
    };
    let mut tensors: Vec<TorchTensor> = shapes.into_iter().map(named).collect();
    let counter = "densenet121.features.norm0.num_batches_tracked".to_owned();
    tensors.push(TorchTensor { name: counter.clone(), shape: vec![], fill: Fill::Counting });
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("classifier.pth");
    write(&path, Some(&CLASSIFIER), &tensors)?;
    let imported = import::densenet(&path, &DenseNetOptions::default())?;
    // The classes of RayGen's evaluation, on whole films of 512 pixels without ImageNet's normalisation.
    assert_eq!(imported.config.classes[0], "Atelectasis");
    assert_eq!(imported.config.classes[4..7], ["Fracture", "Lung Lesion", "Lung Opacity"]);
    assert_eq!((imported.config.image_size, imported.config.fit), (512, Fit::Stretch));
    assert_eq!((imported.config.scale, imported.config.in_channels), (PixelScale::Unit, 3));
    assert_eq!(imported.passed_over, [counter]);
    Ok(())
}
