//! The codebook: from a latent to an id, and from an id to its code.

use candle_core::{D, DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::layers::Conv2d;

use super::blocks::same_conv;
use super::config::{QuantiserKind, VqGanConfig};

#[derive(Debug, Clone)]
pub(super) struct Quantiser {
    /// [codes, embed_dim]
    codebook: Tensor,
    /// Scores of the codes, in a Gumbel VQ-GAN.
    scores: Option<Conv2d>,
}

impl Quantiser {
    pub(super) fn new(config: &VqGanConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let bound = 1.0 / config.codebook_size as f64;
        let (name, scores) = match config.quantiser {
            QuantiserKind::Nearest => ("embedding", None),
            QuantiserKind::Gumbel => {
                ("embed", Some(same_conv(config.z_channels, config.codebook_size, 1, vb.pp("proj"))?))
            }
        };
        let codebook = vb.pp(name).get_with_hints(
            (config.codebook_size, config.embed_dim),
            "weight",
            Init::Uniform { lo: -bound, up: bound },
        )?;
        Ok(Self { codebook, scores })
    }

    pub(super) fn codebook(&self) -> &Tensor {
        &self.codebook
    }

    /// [batch, embed_dim, h, w] to ids [batch, h, w].
    pub(super) fn ids(&self, latent: &Tensor) -> Result<Tensor> {
        match &self.scores {
            // taming draws Gumbel noise here even when it only encodes; without it the same picture has the same ids.
            Some(scores) => scores.forward(&latent.detach())?.to_dtype(DType::F32)?.argmax(1),
            None => self.nearest(latent),
        }
    }

    fn nearest(&self, latent: &Tensor) -> Result<Tensor> {
        let (batch, width, height, length) = latent.dims4()?;
        // Distances need full precision: codes that a half-width float can't tell apart would tie.
        let z = latent.detach().to_dtype(DType::F32)?.reshape((batch, width, height * length))?;
        let z = z.transpose(1, 2)?.contiguous()?;
        let codes = self.codebook.detach().to_dtype(DType::F32)?;
        // |z - e|² = |z|² - 2 z·e + |e|². The products are one matrix product per image, whatever the batch.
        let products = raygen_nn::linear(&z, &codes, None)?;
        let z_norms = z.sqr()?.sum_keepdim(D::Minus1)?;
        let code_norms = codes.sqr()?.sum_keepdim(D::Minus1)?.reshape((1, 1, ()))?;
        let distances = z_norms.broadcast_add(&code_norms)?.sub(&(products * 2.0)?)?;
        distances.argmin(D::Minus1)?.reshape((batch, height, length))
    }

    /// Ids [batch, h, w] to codes [batch, embed_dim, h, w].
    pub(super) fn codes(&self, ids: &Tensor) -> Result<Tensor> {
        ids.dims3()?;
        raygen_nn::embedding(&self.codebook, ids)?.permute((0, 3, 1, 2))?.contiguous()
    }
}
