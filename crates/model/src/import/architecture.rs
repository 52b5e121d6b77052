//! What a file of tensors holds, told by their names: so that one part given as another is called by its own name.

use std::{fmt, path::Path};

use super::{checkpoint::Checkpoint, error::ImportError};

/// A network whose files people have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// RayGen's masked transformer, of either variant.
    RaygenTransformer,
    /// taming-transformers' `VQModel`.
    VqGan,
    /// taming-transformers' `GumbelVQ`.
    GumbelVqGan,
    /// A BERT of Hugging Face's transformers.
    Bert,
    /// A DenseNet-121 of torchvision, CheXNet or torchxrayvision.
    DenseNet121,
}

impl Architecture {
    /// What these tensors belong to; none where no name tells. A RayGen checkpoint that holds its text encoder too is a
    /// transformer.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let names: Vec<&str> = names.into_iter().collect();
        // Wrappers put their own names in front: `model.`, `module.`, `densenet121.`.
        let has = |part: &str| {
            names.iter().any(|name| {
                let before = name.find(part).map(|place| &name[..place]);
                before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
            })
        };
        if has("image_embedding.weight") || has("transformer.dec_layers.") {
            Some(Self::RaygenTransformer)
        } else if has("quantize.embed.weight") {
            Some(Self::GumbelVqGan)
        } else if has("quantize.embedding.weight") || (has("encoder.conv_in.weight") && has("decoder.conv_in.weight")) {
            Some(Self::VqGan)
        } else if has("embeddings.word_embeddings.weight") {
            Some(Self::Bert)
        } else if has("features.conv0.weight") || has("features.denseblock1.denselayer1.") {
            Some(Self::DenseNet121)
        } else {
            None
        }
    }

    /// Its name for programs.
    pub fn id(self) -> &'static str {
        match self {
            Self::RaygenTransformer => "raygen_transformer",
            Self::VqGan => "vqgan",
            Self::GumbelVqGan => "gumbel_vqgan",
            Self::Bert => "bert",
            Self::DenseNet121 => "densenet121",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::RaygenTransformer => "RayGen transformer",
            Self::VqGan => "taming VQ-GAN",
            Self::GumbelVqGan => "taming VQ-GAN with a Gumbel quantiser",
            Self::Bert => "BERT text encoder",
            Self::DenseNet121 => "DenseNet-121 classifier",
        })
    }
}

/// Refuses a file that holds another network than the one that is wanted.
pub(super) fn check(checkpoint: &Checkpoint, wanted: Architecture) -> Result<(), ImportError> {
    match Architecture::of(checkpoint.names()) {
        // A YAML that says otherwise of the quantiser is told by its field.
        Some(Architecture::GumbelVqGan) if wanted == Architecture::VqGan => Ok(()),
        Some(found) if found != wanted => Err(other(checkpoint.path(), found, wanted)),
        _ => Ok(()),
    }
}

fn other(path: &Path, found: Architecture, wanted: Architecture) -> ImportError {
    ImportError::OtherPart { path: path.to_owned(), found, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_in_front_of_a_name_do_not_hide_it() {
        let of = |name: &str| Architecture::of([name]);
        assert_eq!(of("model.image_embedding.weight"), Some(Architecture::RaygenTransformer));
        assert_eq!(of("quantize.embedding.weight"), Some(Architecture::VqGan));
        assert_eq!(of("quantize.embed.weight"), Some(Architecture::GumbelVqGan));
        assert_eq!(of("bert.embeddings.word_embeddings.weight"), Some(Architecture::Bert));
        assert_eq!(of("module.densenet121.features.conv0.weight"), Some(Architecture::DenseNet121));
        assert_eq!(of("unquantize.embedding.weight"), None);
        let with_text = ["model.tokenizer.bert.embeddings.word_embeddings.weight", "model.image_embedding.weight"];
        assert_eq!(Architecture::of(with_text), Some(Architecture::RaygenTransformer));
    }
}
