//! Hugging Face BERT folders: a configuration, weights, and a tokenizer, in the layouts that people have.

mod config;
mod folder;
mod names;
mod settings;
mod tokenizer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use self::{names::Prefix, tokenizer::FolderTokenizer};
use super::{
    Tensors,
    architecture::{self, Architecture},
    checkpoint::Checkpoint,
    error::ImportError,
    expected::{record, take},
    small_file,
};
use crate::{
    text::{TextConfig, TextTokenizer},
    text_encoder::{TextEncoder, TextEncoderConfig},
};

/// A text encoder, of its folder or of a checkpoint that holds it.
#[derive(Debug, Clone)]
pub struct ImportedTextEncoder {
    /// The folder, without its weights.
    pub folder: TextEncoderFolder,
    /// The network's tensors (`bert.*`).
    pub tensors: Tensors,
    /// The folder's file that the tensors are from; none where a checkpoint held them.
    pub weights: Option<PathBuf>,
    /// Names beside the tensors that were not needed: prediction heads, above all.
    pub passed_over: Vec<String>,
}

/// What a BERT folder says beside its weights, which it may lack.
#[derive(Debug, Clone)]
pub struct TextEncoderFolder {
    /// What `config.json` says.
    pub config: TextEncoderConfig,
    /// The word pieces in the order of their ids; empty text where an id has none.
    pub vocabulary: Vec<String>,
    /// The text of a `tokenizer.json`, ready for a bundle: the folder's own as it is, or one made from its `vocab.txt`
    /// and `tokenizer_config.json`.
    pub tokenizer_json: String,
    /// What a person should know and what is no error, one sentence each.
    pub notices: Vec<String>,
    /// The file that `config` came from: in the folder that was given, or in the one within it that holds the encoder.
    pub config_path: PathBuf,
    /// The folder that holds the encoder.
    pub path: PathBuf,
}

/// Reads a BERT folder with its weights: plain BERT, CXR-BERT (whose heads are passed over) or a BERT of
/// sentence-transformers, with `model.safetensors` or `pytorch_model.bin`, with `tokenizer.json` or `vocab.txt`. The
/// encoder's names may stand under any prefix.
///
/// # Errors
/// Those of [`TextEncoderFolder::read`] and [`TextEncoderFolder::own_weights`].
pub fn text_encoder(folder: &Path) -> Result<ImportedTextEncoder, ImportError> {
    TextEncoderFolder::read(folder)?.own_weights()
}

impl TextEncoderFolder {
    /// Reads a folder's configuration and tokenizer.
    ///
    /// # Errors
    /// Missing files; a configuration or tokenizer that asks for what is not supported; a tokenizer that disagrees with
    /// the embedding, or with another tokenizer file of the folder.
    pub fn read(folder: &Path) -> Result<Self, ImportError> {
        let path = folder::encoder_folder(folder)?;
        let config_path = path.join("config.json");
        let config = config::read(&config_path)?;
        let FolderTokenizer { json: tokenizer_json, vocabulary, notices } =
            tokenizer::read(&path, &config_path, config.vocab_size)?;
        Ok(Self { config, vocabulary, tokenizer_json, notices, config_path, path })
    }

    /// The encoder with the folder's weights.
    ///
    /// # Errors
    /// No file of weights; missing, extra, misshapen or non-finite tensors.
    pub fn own_weights(self) -> Result<ImportedTextEncoder, ImportError> {
        let weights = folder::weight_file(&self.path)?;
        let prefix = find_prefix(&weights)?;
        let checkpoint = Checkpoint::open(&weights, |name| prefix.our_name(name))?;
        let tensors = take(&checkpoint, |vb| TextEncoder::new(&self.config, vb))?;
        let passed_over = checkpoint.passed_over(&tensors);
        self.check_all_taken(&weights, &prefix, &passed_over)?;
        Ok(ImportedTextEncoder { folder: self, tensors, weights: Some(weights), passed_over })
    }

    /// The encoder with the weights that a RayGen checkpoint holds (`bert.*`): the published code loads those over the
    /// folder's, which need not be there. `source` is the checkpoint, for messages.
    ///
    /// # Errors
    /// Missing, extra or misshapen tensors.
    pub fn weights_of(self, mut tensors: Tensors, source: &Path) -> Result<ImportedTextEncoder, ImportError> {
        let path = || source.to_owned();
        let expected = record(|vb| TextEncoder::new(&self.config, vb).map(drop))
            .map_err(|error| ImportError::unreadable(&self.config_path, error.to_string()))?;
        let mut taken = BTreeMap::new();
        for (tensor, expected) in expected {
            let Some(found) = tensors.remove(&tensor) else {
                let found = format!("a text encoder, but not all that {} describes", self.config_path.display());
                return Err(ImportError::Missing { path: path(), tensor, expected, found });
            };
            if found.dims() != expected {
                let found = found.dims().to_vec();
                return Err(ImportError::Shape { path: path(), tensor, expected, found });
            }
            taken.insert(tensor, found);
        }
        let passed_over: Vec<String> = tensors.into_keys().collect();
        self.check_all_taken(source, &Prefix::ours(), &passed_over)?;
        Ok(ImportedTextEncoder { folder: self, tensors: taken, weights: None, passed_over })
    }

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
            .map_err(|error| ImportError::unreadable(&self.path, error.to_string()))
    }

    /// To leave a tensor out through which a text would pass is to compute something else.
    fn check_all_taken(&self, weights: &Path, prefix: &Prefix, passed_over: &[String]) -> Result<(), ImportError> {
        let Some(tensor) = passed_over.iter().find(|name| prefix.is_of_the_network(name)) else { return Ok(()) };
        let (config, layers) = (self.config_path.display(), self.config.num_hidden_layers);
        let problem = format!("{config} describes {layers} layers of a plain BERT, without it");
        Err(ImportError::Unexpected { path: weights.to_owned(), tensor: tensor.clone(), problem })
    }
}

/// The prefix has to be known before any name can be told ours, hence a look at all of them first.
fn find_prefix(weights: &Path) -> Result<Prefix, ImportError> {
    let checkpoint = Checkpoint::open(weights, |name| Some(name.to_owned()))?;
    architecture::check(&checkpoint, Architecture::Bert)?;
    Prefix::find(checkpoint.names()).map_err(|problem| ImportError::unreadable(weights, problem))
}
