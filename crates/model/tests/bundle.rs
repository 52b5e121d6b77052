//! Bundles on disk: what is written is read, and whatever is wrong is said by file and tensor.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod tiny;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{Bundle, BundleError, BundleWriter, CHECKSUM_FILE, CONFIG_FILE, Component, StoreType};
use sha2::{Digest, Sha256};

const TRANSFORMER: &str = "transformer.safetensors";

/// The error of reading everything in a bundle whose tensors were spoilt before it was written.
fn error_of(change: impl Fn(Component, &mut BTreeMap<String, Tensor>)) -> BundleError {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("bundle");
    tiny::write_with(&target, &tiny::config(1), change);
    tiny::all_tensors(&Bundle::open(&target).unwrap()).unwrap_err()
}

/// Replaces a file and its line in SHA256SUMS, as a broken writer would have made it.
fn replace(target: &Path, file: &str, bytes: &[u8]) {
    fs::write(target.join(file), bytes).unwrap();
    let sums = fs::read_to_string(target.join(CHECKSUM_FILE)).unwrap();
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let lines = sums.lines().map(|line| {
        if line.ends_with(&format!("  {file}")) { format!("{digest}  {file}\n") } else { format!("{line}\n") }
    });
    fs::write(target.join(CHECKSUM_FILE), lines.collect::<String>()).unwrap();
}

fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("bundle");
    tiny::write(&target, &tiny::config(1));
    (directory, target)
}

#[test]
fn what_is_written_is_read_to_the_bit() {
    let (_directory, target) = written();
    let bundle = Bundle::open(&target).unwrap();
    assert_eq!(bundle.config(), &tiny::config(1));
    for component in [Component::VqGan, Component::Transformer, Component::TextEncoder] {
        let expected = tiny::tensors(&tiny::config(1), component);
        let read = bundle.tensors(component, &Device::Cpu, DType::F32).unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, tensor) in &read {
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(tensor), values(&expected[name]), "{name}");
        }
    }
}

#[test]
fn half_precision_is_stored_and_computed_in_f32() {
    let directory = tempfile::tempdir().unwrap();
    let config = tiny::config(1);
    let tensors = tiny::tensors(&config, Component::Transformer);
    for (store, tolerance) in [(StoreType::F16, 1e-3), (StoreType::Bf16, 8e-3)] {
        let target = directory.path().join(format!("{store:?}"));
        let mut only = config.clone();
        only.components.vqgan = None;
        only.components.text_encoder = None;
        let mut writer = BundleWriter::create(&target).unwrap();
        writer.write_config(&only).unwrap();
        writer.write_tensors(Component::Transformer, &tensors, store).unwrap();
        writer.finish().unwrap();
        let read = Bundle::open(&target).unwrap().tensors(Component::Transformer, &Device::Cpu, DType::F32).unwrap();
        for (name, tensor) in &read {
            let difference = (tensor - &tensors[name]).unwrap().abs().unwrap().max_all().unwrap();
            assert!(difference.to_scalar::<f32>().unwrap() <= 2.0 * tolerance, "{name} in {store:?}");
        }
    }
}

#[test]
fn the_digest_changes_with_any_file_and_with_nothing_else() {
    let (_first, one) = written();
    let (_second, two) = written();
    let digest = Bundle::open(&one).unwrap().digest().to_owned();
    assert_eq!(Bundle::open(&two).unwrap().digest(), digest);
    replace(&two, "README.md", b"Another card.\n");
    assert_ne!(Bundle::open(&two).unwrap().digest(), digest);
}

#[test]
fn a_bundle_in_memory_is_the_bundle_on_disk() {
    let (_directory, target) = written();
    let files = fs::read_dir(&target)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), Cow::Owned(fs::read(entry.path()).unwrap())))
        .collect();
    let bundle = Bundle::from_bytes(files).unwrap();
    assert_eq!(bundle.digest(), Bundle::open(&target).unwrap().digest());
    tiny::all_tensors(&bundle).unwrap();
}

#[test]
fn a_missing_tensor_is_named_with_the_shape_it_should_have() {
    let error = error_of(|component, tensors| {
        if component == Component::Transformer {
            tensors.remove("final_dense.weight");
        }
    });
    let BundleError::MissingTensor { file, tensor, expected } = &error else { panic!("{error}") };
    assert_eq!((file.as_str(), tensor.as_str()), (TRANSFORMER, "final_dense.weight"));
    assert_eq!(expected[0], tiny::CODEBOOK);
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() {
    let error = error_of(|component, tensors| {
        if component == Component::VqGan {
            let wrong = Tensor::zeros((7, 3), DType::F32, &Device::Cpu).unwrap();
            tensors.insert("quantize.embedding.weight".to_owned(), wrong);
        }
    });
    let message = error.to_string();
    let BundleError::Shape { tensor, expected, found, .. } = error else { panic!("{message}") };
    assert_eq!(tensor, "quantize.embedding.weight");
    assert_eq!((expected, found), (vec![tiny::CODEBOOK, 6], vec![7, 3]));
    assert!(message.contains("vqgan.safetensors") && message.contains("[7, 3]"), "{message}");
}

#[test]
fn a_tensor_that_nothing_asks_for_is_named() {
    let error = error_of(|component, tensors| {
        if component == Component::TextEncoder {
            tensors.insert("bert.extra".to_owned(), Tensor::zeros(2, DType::F32, &Device::Cpu).unwrap());
        }
    });
    assert!(matches!(error, BundleError::UnexpectedTensor { ref tensor, .. } if tensor == "bert.extra"), "{error}");
}

#[test]
fn weights_that_are_not_finite_are_refused_when_written() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = BundleWriter::create(directory.path().join("bundle")).unwrap();
    for (value, store, good) in [
        (f32::NAN, StoreType::F32, false),
        (f32::INFINITY, StoreType::Bf16, false),
        (70_000.0, StoreType::F16, false),
        (70_000.0, StoreType::Bf16, true),
    ] {
        let tensor = Tensor::new(&[0.0, value], &Device::Cpu).unwrap();
        let tensors = BTreeMap::from([("w".to_owned(), tensor)]);
        let result = writer.write_tensors(Component::VqGan, &tensors, store);
        assert_eq!(result.is_ok(), good, "{value} in {store:?}");
        if let Err(error) = result {
            assert!(matches!(error, BundleError::NotFinite { index: 1, .. }), "{error}");
        }
    }
}

/// A safetensors file of the transformer with one stored value or the type of one tensor changed.
fn patched(target: &Path, patch: impl Fn(&mut Vec<u8>, usize)) {
    let mut bytes = fs::read(target.join(TRANSFORMER)).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    patch(&mut bytes, header);
    replace(target, TRANSFORMER, &bytes);
}

#[test]
fn a_nan_weight_is_named_with_its_place() {
    let (_directory, target) = written();
    patched(&target, |bytes, header| bytes[8 + header + 8..8 + header + 12].copy_from_slice(&f32::NAN.to_le_bytes()));
    let error = tiny::all_tensors(&Bundle::open(&target).unwrap()).unwrap_err();
    assert!(matches!(error, BundleError::NotFinite { ref file, index: 2, .. } if file == TRANSFORMER), "{error}");
}

#[test]
fn files_cut_short_or_with_an_absurd_header_are_refused() {
    let (_directory, target) = written();
    let whole = fs::read(target.join(TRANSFORMER)).unwrap();
    let mut absurd = whole.clone();
    absurd[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut longer = whole.clone();
    longer.push(0);
    for bytes in [&whole[..whole.len() / 2], &whole[..5], &[], &absurd, &longer] {
        replace(&target, TRANSFORMER, bytes);
        let error = tiny::all_tensors(&Bundle::open(&target).unwrap()).unwrap_err();
        assert!(matches!(error, BundleError::Safetensors { ref file, .. } if file == TRANSFORMER), "{error}");
    }
}

#[test]
fn a_type_that_is_not_read_is_named() {
    let (_directory, target) = written();
    patched(&target, |bytes, header| {
        let text = String::from_utf8(bytes[8..8 + header].to_vec()).unwrap().replace("\"F32\"", "\"I32\"");
        bytes[8..8 + header].copy_from_slice(text.as_bytes());
    });
    let error = tiny::all_tensors(&Bundle::open(&target).unwrap()).unwrap_err();
    assert!(matches!(error, BundleError::StoredType { ref found, .. } if found == "I32"), "{error}");
}

#[test]
fn a_changed_file_does_not_pass_its_checksum() {
    let (_directory, target) = written();
    let path = target.join("vqgan.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Bundle::open(&target).unwrap_err();
    assert!(matches!(error, BundleError::Checksum { ref file, .. } if file == "vqgan.safetensors"), "{error}");
}

#[test]
fn missing_files_are_named() {
    for file in [CHECKSUM_FILE, CONFIG_FILE, TRANSFORMER, "tokenizer.json"] {
        let (_directory, target) = written();
        fs::remove_file(target.join(file)).unwrap();
        let error = Bundle::open(&target).unwrap_err();
        assert!(matches!(error, BundleError::MissingFile { file: ref missing, .. } if missing == file), "{error}");
    }
    let error = Bundle::open("/nowhere/at/all").unwrap_err();
    assert!(matches!(error, BundleError::Io { .. }) && error.to_string().contains("/nowhere/at/all"), "{error}");
}

#[test]
fn a_configuration_whose_parts_do_not_fit_is_refused_by_field() {
    let fields = |change: &dyn Fn(&mut serde_json::Value)| {
        let (_directory, target) = written();
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(target.join(CONFIG_FILE)).unwrap()).unwrap();
        change(&mut config);
        replace(&target, CONFIG_FILE, config.to_string().as_bytes());
        Bundle::open(&target).unwrap_err().to_string()
    };
    for (change, field) in [
        (
            &(|c: &mut serde_json::Value| c["format_version"] = 99.into()) as &dyn Fn(&mut serde_json::Value),
            "format_version",
        ),
        (&|c| c["image_size"] = 64.into(), "image_size"),
        (&|c| c["grid"]["width"] = 0.into(), "grid.width"),
        (&|c| c["components"]["transformer"]["codebook_size"] = 25.into(), "components.transformer.codebook_size"),
        (&|c| c["components"]["transformer"]["layers"] = 4_000_000_000_u64.into(), "components.transformer.layers"),
        (&|c| c["components"]["transformer"]["text_width"] = 13.into(), "components.transformer.text_width"),
        (&|c| c["text"]["max_tokens"] = 16.into(), "text.max_tokens"),
        (&|c| c["sampling"]["step_count"] = 0.into(), "sampling.step_count"),
        (
            &|c| {
                c["text"]["condition_dropout"] = false.into();
                c["sampling"]["guidance_scale"] = 2.0.into();
            },
            "sampling.guidance_scale",
        ),
        (&|c| c["components"]["vqgan"] = "yes".into(), "config.json"),
    ] {
        let message = fields(change);
        assert!(message.contains(field), "{field}: {message}");
    }
}

#[test]
fn an_absent_component_is_said_to_be_absent() {
    let (_directory, target) = written();
    let error = Bundle::open(&target).unwrap().tensors(Component::Classifier, &Device::Cpu, DType::F32).unwrap_err();
    assert!(matches!(error, BundleError::ComponentAbsent { component: Component::Classifier }), "{error}");
}

#[test]
fn a_writer_that_fails_or_is_dropped_leaves_the_previous_bundle_and_nothing_else() {
    let (directory, target) = written();
    let digest = Bundle::open(&target).unwrap().digest().to_owned();
    {
        let mut writer = BundleWriter::create(&target).unwrap();
        writer.write_file("README.md", b"half").unwrap();
        assert!(matches!(writer.write_file("../escape", b"x"), Err(BundleError::FileName(_))));
        assert!(matches!(writer.write_file("sub/file", b"x"), Err(BundleError::FileName(_))));
        assert_eq!(Bundle::open(&target).unwrap().digest(), digest, "nothing changes before it is finished");
    }
    assert_eq!(Bundle::open(&target).unwrap().digest(), digest);
    let entries: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["bundle"]);
}

#[test]
fn a_finished_bundle_replaces_the_previous_one_whole() {
    let (directory, target) = written();
    fs::write(target.join("left-over.txt"), "of the previous bundle").unwrap();
    let mut config = tiny::config(1);
    config.components.vqgan = None;
    let digest = tiny::write(&target, &config);
    let bundle = Bundle::open(&target).unwrap();
    assert_eq!(bundle.digest(), digest);
    assert!(!target.join("vqgan.safetensors").exists() && !target.join("left-over.txt").exists());
    let entries: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["bundle"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_previous_bundle() {
    // /dev/full behind the name of a file to be written answers every write with "no space left on device".
    let (_directory, target) = written();
    let digest = Bundle::open(&target).unwrap().digest().to_owned();
    let mut writer = BundleWriter::create(&target).unwrap();
    let temporary = target.with_file_name(format!(".bundle.{}.tmp", std::process::id()));
    std::os::unix::fs::symlink("/dev/full", temporary.join(TRANSFORMER)).unwrap();
    let tensors = tiny::tensors(&tiny::config(1), Component::Transformer);
    let error = writer.write_tensors(Component::Transformer, &tensors, StoreType::F32).unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    drop(writer);
    assert!(!temporary.exists());
    assert_eq!(Bundle::open(&target).unwrap().digest(), digest);
}
