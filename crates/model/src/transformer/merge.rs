//! Blocks of 2 by 2 tokens as one trunk position, and back: a trunk that is four times shorter.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::LayerNorm;

use super::{config::RaygenConfig, local::LocalBlocks};
use crate::dense::{Dense, DenseInit};

const SIDE: usize = 2;
const TOKENS: usize = SIDE * SIDE;
const NORM_EPS: f64 = 1e-5;

/// The way into the trunk and out of it.
#[derive(Debug, Clone)]
pub(super) struct TokenMerge {
    blocks_per_side: usize,
    token_width: usize,
    merge: Dense,
    split: Dense,
    /// After the split tokens were added to those that went in.
    norm: LayerNorm,
}

impl TokenMerge {
    pub(super) fn new(config: &RaygenConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let block_width = TOKENS * config.token_width;
        Ok(Self {
            blocks_per_side: config.grid_side / SIDE,
            token_width: config.token_width,
            merge: Dense::new((block_width, config.width), true, DenseInit::Xavier, &vb.pp("token_merge"))?,
            split: Dense::new((config.width, block_width), true, DenseInit::Xavier, &vb.pp("token_split"))?,
            norm: LayerNorm::new(config.token_width, NORM_EPS, vb.pp("token_norm"))?,
        })
    }

    /// Token embeddings [batch, n, token_width] to trunk positions [batch, n / 4, width].
    pub(super) fn merge(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, blocks, width) = (tokens.dim(0)?, self.blocks_per_side, self.token_width);
        let tokens = tokens
            .reshape(vec![batch, blocks, SIDE, blocks, SIDE, width])?
            .permute(vec![0, 1, 3, 2, 4, 5])?
            .contiguous()?
            .reshape((batch, blocks * blocks, TOKENS * width))?;
        self.merge.forward(&tokens)
    }

    /// Trunk positions [batch, n / 4, width] and the tokens that went in to tokens [batch, n, token_width], which go
    /// through `local` before the norm.
    pub(super) fn split(&self, trunk: &Tensor, tokens: &Tensor, local: &LocalBlocks) -> Result<Tensor> {
        let (batch, blocks, width) = (trunk.dim(0)?, self.blocks_per_side, self.token_width);
        let split = self
            .split
            .forward(trunk)?
            .reshape(vec![batch, blocks, blocks, SIDE, SIDE, width])?
            .permute(vec![0, 1, 3, 2, 4, 5])?
            .contiguous()?
            .reshape((batch, blocks * blocks * TOKENS, width))?;
        self.norm.forward(&local.forward(&(split + tokens)?)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    /// A grid of 4 by 4 tokens of width 2; all weights are the identity.
    fn identity() -> Result<TokenMerge> {
        let config = RaygenConfig {
            codebook_size: 4,
            positions: 16,
            grid_side: 4,
            token_merge: 2,
            token_width: 2,
            local_blocks: 0,
            width: 8,
            layers: 1,
            heads: 1,
            feed_forward: 8,
            text_width: 8,
            max_text_tokens: 4,
            pad_mask: true,
            views: None,
        };
        let eye = Tensor::eye(8, DType::F32, &Device::Cpu)?;
        let zeros = |size: usize| Tensor::zeros(size, DType::F32, &Device::Cpu);
        let tensors = [
            ("token_merge.weight", eye.clone()),
            ("token_merge.bias", zeros(8)?),
            ("token_split.weight", eye),
            ("token_split.bias", zeros(8)?),
            ("token_norm.weight", zeros(2)?.ones_like()?),
            ("token_norm.bias", zeros(2)?),
        ];
        let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        TokenMerge::new(&config, &VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
    }

    /// Two grids whose tokens all differ.
    fn tokens() -> Result<Tensor> {
        let values: Vec<f32> =
            (0..64).map(|place| (place as f32).sqrt() * if place % 2 == 0 { 1.0 } else { -1.0 }).collect();
        Tensor::from_vec(values, (2, 16, 2), &Device::Cpu)
    }

    #[test]
    fn a_block_is_two_tokens_of_a_row_and_the_two_below() -> Result<()> {
        let tokens = tokens()?;
        let merged = identity()?.merge(&tokens)?.to_vec3::<f32>()?;
        let tokens = tokens.to_vec3::<f32>()?;
        for (block, members) in [(0, [0, 1, 4, 5]), (1, [2, 3, 6, 7]), (3, [10, 11, 14, 15])] {
            let expected: Vec<f32> = members.into_iter().flat_map(|token| tokens[1][token].clone()).collect();
            assert_eq!(merged[1][block], expected);
        }
        Ok(())
    }

    #[test]
    fn splitting_puts_every_token_back_in_its_place() -> Result<()> {
        let (merge, tokens) = (identity()?, tokens()?);
        let none = LocalBlocks::new(0, 4, 2, &VarBuilder::zeros(DType::F32, &Device::Cpu))?;
        let back = merge.split(&merge.merge(&tokens)?, &tokens.zeros_like()?, &none)?;
        let expected = merge.norm.forward(&tokens)?;
        assert_eq!(back.to_vec3::<f32>()?, expected.to_vec3::<f32>()?);
        Ok(())
    }
}
