//! The shape of a VQ-GAN, in the words of taming-transformers' `ddconfig`.

use serde::{Deserialize, Serialize};

use crate::config::{InvalidConfig, check_codebook, check_divides, check_layers, check_size};

/// Configuration of a [`VqGan`](super::VqGan).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VqGanConfig {
    /// Channels of the widest level before multipliers (taming: `ch`).
    pub channels: usize,
    /// Channel multiplier of every level, from full resolution down (taming: `ch_mult`).
    pub channel_multipliers: Vec<usize>,
    /// Residual blocks per level of the encoder; the decoder has one more (taming: `num_res_blocks`).
    pub residual_blocks: usize,
    /// Sides, in pixels, of the levels that have attention after each block. Sides that no level has are allowed and
    /// match nothing, as in the published file (`attn_resolutions`). The middle always has attention.
    #[serde(default)]
    pub attention_resolutions: Vec<usize>,
    /// Side of the image in pixels.
    pub resolution: usize,
    /// Channels of an image that goes in: 1 (grey) or 3 (RGB).
    pub in_channels: usize,
    /// Channels of an image that comes out.
    pub out_channels: usize,
    /// Channels between encoder and quantiser (taming: `z_channels`).
    pub z_channels: usize,
    /// Length of a code (taming: `embed_dim`).
    pub embed_dim: usize,
    /// Number of codes (taming: `n_embed`).
    pub codebook_size: usize,
    /// Groups of every group norm; 32 in all published files, fewer for narrow networks.
    #[serde(default = "published_norm_groups")]
    pub norm_groups: usize,
    /// How a latent becomes an id.
    #[serde(default, skip_serializing_if = "QuantiserKind::is_nearest")]
    pub quantiser: QuantiserKind,
}

/// How a latent becomes an id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuantiserKind {
    /// The code nearest to the latent (taming: `VQModel`, the published one).
    #[default]
    Nearest,
    /// The best of a score that a 1x1 convolution gives every code (taming: `GumbelVQ`).
    Gumbel,
}

impl QuantiserKind {
    fn is_nearest(&self) -> bool {
        *self == Self::Nearest
    }
}

fn published_norm_groups() -> usize {
    32
}

impl VqGanConfig {
    /// Number of levels, full resolution included.
    pub fn levels(&self) -> usize {
        self.channel_multipliers.len()
    }

    /// Pixels per side of one token: 2 to the power of the number of downsamplings.
    pub fn downsampling(&self) -> usize {
        1 << self.levels().saturating_sub(1).min(usize::BITS as usize - 1)
    }

    /// Side of the token grid.
    pub fn grid_side(&self) -> usize {
        self.resolution / self.downsampling()
    }

    /// Number of tokens of one image.
    pub fn positions(&self) -> usize {
        self.grid_side() * self.grid_side()
    }

    /// Channels at a level, 0 being full resolution.
    pub(super) fn level_channels(&self, level: usize) -> usize {
        self.channels * self.channel_multipliers.get(level).copied().unwrap_or(1)
    }

    /// Channels at the coarsest level.
    pub(super) fn inner_channels(&self) -> usize {
        self.level_channels(self.levels().saturating_sub(1))
    }

    /// Whether the blocks of a level are followed by attention.
    pub(super) fn has_attention(&self, level: usize) -> bool {
        self.attention_resolutions.contains(&(self.resolution >> level))
    }

    /// Checks what can be told without tensors.
    ///
    /// # Errors
    /// Names the first field from which no network can be built.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        check_size("channels", self.channels)?;
        check_layers("channel_multipliers", self.levels())?;
        if self.levels() > 12 {
            return Err(InvalidConfig::new("channel_multipliers", "more than 12 levels"));
        }
        check_layers("residual_blocks", self.residual_blocks)?;
        check_size("resolution", self.resolution)?;
        check_divides("resolution", self.resolution, "2^(levels - 1)", self.downsampling())?;
        for (field, channels) in [("in_channels", self.in_channels), ("out_channels", self.out_channels)] {
            if channels != 1 && channels != 3 {
                return Err(InvalidConfig::new(field, format!("{channels} is neither 1 (grey) nor 3 (RGB)")));
            }
        }
        check_size("z_channels", self.z_channels)?;
        check_size("embed_dim", self.embed_dim)?;
        check_codebook("codebook_size", self.codebook_size)?;
        if self.quantiser == QuantiserKind::Gumbel && self.embed_dim != self.z_channels {
            // taming scores codes with z_channels inputs, behind a convolution that gives embed_dim of them.
            let problem = format!("{} must equal z_channels {} in a Gumbel VQ-GAN", self.embed_dim, self.z_channels);
            return Err(InvalidConfig::new("embed_dim", problem));
        }
        for multiplier in &self.channel_multipliers {
            check_size("channel_multipliers", *multiplier)?;
            let channels = self.channels * multiplier;
            check_divides("channels × channel_multipliers", channels, "norm_groups", self.norm_groups)?;
        }
        Ok(())
    }
}
