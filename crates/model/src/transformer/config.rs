//! The shape of a masked transformer, and what tells the two variants apart.

use serde::{Deserialize, Serialize};

use super::{Views, local, published};
use crate::config::{InvalidConfig, check_codebook, check_divides, check_layers, check_size};

/// Configuration of a [`Transformer`](super::Transformer), tagged by `variant` in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "variant", rename_all = "snake_case")]
pub enum TransformerConfig {
    /// What the published code computes, quirks included.
    Published(PublishedConfig),
    /// What we train and ship.
    Raygen(RaygenConfig),
}

/// The published architecture. Where its code surprises, a field says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedConfig {
    /// Number of codes; the id after the last one means "masked" and is never predicted.
    pub codebook_size: usize,
    /// Tokens of a grid, row by row.
    pub positions: usize,
    /// Width of the trunk.
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Attention heads. No tensor tells their number.
    pub heads: usize,
    /// Width between the two dense layers of a feed-forward block, after gating.
    pub feed_forward: usize,
    /// Width of the text encoder's states.
    pub text_width: usize,
    /// Text tokens per impression. Every text is padded to this, because `text_norm` runs over the token axis.
    pub max_text_tokens: usize,
    /// Published: `token_axis`. The code calls `normalize(dim=1)`, which is over tokens; its docstring means features.
    #[serde(default)]
    pub text_norm: TextNorm,
    /// Published: false. The code attends to the pads of a text like to its words.
    #[serde(default)]
    pub pad_mask: bool,
    /// Published: true. `layer_norm_1` and `layer_norm_2` are in the files, but their calls are commented out.
    #[serde(default = "yes")]
    pub unused_attention_norms: bool,
    /// Published: `geglu`. The paper's words are two dense layers with GELU between them; its code gates.
    #[serde(default, skip_serializing_if = "Activation::is_geglu")]
    pub activation: Activation,
}

/// Our architecture: pre-norm, QK-norm, padding mask, text normalised over features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaygenConfig {
    /// Number of codes; the id after the last one means "masked" and is never predicted.
    pub codebook_size: usize,
    /// Tokens of a grid, row by row: `grid_side` squared.
    pub positions: usize,
    /// Side of the (square) token grid.
    pub grid_side: usize,
    /// 1: a trunk position per token. 2: one per block of 2 by 2 tokens, which makes the trunk four times shorter.
    #[serde(default = "one")]
    pub token_merge: usize,
    /// Width of a token's embedding; may differ from `width` only where tokens are merged.
    pub token_width: usize,
    /// Residual blocks of 3 by 3 convolutions over the grid of tokens before the trunk, and as many after it. The trunk sees
    /// far; these see what lies next to each other, which blocks of merged tokens hide from it.
    #[serde(default)]
    pub local_blocks: usize,
    /// Width of the trunk.
    pub width: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width between the two dense layers of a feed-forward block, after gating.
    pub feed_forward: usize,
    /// Width of the text encoder's states.
    pub text_width: usize,
    /// Most text tokens per impression, `[CLS]` and `[SEP]` included.
    pub max_text_tokens: usize,
    /// Whether the pads of a text are left out of attention. True for everything we train.
    #[serde(default = "yes")]
    pub pad_mask: bool,
    /// What it knows of views. Where there is something, an embedding of the view stands before the words of each text, and is
    /// never left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub views: Option<Views>,
}

/// What stands between the two dense layers of a feed-forward block (published variant).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The first dense layer is twice as wide, and the GELU of its first half multiplies the second: what the code does.
    #[default]
    Geglu,
    /// GELU: what the paper says.
    Gelu,
}

impl Activation {
    fn is_geglu(&self) -> bool {
        *self == Self::Geglu
    }
}

/// How text states are normalised before they are projected (published variant).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextNorm {
    /// Every feature has unit L2 norm over the tokens of a text, pads included: what the published code does.
    #[default]
    TokenAxis,
    /// Every token has unit L2 norm over its features: what the published docstring says.
    FeatureAxis,
    /// Left as the text encoder gave them.
    None,
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

/// Reads a field that both variants have.
macro_rules! shared {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])*
        pub fn $name(&self) -> usize {
            match self {
                Self::Published(config) => config.$name,
                Self::Raygen(config) => config.$name,
            }
        })*
    };
}

impl TransformerConfig {
    shared! {
        /// Number of codes.
        codebook_size,
        /// Tokens of a grid.
        positions,
        /// Width of the trunk.
        width,
        /// Decoder layers.
        layers,
        /// Attention heads.
        heads,
        /// Width between the two dense layers of a feed-forward block.
        feed_forward,
        /// Width of the text encoder's states.
        text_width,
        /// Most text tokens per impression.
        max_text_tokens,
    }

    /// The id that means "masked".
    pub fn mask_id(&self) -> u32 {
        u32::try_from(self.codebook_size()).unwrap_or(u32::MAX)
    }

    /// What it knows of views, if it knows any.
    pub fn views(&self) -> Option<&Views> {
        match self {
            Self::Published(_) => None,
            Self::Raygen(config) => config.views.as_ref(),
        }
    }

    /// Whether the pads of a text are left out of attention.
    pub fn pad_mask(&self) -> bool {
        match self {
            Self::Published(config) => config.pad_mask,
            Self::Raygen(config) => config.pad_mask,
        }
    }

    /// Whether a text must be padded to `max_text_tokens` for its condition to be right: true where pads take part in
    /// the result, through the norm over tokens or through attention.
    pub fn pads_text_to_maximum(&self) -> bool {
        match self {
            Self::Published(config) => !config.pad_mask || config.text_norm == TextNorm::TokenAxis,
            Self::Raygen(config) => !config.pad_mask,
        }
    }

    /// Whether the tensor of this name is in the files but takes no part in what is computed, so that it has no gradient.
    pub fn is_unused(&self, tensor: &str) -> bool {
        match self {
            Self::Published(_) => published::is_unused(tensor),
            Self::Raygen(_) => false,
        }
    }

    /// Checks what can be told without tensors.
    ///
    /// # Errors
    /// Names the first field from which no network can be built.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check_codebook("codebook_size", self.codebook_size())?;
        check_size("positions", self.positions())?;
        check_size("width", self.width())?;
        check_layers("layers", self.layers())?;
        check_divides("width", self.width(), "heads", self.heads())?;
        check_size("feed_forward", self.feed_forward())?;
        check_size("text_width", self.text_width())?;
        check_size("max_text_tokens", self.max_text_tokens())?;
        match self {
            Self::Published(_) => Ok(()),
            Self::Raygen(config) => config.validate_grid(),
        }
    }
}

impl RaygenConfig {
    fn validate_grid(&self) -> Result<(), InvalidConfig> {
        check_size("grid_side", self.grid_side)?;
        check_size("token_width", self.token_width)?;
        if let Some(views) = &self.views {
            views.validate()?;
        }
        if self.local_blocks > 0 {
            check_layers("local_blocks", self.local_blocks)?;
            check_divides("token_width", self.token_width, "the groups of a local block", local::GROUPS)?;
        }
        if self.grid_side * self.grid_side != self.positions {
            let problem = format!("{} is not grid_side {} squared", self.positions, self.grid_side);
            return Err(InvalidConfig::new("positions", problem));
        }
        match self.token_merge {
            1 if self.token_width != self.width => {
                let problem = format!("{} must equal width {} where token_merge is 1", self.token_width, self.width);
                Err(InvalidConfig::new("token_width", problem))
            }
            1 => Ok(()),
            2 => check_divides("grid_side", self.grid_side, "token_merge", 2),
            other => Err(InvalidConfig::new("token_merge", format!("{other} is neither 1 nor 2"))),
        }
    }
}
