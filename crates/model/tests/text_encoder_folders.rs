//! BERT folders in the layouts that people have, and folders that disagree with themselves.

mod golden_support;

use std::{collections::HashMap, error::Error, fs, path::Path};

use candle_core::Tensor;
use golden_support::{TestResult, golden};
use raygen_model::{
    import::{self, ImportedTextEncoder},
    text::TextConfig,
};
use serde_json::{Value, json};
use tempfile::TempDir;

type Weights = HashMap<String, Tensor>;

/// The golden BERT folder with safetensors for its pickle; tests change it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Result<Self, Box<dyn Error>> {
        let folder = Self(tempfile::tempdir()?);
        for name in ["config.json", "vocab.txt"] {
            fs::copy(golden("cxr_bert").join(name), folder.path().join(name))?;
        }
        folder.rename_tensors(|name| name.to_owned())?;
        Ok(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> TestResult {
        Ok(fs::write(self.path().join(name), text)?)
    }

    fn remove(&self, name: &str) -> TestResult {
        Ok(fs::remove_file(self.path().join(name))?)
    }

    /// Writes the golden tensors as `change` leaves them.
    fn write_tensors(&self, change: impl FnOnce(&mut Weights)) -> TestResult {
        let mut tensors: Weights = import::text_encoder(&golden("cxr_bert"))?.tensors.into_iter().collect();
        change(&mut tensors);
        Ok(candle_core::safetensors::save(&tensors, self.path().join("model.safetensors"))?)
    }

    fn rename_tensors(&self, rename: impl Fn(&str) -> String) -> TestResult {
        self.write_tensors(|tensors| *tensors = tensors.drain().map(|(name, tensor)| (rename(&name), tensor)).collect())
    }

    /// Sets fields of a JSON file, which may be new.
    fn set(&self, name: &str, fields: &Value) -> TestResult {
        let mut json: Value = match fs::read(self.path().join(name)) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => json!({}),
        };
        for (field, value) in fields.as_object().ok_or("not an object")? {
            json[field] = value.clone();
        }
        self.write(name, json.to_string())
    }

    /// Puts `tokenizer.json` in the place of `vocab.txt`, as `change` leaves it. Gives its text.
    fn use_tokenizer_json(&self, change: impl FnOnce(&mut Value)) -> Result<String, Box<dyn Error>> {
        let mut json = serde_json::from_str(&self.import()?.folder.tokenizer_json)?;
        change(&mut json);
        let text = json.to_string();
        self.write("tokenizer.json", &text)?;
        self.remove("vocab.txt")?;
        Ok(text)
    }

    fn import(&self) -> Result<ImportedTextEncoder, Box<dyn Error>> {
        Ok(import::text_encoder(self.path())?)
    }

    /// Asserts that the folder is refused with all of `parts` in the message.
    fn assert_refused(&self, parts: &[&str]) -> TestResult {
        let message = match import::text_encoder(self.path()) {
            Ok(_) => return Err(format!("imported, but expected {parts:?}").into()),
            Err(error) => error.to_string(),
        };
        for part in parts {
            assert!(message.contains(part), "no {part:?} in: {message}");
        }
        Ok(())
    }
}

fn tokens(imported: &ImportedTextEncoder, text: &str) -> Result<Vec<String>, Box<dyn Error>> {
    Ok(imported.folder.tokenizer(&TextConfig::published(32))?.tokenize(text)?.tokens)
}

#[test]
fn weights_are_found_under_any_prefix() -> TestResult {
    let folder = Folder::new()?;
    let expected = folder.import()?;
    for prefix in ["", "model.", "auto_model.", "0.auto_model.", "module.text.bert."] {
        folder.rename_tensors(|name| {
            let name = name.trim_start_matches("bert.");
            format!(
                "{prefix}{}",
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            )
        })?;
        let imported = folder.import()?;
        assert!(imported.tensors.keys().eq(expected.tensors.keys()), "under {prefix:?}");
        assert!(imported.passed_over.is_empty(), "under {prefix:?}");
    }
    Ok(())
}

#[test]
fn a_folder_of_sentence_transformers_may_keep_its_encoder_one_level_down() -> TestResult {
    let encoder = Folder::new()?;
    let outer = tempfile::tempdir()?;
    let inner = outer.path().join("0_Transformer");
    fs::create_dir(&inner)?;
    for name in ["config.json", "vocab.txt", "model.safetensors"] {
        fs::copy(encoder.path().join(name), inner.join(name))?;
    }
    let modules = |path: &str| {
        let kind = |name: &str| format!("sentence_transformers.models.{name}");
        json!([{"idx": 0, "path": path, "type": kind("Transformer")}, {"idx": 1, "path": "1_Pooling", "type": kind("Pooling")}])
    };
    fs::write(outer.path().join("config.json"), r#"{"__version__": "0.2.0"}"#)?;
    fs::write(outer.path().join("modules.json"), modules("0_Transformer").to_string())?;
    assert_eq!(import::text_encoder(outer.path())?.folder.config_path, inner.join("config.json"));

    fs::write(outer.path().join("modules.json"), modules("../elsewhere").to_string())?;
    let message = import::text_encoder(outer.path()).err().ok_or("imported")?.to_string();
    assert!(message.contains("modules.json") && message.contains("../elsewhere"), "{message}");
    Ok(())
}

#[test]
fn a_tokenizer_json_alone_is_enough_and_is_kept_as_it_is() -> TestResult {
    let folder = Folder::new()?;
    let text = "Small left pneumothorax, enlarged heart.";
    let expected = tokens(&folder.import()?, text)?;
    // Truncation and padding of the folder's own are common in such files, and none of our business.
    let kept = folder.use_tokenizer_json(|json| {
        json["truncation"] = json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    })?;
    let imported = folder.import()?;
    assert_eq!(imported.folder.tokenizer_json, kept);
    assert_eq!(tokens(&imported, text)?, expected);
    assert_eq!(imported.folder.vocabulary.get(8).map(String::as_str), Some("pneumothorax"));
    Ok(())
}

#[test]
fn a_cased_vocabulary_is_read_with_its_capitals() -> TestResult {
    let folder = Folder::new()?;
    let vocabulary = fs::read_to_string(folder.path().join("vocab.txt"))?;
    folder.write("vocab.txt", vocabulary.replace("bilateral", "Left").replace('\n', "\r\n"))?;
    assert_eq!(tokens(&folder.import()?, "Left left")?, ["[CLS]", "left", "left", "[SEP]"]);
    folder.set("tokenizer_config.json", &json!({"do_lower_case": false, "cls_token": {"content": "[CLS]"}}))?;
    assert_eq!(tokens(&folder.import()?, "Left left")?, ["[CLS]", "Left", "left", "[SEP]"]);

    // The same settings beside a tokenizer.json that was saved without them.
    let uncased = |json: &mut Value| json["normalizer"]["lowercase"] = json!(true);
    folder.use_tokenizer_json(uncased)?;
    let imported = folder.import()?;
    assert_eq!(tokens(&imported, "Left left")?, ["[CLS]", "Left", "left", "[SEP]"]);
    assert!(
        imported.folder.notices.iter().any(|notice| notice.contains("tokenizer_config.json")),
        "{:?}",
        imported.folder.notices
    );
    Ok(())
}

#[test]
fn a_tokenizer_of_another_size_names_both_files_and_both_sizes() -> TestResult {
    let folder = Folder::new()?;
    let vocabulary = fs::read_to_string(folder.path().join("vocab.txt"))?;
    folder.write("vocab.txt", format!("{vocabulary}another\n"))?;
    folder.assert_refused(&["vocab.txt", "42 ids", "at most 41", "vocab_size 41", "config.json"])?;
    let lines: Vec<&str> = vocabulary.lines().collect();
    folder.write("vocab.txt", lines[..12].join("\n"))?;
    folder.assert_refused(&["vocab.txt", "12 ids", "41", "config.json"])?;
    folder.write("vocab.txt", lines[..40].join("\n"))?;
    let notices = folder.import()?.folder.notices;
    assert!(notices.iter().any(|notice| notice.contains("has 40 ids") && notice.contains("41 rows")), "{notices:?}");

    folder.write("vocab.txt", vocabulary)?;
    folder.use_tokenizer_json(|json| json["model"]["vocab"]["another"] = json!(99))?;
    folder.assert_refused(&["tokenizer.json", "100 ids", "at most 41", "config.json"])
}

#[test]
fn two_tokenizer_files_must_be_the_same_tokenizer() -> TestResult {
    let folder = Folder::new()?;
    let vocabulary = fs::read_to_string(folder.path().join("vocab.txt"))?;
    folder.use_tokenizer_json(|_| ())?;
    folder.write("vocab.txt", &vocabulary)?;
    folder.import()?;
    folder.write("vocab.txt", vocabulary.replace("left\nright", "right\nleft"))?;
    folder.assert_refused(&["tokenizer.json", "`right` has id 7", "expected id 6", "vocab.txt"])
}

#[test]
fn tokenizers_of_other_kinds_are_refused_by_field() -> TestResult {
    let settings = |fields: Value| -> Result<Folder, Box<dyn Error>> {
        let folder = Folder::new()?;
        folder.set("tokenizer_config.json", &fields)?;
        Ok(folder)
    };
    for (field, value) in [
        ("tokenizer_class", json!("BertJapaneseTokenizer")),
        ("do_basic_tokenize", json!(false)),
        ("cls_token", json!("<s>")),
        ("sep_token", json!({"content": "</s>"})),
    ] {
        settings(json!({field: value}))?.assert_refused(&["tokenizer_config.json", field, "expected"])?;
    }
    let folder = Folder::new()?;
    folder.write("added_tokens.json", r#"{"[PAD]": 0}"#)?;
    folder.import()?;
    folder.write("added_tokens.json", r#"{"<unk2>": 41}"#)?;
    folder.assert_refused(&["added_tokens.json", "<unk2>", "41"])?;

    let folder = Folder::new()?;
    folder.use_tokenizer_json(|json| json["post_processor"]["cls"] = json!(["[UNK]", 1]))?;
    folder.assert_refused(&["tokenizer.json", "post_processor", "[UNK]", "expected `[CLS]`"])?;
    folder.write("tokenizer.json", "{}")?;
    folder.assert_refused(&["tokenizer.json"])?;
    folder.remove("tokenizer.json")?;
    folder.write("vocab.json", "{}")?;
    folder.assert_refused(&["neither tokenizer.json nor vocab.txt", "vocab.json"])?;
    folder.write("vocab.txt", "[PAD]\n[UNK]\n[SEP]\n")?;
    folder.assert_refused(&["vocab.txt", "[CLS]"])
}

#[test]
fn other_networks_than_a_plain_bert_are_refused_by_field() -> TestResult {
    for (field, value, found) in [
        ("model_type", json!("roberta"), "`roberta`"),
        ("position_embedding_type", json!("relative_key_query"), "`relative_key_query`"),
        ("hidden_act", json!("silu"), "`silu`"),
        ("is_decoder", json!(true), "true"),
        ("pruned_heads", json!({"1": [0]}), "layers 1"),
        ("num_attention_heads", json!(5), "5"),
        ("vocab_size", json!(0), "0"),
    ] {
        let folder = Folder::new()?;
        folder.set("config.json", &json!({field: value}))?;
        folder.assert_refused(&["config.json", field, found])?;
    }
    let folder = Folder::new()?;
    folder.write("config.json", "[]")?;
    folder.assert_refused(&["config.json", "BERT configuration"])
}

#[test]
fn weights_that_disagree_with_the_configuration_are_named() -> TestResult {
    let folder = Folder::new()?;
    folder.set("config.json", &json!({"num_hidden_layers": 1}))?;
    folder.assert_refused(&["model.safetensors", "`bert.encoder.layer.1.", "config.json", "1 layers"])?;
    folder.set("config.json", &json!({"num_hidden_layers": 3}))?;
    folder.assert_refused(&["model.safetensors", "`bert.encoder.layer.2.", "is missing"])?;
    folder.set("config.json", &json!({"num_hidden_layers": 2, "max_position_embeddings": 128}))?;
    folder.assert_refused(&["position_embeddings.weight", "[256, 48]", "[128, 48]"])?;

    let folder = Folder::new()?;
    folder.write_tensors(|tensors| {
        let twins: Weights = tensors.iter().map(|(name, tensor)| (format!("teacher.{name}"), tensor.clone())).collect();
        tensors.extend(twins);
    })?;
    folder.assert_refused(&["model.safetensors", "more than one BERT", "`bert.", "`teacher.bert."])?;
    folder.remove("model.safetensors")?;
    folder.write("tf_model.h5", "")?;
    folder.assert_refused(&["neither model.safetensors nor pytorch_model.bin", "tf_model.h5"])
}

#[test]
fn texts_longer_than_the_encoder_reads_are_refused_with_both_lengths() -> TestResult {
    let imported = Folder::new()?.import()?;
    assert!(imported.folder.tokenizer(&TextConfig::published(256)).is_ok());
    let message = imported.folder.tokenizer(&TextConfig::published(257)).err().ok_or("made")?.to_string();
    for part in ["config.json", "`max_position_embeddings`", "is 256", "257"] {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
    Ok(())
}
