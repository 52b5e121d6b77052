//! Convolutions over the grid of tokens, beside the trunk: what lies next to each other should fit together.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::vqgan::ResidualBlock;

/// Groups of the norms.
pub(super) const GROUPS: usize = 8;

/// Residual blocks over [batch, token_width, side, side].
#[derive(Debug, Clone)]
pub(super) struct LocalBlocks {
    side: usize,
    blocks: Vec<ResidualBlock>,
}

impl LocalBlocks {
    /// `count` blocks, the first under the name `0`; with 0 the tokens go through unchanged.
    pub(super) fn new(count: usize, side: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let blocks = (0..count)
            .map(|index| ResidualBlock::new(GROUPS, width, width, &vb.pp(index)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { side, blocks })
    }

    /// Tokens [batch, side * side, width], row by row, to the same shape.
    pub(super) fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        if self.blocks.is_empty() {
            return Ok(tokens.clone());
        }
        let (batch, positions, width) = tokens.dims3()?;
        let mut map = tokens.transpose(1, 2)?.contiguous()?.reshape((batch, width, self.side, self.side))?;
        for block in &self.blocks {
            map = block.forward(&map)?;
        }
        map.reshape((batch, width, positions))?.transpose(1, 2)?.contiguous()
    }
}
