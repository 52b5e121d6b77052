//! Parts of the two networks that stay as they are, by the names that a configuration gives them.

use std::collections::BTreeSet;

use raygen_model::text_encoder::TextEncoder;
use raygen_model::transformer::Transformer;

use super::Shapes;
use super::network::TEXT_PREFIX;
use crate::config::{RunConfig, TransformerStageConfig};
use crate::plan::tensor_sizes;

/// Names of parts, but for those with a number, and what the names of their tensors begin with.
const PARTS: [(&str, &[&str]); 12] = [
    ("text", &[TEXT_PREFIX]),
    ("text.embeddings", &["bert.embeddings."]),
    ("text.layers", &["bert.encoder.layer."]),
    ("text_projector", &["text_norm.", "text_projector."]),
    ("embedding", &["image_embedding.", "image_pos_emb."]),
    ("view", &["view_embedding."]),
    ("local_in", &["local_in."]),
    ("merge", &["token_merge.", "token_split.", "token_norm."]),
    ("layers", &["transformer.dec_layers."]),
    ("norm", &["transformer.norm."]),
    ("local_out", &["local_out."]),
    ("head", &["final_dense."]),
];

/// What is frozen.
#[derive(Debug, Clone, Default)]
pub struct Freeze {
    parts: Vec<Part>,
}

/// A part, and what the names of its tensors begin with.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    prefixes: Vec<String>,
}

// === impl Freeze ===

impl Freeze {
    /// What `config` freezes: its `freeze`, and the text encoder where `text.frozen` holds.
    ///
    /// # Errors
    /// Names a part that there is not.
    pub fn of(config: &TransformerStageConfig) -> Result<Self, String> {
        let text = config.text.frozen.then_some("text");
        let names = config.freeze.iter().map(String::as_str).chain(text);
        Ok(Self { parts: names.map(Part::named).collect::<Result<_, _>>()? })
    }

    /// Whether the tensor `name` stays as it is.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.has(name))
    }

    /// Checks that every part is in the networks of `shapes` and comes from a bundle, and that something is left to train.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn check(&self, config: &RunConfig, shapes: &Shapes) -> Result<(), String> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let names = tensor_names(shapes).map_err(|error| error.to_string())?;
        for part in &self.parts {
            let mut of_it = names.iter().filter(|name| part.has(name)).peekable();
            let Some(first) = of_it.peek() else {
                return Err(format!("names {:?}, and this network has no such part", part.name));
            };
            let of_text = first.starts_with(TEXT_PREFIX);
            if of_text && config.text_start().is_none() {
                return Err(format!("names {:?}, which needs start_from or text.start_from", part.name));
            }
            if !of_text && config.transformer.start_from.is_none() {
                return Err(format!("names {:?}, which needs start_from: what is fresh has to learn", part.name));
            }
        }
        if names.iter().all(|name| self.holds(name) || shapes.transformer.is_unused(name)) {
            return Err("leaves nothing to train".to_owned());
        }
        Ok(())
    }
}

// === impl Part ===

impl Part {
    fn named(name: &str) -> Result<Self, String> {
        let owned = |prefixes: &[&str]| prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let numbered = |of: &str, prefix: &str| {
            let number: usize = name.strip_prefix(of)?.parse().ok()?;
            Some(vec![format!("{prefix}{number}.")])
        };
        let known = PARTS.iter().find(|(known, _)| *known == name).map(|(_, prefixes)| owned(prefixes));
        let prefixes = known
            .or_else(|| numbered("layers.", "transformer.dec_layers."))
            .or_else(|| numbered("text.layers.", "bert.encoder.layer."));
        match prefixes {
            Some(prefixes) => Ok(Self { name: name.to_owned(), prefixes }),
            None => {
                let known: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                Err(format!("names {name:?}; there are {}, layers.N and text.layers.N", known.join(", ")))
            }
        }
    }

    fn has(&self, tensor: &str) -> bool {
        self.prefixes.iter().any(|prefix| tensor.starts_with(prefix))
    }
}

/// Names of all tensors of both networks.
fn tensor_names(shapes: &Shapes) -> anyhow::Result<BTreeSet<String>> {
    let transformer =
        tensor_sizes(|vb| Transformer::new(&shapes.transformer, vb).map(drop).map_err(anyhow::Error::from))?;
    let text = tensor_sizes(|vb| TextEncoder::new(&shapes.text_encoder, vb).map(drop).map_err(anyhow::Error::from))?;
    Ok(transformer.into_keys().chain(text.into_keys()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(names: &[&str]) -> Result<Freeze, String> {
        Ok(Freeze { parts: names.iter().map(|name| Part::named(name)).collect::<Result<_, _>>()? })
    }

    #[test]
    fn a_part_holds_its_tensors_and_no_others() {
        let frozen = freeze(&["layers.1", "text.layers.0", "head"]).unwrap_or_default();
        for (tensor, held) in [
            ("transformer.dec_layers.1.ffn.linear_1.weight", true),
            ("transformer.dec_layers.10.ffn.linear_1.weight", false),
            ("transformer.dec_layers.0.ffn.linear_1.weight", false),
            ("transformer.norm.weight", false),
            ("bert.encoder.layer.0.output.dense.bias", true),
            ("bert.embeddings.word_embeddings.weight", false),
            ("final_dense.bias", true),
        ] {
            assert_eq!(frozen.holds(tensor), held, "{tensor}");
        }
    }

    #[test]
    fn a_name_that_is_no_part_is_refused_with_those_that_are() {
        for name in ["layer.0", "layers.x", "layers.", "", "final_dense.weight"] {
            let message = freeze(&[name]).err().unwrap_or_default();
            assert!(message.contains("text_projector") && message.contains("layers.N"), "{name}: {message}");
        }
    }
}
