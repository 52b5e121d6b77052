//! The networks that a bundle may hold.

use std::fmt;

/// One network of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// Pictures to grids and back.
    VqGan,
    /// Grids and text to logits.
    Transformer,
    /// Text to features.
    TextEncoder,
    /// Pictures to findings.
    Classifier,
}

impl Component {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::VqGan, Self::Transformer, Self::TextEncoder, Self::Classifier];

    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::VqGan => "vqgan",
            Self::Transformer => "transformer",
            Self::TextEncoder => "text_encoder",
            Self::Classifier => "classifier",
        }
    }

    /// The file that holds its tensors.
    pub fn file(self) -> String {
        format!("{}.safetensors", self.name())
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
