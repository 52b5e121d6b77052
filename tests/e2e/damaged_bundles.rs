//! Bundles that are damaged: the server says the file and the tensor, and serves what is whole.

use std::fs;

use raygen_e2e::{BundleCopy, Server, StoredTensor, TestResult, repository};
use raygen_proto::v1::{ListModelsRequest, model::State};
use safetensors::Dtype;

const FILE: &str = "transformer.safetensors";
const TENSOR: &str = "image_pos_emb.pos_emb";

/// The server refuses the bundle, saying all of these.
fn refused(bundle: &BundleCopy, words: &[&str]) -> TestResult {
    let path = bundle.path().to_string_lossy().into_owned();
    let (code, said) = Server::refuses(["--device", "cpu", "--models", &path])?;
    assert_ne!(code, 0, "it ended well: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn a_missing_tensor_is_named_with_its_file() -> TestResult {
    let bundle = BundleCopy::new()?;
    bundle.change_tensors(FILE, |tensors| {
        tensors.remove(TENSOR);
    })?;
    refused(&bundle, &[FILE, TENSOR])
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() -> TestResult {
    let bundle = BundleCopy::new()?;
    let mut shape = Vec::new();
    bundle.change_tensors(FILE, |tensors| {
        if let Some(tensor) = tensors.get_mut(TENSOR) {
            tensor.shape.push(1);
            shape.clone_from(&tensor.shape);
        }
    })?;
    refused(&bundle, &[FILE, TENSOR, &format!("{shape:?}")])
}

#[test]
fn a_tensor_with_a_nan_is_named_with_the_element() -> TestResult {
    let bundle = BundleCopy::new()?;
    bundle.change_tensors(FILE, |tensors| {
        if let Some(tensor) = tensors.get_mut(TENSOR) {
            put_nan(tensor, 5);
        }
    })?;
    refused(&bundle, &[FILE, TENSOR, "NaN", "5"])
}

#[test]
fn a_truncated_file_is_named_whether_or_not_its_checksum_is_right() -> TestResult {
    // Nothing of it, a part of its header, and most of it.
    for (numerator, denominator) in [(0, 1), (1, 100_000), (2, 3)] {
        let bundle = BundleCopy::new()?;
        bundle.truncate(FILE, numerator, denominator)?;
        refused(&bundle, &[FILE])?;
        bundle.seal()?;
        refused(&bundle, &[FILE])?;
    }
    Ok(())
}

#[test]
fn a_file_that_is_not_there_or_a_config_that_is_none_is_named() -> TestResult {
    let bundle = BundleCopy::new()?;
    fs::remove_file(bundle.path().join(FILE))?;
    refused(&bundle, &[FILE])?;
    let bundle = BundleCopy::new()?;
    fs::write(bundle.path().join("config.json"), "{\"format_version\": 1")?;
    bundle.seal()?;
    refused(&bundle, &["config.json"])
}

#[tokio::test]
async fn a_damaged_bundle_beside_a_whole_one_is_listed_as_failed_with_its_reason() -> TestResult {
    let damaged = BundleCopy::new()?;
    damaged.change_tensors(FILE, |tensors| {
        tensors.remove(TENSOR);
    })?;
    let folder = tempfile::tempdir()?;
    for (model, source) in [("damaged", damaged.path().to_owned()), ("whole", repository("models/default"))] {
        let target = folder.path().join(model).join("1");
        fs::create_dir_all(&target)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            fs::copy(entry.path(), target.join(entry.file_name()))?;
        }
    }
    let path = folder.path().to_string_lossy().into_owned();
    let server = Server::start(["--device", "cpu", "--models", &path])?;
    let wire = server.wire().await?;
    let models = wire.models.clone().list_models(ListModelsRequest::default()).await?.into_inner().models;
    let states: Vec<(&str, State)> = models.iter().map(|model| (model.name.as_str(), model.state())).collect();
    assert_eq!(states, [("models/damaged/versions/1", State::Failed), ("models/whole/versions/1", State::Ready)]);
    let reason = &models[0].state_reason;
    assert!(reason.contains(FILE) && reason.contains(TENSOR), "{reason}");
    let generated = wire.generate(raygen_e2e::impression("Pneumonia.")).await?;
    assert_eq!(generated.admitted.model, "models/whole/versions/1");
    Ok(())
}

fn put_nan(tensor: &mut StoredTensor, element: usize) {
    let nan: &[u8] = match tensor.dtype {
        Dtype::F16 => &[0x00, 0x7e],
        Dtype::BF16 => &[0xc0, 0x7f],
        _ => &[0x00, 0x00, 0xc0, 0x7f],
    };
    let start = element * nan.len();
    tensor.bytes[start..start + nan.len()].copy_from_slice(nan);
}
