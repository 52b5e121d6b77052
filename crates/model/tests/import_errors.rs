//! Foreign files that can't be imported: each error names the file and what is wrong in it.

mod golden_support;

use std::{collections::HashMap, error::Error, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use golden_support::{TestResult, golden};
use raygen_model::import::{self, Architecture, ImportError, TransformerOptions};

const FOUR_HEADS: TransformerOptions = TransformerOptions { heads: 4, max_text_tokens: 16 };

/// A copy of the golden BERT folder whose weights `change` has edited, as safetensors.
fn edited_bert(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> Result<tempfile::TempDir, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for name in ["config.json", "vocab.txt"] {
        fs::copy(golden("cxr_bert").join(name), folder.path().join(name))?;
    }
    let mut tensors: HashMap<String, Tensor> = import::text_encoder(&golden("cxr_bert"))?.tensors.into_iter().collect();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors"))?;
    Ok(folder)
}

/// The message of importing a BERT folder that must not import.
fn refusal(folder: &Path) -> Result<String, Box<dyn Error>> {
    match import::text_encoder(folder) {
        Ok(_) => Err("the import should have failed".into()),
        Err(error) => Ok(error.to_string()),
    }
}

#[test]
fn an_unchanged_safetensors_folder_imports() -> TestResult {
    let folder = edited_bert(|_| ())?;
    let imported = import::text_encoder(folder.path())?;
    assert!(imported.passed_over.is_empty());
    Ok(())
}

#[test]
fn plain_bert_names_are_understood() -> TestResult {
    let folder = edited_bert(|tensors| {
        *tensors = tensors
            .drain()
            .map(|(name, tensor)| {
                let name = name.trim_start_matches("bert.").replace("LayerNorm.weight", "LayerNorm.gamma");
                (name, tensor)
            })
            .collect();
    })?;
    import::text_encoder(folder.path())?;
    Ok(())
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() -> TestResult {
    let folder = edited_bert(|tensors| {
        tensors.remove("bert.encoder.layer.1.attention.self.key.weight");
    })?;
    let message = refusal(folder.path())?;
    assert!(message.contains("model.safetensors"), "{message}");
    assert!(message.contains("`bert.encoder.layer.1.attention.self.key.weight` [48, 48] is missing"), "{message}");
    Ok(())
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes() -> TestResult {
    let name = "bert.embeddings.LayerNorm.weight";
    let wrong = Tensor::zeros(47, DType::F32, &Device::Cpu)?;
    let folder = edited_bert(|tensors| {
        tensors.insert(name.to_owned(), wrong);
    })?;
    let message = refusal(folder.path())?;
    assert!(message.contains(&format!("`{name}` has shape [47]; expected [48]")), "{message}");
    Ok(())
}

#[test]
fn nan_and_integer_tensors_are_named() -> TestResult {
    let name = "bert.embeddings.LayerNorm.bias";
    let nan = Tensor::full(f32::NAN, 48, &Device::Cpu)?;
    let integers = Tensor::zeros(48, DType::I64, &Device::Cpu)?;
    for (tensor, problem) in [(nan, "not a finite number"), (integers, "floating-point")] {
        let folder = edited_bert(|tensors| {
            tensors.insert(name.to_owned(), tensor);
        })?;
        let message = refusal(folder.path())?;
        assert!(message.contains(name) && message.contains(problem), "{message}");
    }
    Ok(())
}

#[test]
fn a_vocabulary_larger_than_the_embedding_is_refused() -> TestResult {
    let folder = edited_bert(|_| ())?;
    let words = fs::read_to_string(folder.path().join("vocab.txt"))? + "\none\nmore\n";
    fs::write(folder.path().join("vocab.txt"), words)?;
    let message = refusal(folder.path())?;
    assert!(message.contains("vocab.txt") && message.contains("vocab_size 41"), "{message}");
    Ok(())
}

#[test]
fn an_unsupported_activation_is_named() -> TestResult {
    let folder = edited_bert(|_| ())?;
    let path = folder.path().join("config.json");
    fs::write(&path, fs::read_to_string(&path)?.replace("\"gelu\"", "\"relu\""))?;
    let message = refusal(folder.path())?;
    assert!(message.contains("config.json") && message.contains("hidden_act"), "{message}");
    Ok(())
}

#[test]
fn one_part_given_as_another_says_what_the_file_holds() -> TestResult {
    let error = import::transformer(&golden("vqgan.ckpt"), FOUR_HEADS).err().ok_or("imported")?;
    let message = error.to_string();
    assert!(message.contains("vqgan.ckpt: holds a taming VQ-GAN, not a RayGen transformer"), "{message}");
    let error = import::vqgan(&golden("raygen.ckpt"), &golden("vqgan_project.yaml")).err().ok_or("imported")?;
    assert!(matches!(error, ImportError::OtherPart { found: Architecture::RaygenTransformer, .. }), "{error}");
    let bert = golden("cxr_bert/pytorch_model.bin");
    let error = import::vqgan(&bert, &golden("vqgan_project.yaml")).err().ok_or("imported")?;
    assert!(matches!(error, ImportError::OtherPart { found: Architecture::Bert, .. }), "{error}");
    Ok(())
}

#[test]
fn weights_that_the_configuration_has_no_place_for_are_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    // Without its attention the network would compute something else, and nothing would be missing.
    let yaml = fs::read_to_string(golden("vqgan_project.yaml"))?;
    let path = folder.path().join("project.yaml");
    fs::write(&path, yaml.replace("attn_resolutions: [16]", "attn_resolutions: [24]"))?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &path).err().ok_or("imported")?.to_string();
    assert!(message.contains("`decoder.up.2.attn.0.k.bias` is not expected"), "{message}");
    assert!(message.contains("project.yaml"), "{message}");

    let mut tensors: HashMap<String, Tensor> =
        import::transformer(&golden("raygen.ckpt"), FOUR_HEADS)?.tensors.into_iter().collect();
    let path = folder.path().join("raygen.safetensors");
    tensors.insert("epoch_loss".to_owned(), Tensor::zeros(1, DType::F32, &Device::Cpu)?);
    candle_core::safetensors::save(&tensors, &path)?;
    assert_eq!(import::transformer(&path, FOUR_HEADS)?.passed_over, ["epoch_loss"]);
    let extra = "transformer.dec_layers.0.mha.mha.bias_k";
    tensors.insert(extra.to_owned(), Tensor::zeros((1, 1, 64), DType::F32, &Device::Cpu)?);
    candle_core::safetensors::save(&tensors, &path)?;
    let message = import::transformer(&path, FOUR_HEADS).err().ok_or("imported")?.to_string();
    assert!(message.contains(&format!("`{extra}` is not expected")), "{message}");
    Ok(())
}

#[test]
fn a_project_file_that_disagrees_with_the_weights_names_a_tensor() -> TestResult {
    let folder = tempfile::tempdir()?;
    let yaml = fs::read_to_string(golden("vqgan_project.yaml"))?;
    let path = folder.path().join("project.yaml");
    fs::write(&path, yaml.replace("n_embed: 64", "n_embed: 128"))?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &path).err().ok_or("imported")?.to_string();
    assert!(message.contains("`quantize.embedding.weight` has shape [64, 32]; expected [128, 32]"), "{message}");

    fs::write(&path, yaml.replace("double_z: False", "double_z: True"))?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &path).err().ok_or("imported")?.to_string();
    assert!(message.contains("project.yaml") && message.contains("double_z"), "{message}");

    fs::write(&path, yaml.replace("VQModel", "GumbelVQ"))?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &path).err().ok_or("imported")?.to_string();
    assert!(message.contains("Gumbel"), "{message}");
    Ok(())
}

#[test]
fn files_beside_the_weights_are_read_up_to_a_size() -> TestResult {
    let folder = edited_bert(|_| ())?;
    let endless = folder.path().join("project.yaml");
    fs::File::create(&endless)?.set_len((16 << 20) + 1)?;
    let message = import::vqgan(&golden("vqgan.ckpt"), &endless).err().ok_or("imported")?.to_string();
    assert!(message.contains("project.yaml") && message.contains("more than 16 MiB"), "{message}");
    for name in ["config.json", "vocab.txt", "tokenizer_config.json"] {
        let folder = edited_bert(|_| ())?;
        fs::File::create(folder.path().join(name))?.set_len((16 << 20) + 1)?;
        let message = refusal(folder.path())?;
        assert!(message.contains(name) && message.contains("more than 16 MiB"), "{message}");
    }
    let message = import::vqgan(&golden("vqgan.ckpt"), folder.path()).err().ok_or("imported")?.to_string();
    assert!(message.contains("is not a file"), "{message}");
    Ok(())
}

#[test]
fn a_head_count_that_does_not_divide_the_width_is_refused() -> TestResult {
    for heads in [0, 7] {
        let options = TransformerOptions { heads, max_text_tokens: 16 };
        let message = import::transformer(&golden("raygen.ckpt"), options).err().ok_or("imported")?.to_string();
        assert!(message.contains("heads") && message.contains("raygen.ckpt"), "{message}");
    }
    Ok(())
}

#[test]
fn truncated_and_foreign_files_are_refused_by_name() -> TestResult {
    let folder = tempfile::tempdir()?;
    let whole = fs::read(golden("raygen.ckpt"))?;
    let path = folder.path().join("some.ckpt");
    let cuts = [4, 100, 5000, whole.len() / 2, whole.len() - 22, whole.len() - 1].map(|length| &whole[..length]);
    for bytes in cuts.into_iter().chain([b"not a checkpoint".as_slice(), b""]) {
        fs::write(&path, bytes)?;
        let error = import::transformer(&path, FOUR_HEADS).err().ok_or("imported")?;
        assert!(matches!(error, ImportError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains("some.ckpt"), "{error}");
    }
    for missing in [folder.path().join("absent.ckpt"), folder.path().to_owned()] {
        assert!(import::transformer(&missing, FOUR_HEADS).is_err());
    }
    Ok(())
}

#[test]
fn a_checkpoint_that_calls_something_is_refused_by_that_name() -> TestResult {
    for name in ["pickles/evil.ckpt", "pickles/evil_legacy.ckpt"] {
        let error = import::transformer(&golden(name), FOUR_HEADS).err().ok_or("imported")?;
        assert!(matches!(error, ImportError::Calls { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("calls posix.system (os.system), which is not read"), "{message}");
    }
    assert!(!Path::new("raygen-was-here").exists());
    Ok(())
}

#[test]
fn a_whole_network_that_is_another_part_is_told_by_its_tensors() -> TestResult {
    for name in ["pickles/module.pt", "pickles/module_legacy.pt"] {
        let error = import::transformer(&golden(name), FOUR_HEADS).err().ok_or("imported")?;
        assert!(!matches!(error, ImportError::Unreadable { .. } | ImportError::Calls { .. }), "{error}");
    }
    Ok(())
}

#[test]
fn damaged_bytes_never_panic() -> TestResult {
    let folder = tempfile::tempdir()?;
    let whole = fs::read(golden("raygen.ckpt"))?;
    let path = folder.path().join("damaged.ckpt");
    // The pickle lies at the start of the archive, the directory at its end: change one byte at a time in both.
    for place in (0..6000).step_by(97).chain((whole.len() - 8000..whole.len()).step_by(101)) {
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 0xff;
        }
        fs::write(&path, bytes)?;
        if let Err(error) = import::transformer(&path, FOUR_HEADS) {
            assert!(error.to_string().contains("damaged.ckpt"), "{error}");
        }
    }
    Ok(())
}
