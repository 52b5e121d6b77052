//! Importing: each part alone, parts that do not fit each other, what a bundle says of its sources; and looking into both.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use raygen_model::bundle::{Bundle, Component, StoreType};
use raygen_model::model::Model;
use raygen_trainer::import::{ImportFailure, Options, Report, Sources, import};
use raygen_trainer::inspect::inspect;
use raygen_trainer::run::StopSignal;
use serde_json::Value;

/// Of the golden checkpoints, which have four heads.
const OPTIONS: Options = Options { heads: 4, text_max_length: None, store: None };

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/tests/golden").join(name)
}

fn transformer() -> Sources {
    Sources { transformer: Some(golden("end_to_end/raygen.ckpt")), ..Sources::default() }
}

fn vqgan() -> Sources {
    let files = ("end_to_end/vqgan.ckpt", "end_to_end/vqgan_project.yaml");
    Sources { vqgan: Some((golden(files.0), golden(files.1))), ..Sources::default() }
}

fn text_encoder() -> Sources {
    Sources { text_encoder: Some(golden("end_to_end/cxr_bert")), ..Sources::default() }
}

fn whole() -> Sources {
    Sources { vqgan: vqgan().vqgan, text_encoder: text_encoder().text_encoder, ..transformer() }
}

fn imported(sources: &Sources, options: Options, out: &Path) -> Report {
    import(sources, options, out, &StopSignal::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The message of an import that must fail, in a folder of its own that must stay empty.
fn refused(sources: &Sources, options: Options) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = import(sources, options, &folder.path().join("bundle"), &StopSignal::default()).unwrap_err();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was left behind");
    error.to_string()
}

fn load(path: &Path) -> Model {
    Model::load(&Bundle::open(path).unwrap(), &Device::Cpu, DType::F32).unwrap()
}

#[test]
fn any_part_alone_is_a_bundle_that_loads() {
    let folder = tempfile::tempdir().unwrap();
    let classifier = Sources { classifier: Some(golden("densenet/torchvision.pth")), ..Sources::default() };
    for (sources, component) in [
        (transformer(), Component::Transformer),
        (vqgan(), Component::VqGan),
        (text_encoder(), Component::TextEncoder),
        (classifier, Component::Classifier),
    ] {
        let out = folder.path().join(component.name());
        let report = imported(&sources, OPTIONS, &out);
        assert_eq!(report.parts.iter().map(|part| part.component).collect::<Vec<_>>(), [component]);
        let bundle = Bundle::open(&out).unwrap();
        assert_eq!(bundle.config().components.present().collect::<Vec<_>>(), [component]);
        assert_eq!(load(&out).info().components, [component]);
    }
    let report = imported(&transformer(), OPTIONS, &folder.path().join("again"));
    assert!(report.notes.iter().any(|note| note.contains("raygen.ckpt holds a text encoder")), "{:?}", report.notes);
}

#[test]
fn the_text_encoder_inside_the_checkpoint_is_the_one_that_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    // The published code loads the checkpoint's over the folder's: configuration and vocabulary are enough.
    let other = folder.path().join("cxr_bert");
    fs::create_dir(&other).unwrap();
    for name in ["config.json", "vocab.txt"] {
        fs::copy(golden("end_to_end/cxr_bert").join(name), other.join(name)).unwrap();
    }
    let own = raygen_model::import::text_encoder(&golden("end_to_end/cxr_bert")).unwrap().tensors;

    let report = imported(&Sources { text_encoder: Some(other), ..whole() }, OPTIONS, &out);
    assert!(report.notes.iter().any(|note| note.contains("inside raygen.ckpt")), "{:?}", report.notes);
    let bundle = Bundle::open(&out).unwrap();
    let taken = bundle.tensors(Component::TextEncoder, &Device::Cpu, DType::F32).unwrap();
    let key = "bert.encoder.layer.0.attention.self.key.weight";
    let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(&taken[key]), values(&own[key]));

    // Alone, the same folder lacks its weights.
    let message = refused(&Sources { text_encoder: Some(folder.path().join("cxr_bert")), ..vqgan() }, OPTIONS);
    assert!(message.contains("neither model.safetensors nor pytorch_model.bin"), "{message}");
}

#[test]
fn a_text_encoder_inside_that_is_not_the_folders_is_refused_by_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(golden("end_to_end/cxr_bert/config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    fs::copy(golden("end_to_end/cxr_bert/vocab.txt"), folder.path().join("vocab.txt")).unwrap();
    let layers = config["num_hidden_layers"].as_u64().unwrap();
    for (layers, problem) in [(layers + 1, "is missing"), (layers - 1, "is not expected")] {
        let mut config = config.clone();
        config["num_hidden_layers"] = layers.into();
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let message = refused(&Sources { text_encoder: Some(folder.path().to_owned()), ..whole() }, OPTIONS);
        assert!(message.contains("raygen.ckpt") && message.contains("bert.encoder.layer."), "{message}");
        assert!(message.contains(problem) && message.contains("config.json"), "{message}");
    }
}

#[test]
fn a_bundle_says_what_it_was_made_of_and_names_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    imported(&whole(), OPTIONS, &out);
    let config = fs::read_to_string(out.join("config.json")).unwrap();
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(!config.contains("tests/golden") && !card.contains("tests/golden"), "a path of this machine");
    let config: Value = serde_json::from_str(&config).unwrap();
    let sources = config["provenance"]["sources"].as_array().unwrap();
    let named: Vec<&str> = sources.iter().map(|source| source["file"].as_str().unwrap()).collect();
    assert_eq!(
        named,
        ["vqgan.ckpt", "vqgan_project.yaml", "raygen.ckpt", "config.json", "vocab.txt"],
        "the folder's own weights were not used"
    );
    assert_eq!(sources[2]["holds_text_encoder"], true);
    assert_eq!(sources[0]["bytes"], fs::metadata(golden("end_to_end/vqgan.ckpt")).unwrap().len());
    let sum = sources[0]["sha256"].as_str().unwrap();
    assert!(sum.len() == 64 && card.contains(sum), "{sum}");
    assert_eq!(config["provenance"]["imported_by"], concat!("raygen-trainer ", env!("CARGO_PKG_VERSION")));
    assert!(card.contains("never for diagnosis") && card.contains("4 (--heads)"), "{card}");
}

#[test]
fn parts_of_different_models_are_refused_with_both_numbers() {
    let other_transformer = Sources { transformer: Some(golden("raygen.ckpt")), ..Sources::default() };
    // Text of width 96, an encoder of width 48 or 64.
    let message = refused(&Sources { text_encoder: Some(golden("cxr_bert")), ..other_transformer.clone() }, OPTIONS);
    assert!(message.contains("raygen.ckpt") && message.contains("config.json"), "{message}");
    assert!(message.contains("width 96") && message.contains("hidden_size 48"), "{message}");
    // 1024 codes against 64.
    let other_vqgan = Some((golden("vqgan.ckpt"), golden("vqgan_project.yaml")));
    let message = refused(&Sources { vqgan: other_vqgan, ..other_transformer }, OPTIONS);
    assert!(message.contains("1024 codes") && message.contains("n_embed 64"), "{message}");
    assert!(message.contains("raygen.ckpt") && message.contains("vqgan_project.yaml"), "{message}");
}

#[test]
fn longer_texts_than_the_encoder_reads_are_refused() {
    let message = refused(&text_encoder(), Options { text_max_length: Some(8000), ..OPTIONS });
    assert!(message.contains("config.json") && message.contains("max_position_embeddings"), "{message}");
    assert!(message.contains("8000"), "{message}");
}

#[test]
fn lengths_into_which_no_text_fits_are_the_options_fault() {
    for (sources, length) in [(text_encoder(), 2), (transformer(), 0), (vqgan(), 0), (whole(), 100_000)] {
        let message = refused(&sources, Options { text_max_length: Some(length), ..OPTIONS });
        let expected = format!("--text-max-length: {length} is not between 3 and 8192");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn a_bundle_is_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    imported(&vqgan(), OPTIONS, &out);
    imported(&text_encoder(), OPTIONS, &out);
    let components: Vec<_> = Bundle::open(&out).unwrap().config().components.present().collect();
    assert_eq!(components, [Component::TextEncoder]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the previous bundle is still there");
    // A failed import leaves the bundle that was there.
    let digest = Bundle::open(&out).unwrap().digest().to_owned();
    let absent = Sources { transformer: Some(folder.path().join("absent.ckpt")), ..Sources::default() };
    import(&absent, OPTIONS, &out, &StopSignal::default()).unwrap_err();
    assert_eq!(Bundle::open(&out).unwrap().digest(), digest);

    let documents = folder.path().join("documents");
    fs::create_dir(&documents).unwrap();
    fs::write(documents.join("thesis.txt"), "all of it").unwrap();
    // Other programs have files of these names too.
    fs::write(documents.join("SHA256SUMS"), "").unwrap();
    fs::write(documents.join("config.json"), r#"{ "model_type": "bert" }"#).unwrap();
    for taken in [documents.clone(), documents.join("thesis.txt")] {
        let error = import(&vqgan(), OPTIONS, &taken, &StopSignal::default()).unwrap_err();
        assert!(matches!(error, ImportFailure::TargetTaken(_)), "{error}");
    }
    assert_eq!(fs::read_to_string(documents.join("thesis.txt")).unwrap(), "all of it");
}

#[test]
fn a_failure_or_an_interruption_while_writing_leaves_the_bundle_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    imported(&vqgan(), OPTIONS, &out);
    let digest = Bundle::open(&out).unwrap().digest().to_owned();
    let unchanged = || {
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was left behind");
        assert_eq!(Bundle::open(&out).unwrap().digest(), digest);
    };
    // The VQ-GAN and the configuration are written by the time that the transformer turns out not to fit.
    let large = folder.path().join("large.safetensors");
    let options = raygen_model::import::TransformerOptions { heads: 4, max_text_tokens: 256 };
    let read = raygen_model::import::transformer(&golden("end_to_end/raygen.ckpt"), options).unwrap();
    let mut tensors: std::collections::HashMap<_, _> = read.tensors.into_iter().collect();
    let bias = tensors.get_mut("final_dense.bias").unwrap();
    *bias = (bias.ones_like().unwrap() * 1e5).unwrap();
    candle_core::safetensors::save(&tensors, &large).unwrap();
    let sources = Sources { transformer: Some(large), ..vqgan() };
    let options = Options { store: Some(StoreType::F16), ..OPTIONS };
    let message = import(&sources, options, &out, &StopSignal::default()).unwrap_err().to_string();
    assert!(message.contains("final_dense.bias") && message.contains("100000"), "{message}");
    unchanged();

    let stop = StopSignal::default();
    stop.raise();
    let error = import(&vqgan(), OPTIONS, &out, &stop).unwrap_err();
    assert!(matches!(error, ImportFailure::Interrupted), "{error}");
    unchanged();
}

#[test]
fn weights_are_stored_as_they_were_unless_asked_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = raygen_model::import::transformer(
        &golden("raygen.ckpt"),
        raygen_model::import::TransformerOptions { heads: 4, max_text_tokens: 256 },
    );
    let halves = tensors.unwrap().tensors.into_iter();
    let halves = halves.map(|(name, tensor)| (name, tensor.to_dtype(DType::BF16).unwrap())).collect();
    let path = folder.path().join("half.safetensors");
    candle_core::safetensors::save(&halves, &path).unwrap();
    let sources = Sources { transformer: Some(path), ..Sources::default() };
    let dtypes = |store: Option<StoreType>| {
        let out = folder.path().join("bundle");
        imported(&sources, Options { store, ..OPTIONS }, &out);
        inspect(&out).unwrap().dtypes.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(dtypes(None), ["bf16"]);
    assert_eq!(dtypes(Some(StoreType::F32)), ["f32"]);
    assert_eq!(dtypes(Some(StoreType::F16)), ["f16"]);
}

#[test]
fn inspect_tells_of_files_and_bundles_under_names_that_stay() {
    let json = |path: &Path| serde_json::to_value(inspect(path).unwrap()).unwrap();
    let file = json(&golden("end_to_end/raygen.ckpt"));
    assert_eq!(file["kind"], "pytorch");
    assert_eq!(file["files"][0]["architecture"], "raygen_transformer");
    assert_eq!(file["files"][0]["component"], Value::Null);
    let tensors = file["files"][0]["tensors"].as_array().unwrap();
    let head = tensors.iter().find(|tensor| tensor["name"] == "model.final_dense.weight").unwrap();
    assert_eq!(head, &serde_json::json!({ "name": "model.final_dense.weight", "shape": [1024, 64], "dtype": "f32" }));
    assert_eq!(file["tensor_count"], tensors.len());
    // Integers are buffers, and no parameters.
    let file = json(&golden("densenet/torchvision.pth"));
    assert_eq!(file["files"][0]["architecture"], "densenet121");
    let tensors = file["files"][0]["tensors"].as_array().unwrap();
    let of_type = |dtype: &str| tensors.iter().filter(|tensor| tensor["dtype"] == dtype).collect::<Vec<_>>();
    let elements =
        |tensor: &Value| tensor["shape"].as_array().unwrap().iter().map(|side| side.as_u64().unwrap()).product::<u64>();
    assert_eq!(file["dtypes"]["i64"], of_type("i64").len());
    assert!(of_type("i64").iter().all(|tensor| tensor["name"].as_str().unwrap().ends_with("num_batches_tracked")));
    assert_eq!(file["parameter_count"], of_type("f32").into_iter().map(elements).sum::<u64>());

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    imported(&whole(), OPTIONS, &out);
    let bundle = json(&out);
    assert_eq!(bundle["kind"], "bundle");
    assert_eq!(bundle["sha256"], Bundle::open(&out).unwrap().digest());
    assert_eq!(bundle["parameter_count"], load(&out).info().parameter_count);
    assert_eq!(bundle["config"]["sampling"]["sampler"], "published");
    assert_eq!(bundle["provenance"]["sources"].as_array().unwrap().len(), 5);
    let components: Vec<&Value> = bundle["files"].as_array().unwrap().iter().map(|file| &file["component"]).collect();
    assert_eq!(components, ["vqgan", "transformer", "text_encoder"]);
    assert_eq!(bundle["files"][1]["config"]["heads"], 4);
    assert_eq!(json(&out.join("vqgan.safetensors"))["kind"], "safetensors");

    let table = inspect(&out).unwrap().to_string();
    assert!(table.contains("quantize.embedding.weight") && table.contains("[1024,32]"), "{table}");
}

#[test]
fn inspect_looks_into_a_bert_folder_and_escapes_what_its_file_says() {
    let folder = tempfile::tempdir().unwrap();
    let bert = serde_json::to_value(inspect(&golden("end_to_end/cxr_bert")).unwrap()).unwrap();
    assert_eq!((&bert["kind"], &bert["files"][0]["architecture"]), (&"folder".into(), &"bert".into()));
    assert_eq!(bert["files"][0]["file"], "pytorch_model.bin");
    assert_eq!(bert["config"]["model_type"], "cxr-bert");

    let message = inspect(folder.path()).unwrap_err().to_string();
    assert!(message.contains("neither a bundle") && message.contains("pytorch_model.bin"), "{message}");

    let path = folder.path().join("net.safetensors");
    let tensor = candle_core::Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    candle_core::safetensors::save(&[("\u{1b}[2Jname".to_owned(), tensor)].into(), &path).unwrap();
    let table = inspect(&path).unwrap().to_string();
    assert!(!table.contains('\u{1b}') && table.contains("[2Jname"), "{table}");
    let message = refused(&Sources { classifier: Some(path), ..Sources::default() }, OPTIONS);
    assert!(!message.contains('\u{1b}') && message.contains("[2Jname"), "{message}");
}

#[test]
fn inspect_says_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("bundle");
    imported(&vqgan(), OPTIONS, &out);
    let path = out.join("vqgan.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let message = inspect(&out).unwrap_err().to_string();
    assert!(message.contains("vqgan.safetensors") && message.contains("SHA-256"), "{message}");
    let message = inspect(&golden("README.md")).unwrap_err().to_string();
    assert!(message.contains("README.md"), "{message}");
}
