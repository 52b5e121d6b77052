//! Writes a model of the published size with random weights, in the layouts that people have: `write_foreign FOLDER`
//! makes `raygen.ckpt` (Lightning, the text encoder inside), `vqgan.ckpt` and `vqgan_project.yaml` (taming), and
//! `cxr_bert/` (Hugging Face). 2.2 GB; for proofs of time and memory.

#[allow(dead_code, reason = "tests use the other layouts")]
mod torch;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use raygen_model::bundle::{BundleConfig, Component, expected_tensors};
use serde_json::{Value, json};
use torch::{Fill, LIGHTNING, TorchTensor, write};

/// Word pieces of CXR-BERT.
const VOCABULARY: usize = 30_522;

fn main() -> Result<(), Box<dyn Error>> {
    let folder: PathBuf = std::env::args_os().nth(1).ok_or("usage: write_foreign FOLDER")?.into();
    let config = published()?;
    let transformer = tensors(&config, Component::Transformer)?;
    let vqgan = tensors(&config, Component::VqGan)?;
    let text_encoder = tensors(&config, Component::TextEncoder)?;
    fs::create_dir_all(folder.join("cxr_bert"))?;

    let inside = text_encoder.iter().map(|tensor| tensor.renamed("model.tokenizer."));
    let lightning: Vec<TorchTensor> = transformer.iter().map(|tensor| tensor.renamed("model.")).chain(inside).collect();
    write(&folder.join("raygen.ckpt"), Some(&LIGHTNING), &lightning)?;

    let losses = ["loss.perceptual_loss.lin0.model.1.weight", "loss.discriminator.main.0.weight"];
    let losses = losses.map(|name| TorchTensor { name: name.to_owned(), shape: vec![1, 64, 1, 1], fill: Fill::Random });
    let taming: Vec<TorchTensor> = vqgan.into_iter().chain(losses).collect();
    write(&folder.join("vqgan.ckpt"), Some(&LIGHTNING), &taming)?;
    fs::write(folder.join("vqgan_project.yaml"), PROJECT)?;

    write_bert(&folder.join("cxr_bert"), &config, text_encoder)
}

/// The sizes of the published model.
fn published() -> Result<BundleConfig, Box<dyn Error>> {
    Ok(serde_json::from_value(json!({
        "format_version": 1,
        "components": {
            "vqgan": {
                "channels": 128, "channel_multipliers": [1, 1, 2, 2, 4], "residual_blocks": 2,
                "attention_resolutions": [24], "resolution": 512, "in_channels": 3, "out_channels": 3,
                "z_channels": 256, "embed_dim": 256, "codebook_size": 1024,
            },
            "transformer": {
                "variant": "published", "codebook_size": 1024, "positions": 1024, "width": 1024, "layers": 6,
                "heads": 8, "feed_forward": 4096, "text_width": 768, "max_text_tokens": 256,
            },
            "text_encoder": {
                "vocab_size": VOCABULARY, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
                "intermediate_size": 3072, "max_position_embeddings": 512,
            },
        },
        "image_size": 512,
        "grid": { "height": 32, "width": 32 },
        "text": { "max_tokens": 256, "pad_to_maximum": true },
    }))?)
}

const PROJECT: &str = "model:
  base_learning_rate: 4.5e-06
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 256
    n_embed: 1024
    ddconfig:
      double_z: false
      z_channels: 256
      resolution: 512
      in_channels: 3
      out_ch: 3
      ch: 128
      ch_mult: [1, 1, 2, 2, 4]
      num_res_blocks: 2
      attn_resolutions: [24]
      dropout: 0.0
    lossconfig:
      target: taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator
      params: { disc_start: 30001, disc_weight: 0.8, codebook_weight: 1.0 }
";

fn tensors(config: &BundleConfig, component: Component) -> Result<Vec<TorchTensor>, Box<dyn Error>> {
    let shapes = expected_tensors(config, component)?.ok_or("the component has no network")?;
    let tensor = |(name, shape): (String, Vec<usize>)| {
        // What has one dimension is a norm's scale or a bias: a network of any depth stays finite with these.
        let fill = match shape.len() {
            1 if name.ends_with(".weight") => Fill::Ones,
            1 => Fill::Zeros,
            _ => Fill::Random,
        };
        TorchTensor { name, shape, fill }
    };
    Ok(shapes.into_iter().map(tensor).collect())
}

fn write_bert(folder: &Path, config: &BundleConfig, mut tensors: Vec<TorchTensor>) -> Result<(), Box<dyn Error>> {
    let buffer = "bert.embeddings.position_ids".to_owned();
    tensors.push(TorchTensor { name: buffer, shape: vec![1, 512], fill: Fill::Counting });
    let head = "cls.predictions.bias".to_owned();
    tensors.push(TorchTensor { name: head, shape: vec![VOCABULARY], fill: Fill::Zeros });
    write(&folder.join("pytorch_model.bin"), None, &tensors)?;
    let mut settings = serde_json::to_value(&config.components.text_encoder)?;
    if let Value::Object(fields) = &mut settings {
        fields.insert("model_type".to_owned(), json!("cxr-bert"));
        fields.insert("projection_size".to_owned(), json!(128));
    }
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&settings)?)?;
    let special = |id| match id {
        0 => Some("[PAD]"),
        100 => Some("[UNK]"),
        101 => Some("[CLS]"),
        102 => Some("[SEP]"),
        103 => Some("[MASK]"),
        _ => None,
    };
    let words: Vec<String> =
        (0..VOCABULARY).map(|id| special(id).map_or_else(|| format!("word{id}"), str::to_owned)).collect();
    Ok(fs::write(folder.join("vocab.txt"), words.join("\n") + "\n")?)
}
