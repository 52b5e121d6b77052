//! Hugging Face BERT folders: `config.json`, `pytorch_model.bin` or `model.safetensors`, `vocab.txt`.

use std::path::{Path, PathBuf};

use super::{Tensors, checkpoint::Checkpoint, error::ImportError, expected::take};
use crate::text_encoder::{TextEncoder, TextEncoderConfig};

/// Weight files in the order in which they are looked for.
const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// A text encoder as it was in its folder.
#[derive(Debug, Clone)]
pub struct ImportedTextEncoder {
    /// What `config.json` says.
    pub config: TextEncoderConfig,
    /// The network's tensors (`bert.*`).
    pub tensors: Tensors,
    /// The word pieces in the order of their ids.
    pub vocabulary: Vec<String>,
    /// Names in the weight file that were not needed: prediction heads, above all.
    pub passed_over: Vec<String>,
}

/// Reads a BERT folder (plain BERT or CXR-BERT, whose heads are passed over).
///
/// # Errors
/// Missing files; a configuration that asks for what is not supported; a vocabulary larger than the embedding; missing,
/// misshapen or non-finite tensors.
pub fn text_encoder(folder: &Path) -> Result<ImportedTextEncoder, ImportError> {
    let config_path = folder.join("config.json");
    let config: TextEncoderConfig = serde_json::from_str(&read(&config_path)?)
        .map_err(|error| ImportError::unreadable(&config_path, format!("is not a BERT configuration: {error}")))?;
    config.validate().map_err(|source| ImportError::config(&config_path, source))?;
    let vocabulary = read_vocabulary(&folder.join("vocab.txt"), &config)?;
    let checkpoint = Checkpoint::open(&weight_file(folder)?, |name| Some(our_name(name)))?;
    let tensors = take(&checkpoint, |vb| TextEncoder::new(&config, vb))?;
    let passed_over = checkpoint.passed_over(&tensors);
    Ok(ImportedTextEncoder { config, tensors, vocabulary, passed_over })
}

impl ImportedTextEncoder {
    /// Takes the weights that a RayGen checkpoint holds in place of the folder's own: the published code does so too.
    ///
    /// # Errors
    /// Tensors that are missing or have another shape than the folder's. `source` is the checkpoint, for the message.
    pub fn replace_tensors(&mut self, mut tensors: Tensors, source: &Path) -> Result<(), ImportError> {
        for (name, ours) in &mut self.tensors {
            let expected = ours.dims().to_vec();
            let Some(tensor) = tensors.remove(name) else {
                let found = "a text encoder without it".to_owned();
                return Err(ImportError::Missing { path: source.to_owned(), tensor: name.clone(), expected, found });
            };
            if tensor.dims() != expected {
                let found = tensor.dims().to_vec();
                return Err(ImportError::Shape { path: source.to_owned(), tensor: name.clone(), expected, found });
            }
            *ours = tensor;
        }
        Ok(())
    }
}

/// Plain BERT files leave out `bert.`; old ones call a norm's tensors `gamma` and `beta`.
fn our_name(name: &str) -> String {
    let name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
    if name.starts_with("embeddings.") || name.starts_with("encoder.") { format!("bert.{name}") } else { name }
}

fn weight_file(folder: &Path) -> Result<PathBuf, ImportError> {
    WEIGHT_FILES
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| ImportError::unreadable(folder, format!("holds neither {}", WEIGHT_FILES.join(" nor "))))
}

fn read_vocabulary(path: &Path, config: &TextEncoderConfig) -> Result<Vec<String>, ImportError> {
    let vocabulary: Vec<String> = read(path)?.lines().map(str::to_owned).collect();
    if vocabulary.is_empty() || vocabulary.len() > config.vocab_size {
        let problem =
            format!("holds {} word pieces; the embedding has vocab_size {}", vocabulary.len(), config.vocab_size);
        return Err(ImportError::unreadable(path, problem));
    }
    Ok(vocabulary)
}

fn read(path: &Path) -> Result<String, ImportError> {
    std::fs::read_to_string(path).map_err(|source| ImportError::io(path, source))
}
