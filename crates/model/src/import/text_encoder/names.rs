//! Names of a BERT's tensors: under which prefix they stand, and what we call them.

use std::collections::BTreeSet;

/// The table that every BERT has; what stands before it is the prefix.
const WORDS: &str = "embeddings.word_embeddings.weight";
/// Buffers that say nothing: 0, 1, 2, ... and zeros.
const BUFFERS: [&str; 2] = ["embeddings.position_ids", "embeddings.token_type_ids"];

/// What stands before `embeddings.` and `encoder.`: `bert.` in CXR-BERT's file, nothing in plain BERT's, the wrapper's name
/// in files of other programs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix(String);

impl Prefix {
    /// That of our bundles, which CXR-BERT's file and RayGen's checkpoints have too.
    pub(super) fn ours() -> Self {
        Self("bert.".to_owned())
    }

    /// Finds the prefix among the names of a file; `bert.` where there is no BERT at all.
    ///
    /// # Errors
    /// There are two BERTs. The message is about the file.
    pub(super) fn find<'a>(names: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let prefixes: BTreeSet<&str> = names
            .filter_map(|name| name.strip_suffix(WORDS))
            .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            .collect();
        match prefixes.into_iter().collect::<Vec<_>>().as_slice() {
            [] => Ok(Self::ours()),
            [prefix] => Ok(Self((*prefix).to_owned())),
            [first, second, ..] => {
                let (first, second) = (first.escape_debug(), second.escape_debug());
                Err(format!("holds more than one BERT: `{first}{WORDS}` and `{second}{WORDS}`; expected one"))
            }
        }
    }

    /// What our bundles call this tensor; none if it is no part of the encoder.
    pub(super) fn our_name(&self, name: &str) -> Option<String> {
        let rest = self.within(name)?;
        // TensorFlow's names of a norm's two tensors, which old files keep.
        let rest = rest.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
        Some(format!("bert.{rest}"))
    }

    /// Whether a text would pass through this tensor: to leave one out is to compute something else.
    pub(super) fn is_of_the_network(&self, name: &str) -> bool {
        self.within(name).is_some_and(|rest| !BUFFERS.contains(&rest))
    }

    fn within<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(&self.0)?;
        (rest.starts_with("embeddings.") || rest.starts_with("encoder.")).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_leads_to_our_names() {
        for prefix in ["", "bert.", "model.", "0.auto_model.", "module.text_encoder.bert."] {
            let name = |rest: &str| format!("{prefix}{rest}");
            let words = name(WORDS);
            let found = Prefix::find([name("cls.predictions.bias").as_str(), words.as_str()].into_iter()).unwrap();
            let norm = found.our_name(&name("encoder.layer.0.output.LayerNorm.gamma"));
            assert_eq!(norm.as_deref(), Some("bert.encoder.layer.0.output.LayerNorm.weight"), "{prefix}");
            assert_eq!(found.our_name(&name("pooler.dense.weight")), None);
            assert!(found.is_of_the_network(&name("encoder.layer.9.crossattention.self.key.weight")));
            assert!(!found.is_of_the_network(&name("embeddings.position_ids")));
        }
    }

    #[test]
    fn two_berts_in_a_file_are_not_told_apart() {
        let names = ["a.embeddings.word_embeddings.weight", "b.embeddings.word_embeddings.weight"];
        let problem = Prefix::find(names.into_iter()).unwrap_err();
        assert!(problem.contains(names[0]) && problem.contains(names[1]), "{problem}");
    }
}
