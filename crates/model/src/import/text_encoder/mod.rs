//! Hugging Face BERT folders: a configuration, weights, and a tokenizer, in the layouts that people have.

mod config;
mod folder;
mod names;
mod settings;
mod tokenizer;

use std::path::{Path, PathBuf};

use self::{names::Prefix, tokenizer::FolderTokenizer};
use super::{
    Tensors,
    architecture::{self, Architecture},
    checkpoint::Checkpoint,
    error::ImportError,
    expected::take,
};
use crate::{
    text::{TextConfig, TextTokenizer},
    text_encoder::{TextEncoder, TextEncoderConfig},
};

/// A text encoder as it was in its folder.
#[derive(Debug, Clone)]
pub struct ImportedTextEncoder {
    /// What `config.json` says.
    pub config: TextEncoderConfig,
    /// The network's tensors (`bert.*`).
    pub tensors: Tensors,
    /// The word pieces in the order of their ids; empty text where an id has none.
    pub vocabulary: Vec<String>,
    /// The text of a `tokenizer.json`, ready for a bundle: the folder's own as it is, or one made from its `vocab.txt`
    /// and `tokenizer_config.json`.
    pub tokenizer_json: String,
    /// Names in the weight file that were not needed: prediction heads, above all.
    pub passed_over: Vec<String>,
    /// What a person should know and what is no error, one sentence each.
    pub notices: Vec<String>,
    /// The file that `config` came from: in the folder that was given, or in the one within it that holds the encoder.
    pub config_path: PathBuf,
}

/// Reads a BERT folder: plain BERT, CXR-BERT (whose heads are passed over) or a BERT of sentence-transformers, with
/// `model.safetensors` or `pytorch_model.bin`, with `tokenizer.json` or `vocab.txt`. The encoder's names may stand under
/// any prefix.
///
/// # Errors
/// Missing files; a configuration or tokenizer that asks for what is not supported; a tokenizer that disagrees with the
/// embedding, or with another tokenizer file of the folder; missing, extra, misshapen or non-finite tensors.
pub fn text_encoder(folder: &Path) -> Result<ImportedTextEncoder, ImportError> {
    let folder = folder::encoder_folder(folder)?;
    let config_path = folder.join("config.json");
    let config = config::read(&config_path)?;
    let FolderTokenizer { json: tokenizer_json, vocabulary, notices } =
        tokenizer::read(&folder, &config_path, config.vocab_size)?;

    let weights = folder::weight_file(&folder)?;
    let prefix = find_prefix(&weights)?;
    let checkpoint = Checkpoint::open(&weights, |name| prefix.our_name(name))?;
    let tensors = take(&checkpoint, |vb| TextEncoder::new(&config, vb))?;
    let passed_over = checkpoint.passed_over(&tensors);
    if let Some(tensor) = passed_over.iter().find(|name| prefix.is_of_the_network(name)) {
        let layers = config.num_hidden_layers;
        let problem = format!("{} describes {layers} layers of a plain BERT, without it", config_path.display());
        return Err(ImportError::Unexpected { path: weights, tensor: tensor.clone(), problem });
    }
    Ok(ImportedTextEncoder { config, tensors, vocabulary, tokenizer_json, passed_over, notices, config_path })
}

/// The prefix has to be known before any name can be told ours, hence a look at all of them first.
fn find_prefix(weights: &Path) -> Result<Prefix, ImportError> {
    let checkpoint = Checkpoint::open(weights, |name| Some(name.to_owned()))?;
    architecture::check(&checkpoint, Architecture::Bert)?;
    Prefix::find(checkpoint.names()).map_err(|problem| ImportError::unreadable(weights, problem))
}

impl ImportedTextEncoder {
    /// The tokenizer for texts of `config`.
    ///
    /// # Errors
    /// `config.max_tokens` is more than the encoder has positions, or below 3.
    pub fn tokenizer(&self, config: &TextConfig) -> Result<TextTokenizer, ImportError> {
        let (positions, found) = (self.config.max_position_embeddings, config.max_tokens);
        if found > positions {
            let problem =
                format!("is {positions}; texts of {found} tokens need at least {found}: ask for shorter ones");
            return Err(ImportError::field(&self.config_path, "max_position_embeddings", problem));
        }
        TextTokenizer::from_json(self.tokenizer_json.as_bytes(), config)
            .map_err(|error| ImportError::unreadable(&self.config_path, error.to_string()))
    }

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
