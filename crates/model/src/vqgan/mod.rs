//! The VQ-GAN: an image becomes a grid of codebook ids, and a grid becomes an image (Esser et al. 2021, taming).
//!
//! Tensor names are those of taming-transformers' `VQModel` and `GumbelVQ`.

mod blocks;
mod config;
mod decoder;
mod encoder;
mod quantiser;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use raygen_nn::layers::Conv2d;

pub(crate) use self::blocks::ResidualBlock;
pub use self::config::{QuantiserKind, VqGanConfig};
use self::{blocks::same_conv, decoder::Decoder, encoder::Encoder, quantiser::Quantiser};

/// Encoder, codebook and decoder.
#[derive(Debug, Clone)]
pub struct VqGan {
    config: VqGanConfig,
    encoder: Encoder,
    quant_conv: Conv2d,
    quantiser: Quantiser,
    post_quant_conv: Conv2d,
    decoder: Decoder,
}

impl VqGan {
    /// Builds the network from named tensors.
    ///
    /// # Errors
    /// A configuration that [`VqGanConfig::validate`] refuses; a tensor that `vb` lacks or has in another shape.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(config: &VqGanConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            encoder: Encoder::new(config, &vb.pp("encoder"))?,
            quant_conv: same_conv(config.z_channels, config.embed_dim, 1, vb.pp("quant_conv"))?,
            quantiser: Quantiser::new(config, &vb.pp("quantize"))?,
            post_quant_conv: same_conv(config.embed_dim, config.z_channels, 1, vb.pp("post_quant_conv"))?,
            decoder: Decoder::new(config, &vb.pp("decoder"))?,
            config: config.clone(),
        })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &VqGanConfig {
        &self.config
    }

    /// The codebook, [codes, embed_dim].
    pub fn codebook(&self) -> &Tensor {
        self.quantiser.codebook()
    }

    /// Images [batch, channels, height, width] in [-1, 1] to what the quantiser sees,
    /// [batch, embed_dim, grid height, grid width]. Differentiable.
    ///
    /// # Errors
    /// Images whose channels differ from the configuration or whose sides are no multiple of the downsampling.
    pub fn latent(&self, images: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = images.dims4()?;
        let step = self.config.downsampling();
        if channels != self.config.in_channels || height == 0 || width == 0 || height % step != 0 || width % step != 0 {
            candle_core::bail!(
                "images have shape {:?}; expected [batch, {}, H, W] with H and W multiples of {step}",
                images.dims(),
                self.config.in_channels,
            );
        }
        self.quant_conv.forward(&self.encoder.forward(images)?)
    }

    /// The code of every place of a latent [batch, embed_dim, h, w]: ids [batch, h, w], u32. It is the nearest one, or in a
    /// Gumbel VQ-GAN the one of the highest score; of equal codes the first. No gradient.
    ///
    /// # Errors
    /// A latent of another shape.
    pub fn nearest(&self, latent: &Tensor) -> Result<Tensor> {
        self.quantiser.ids(latent)
    }

    /// The codes of ids [batch, h, w] (u32), as [batch, embed_dim, h, w]. Differentiable in the codebook.
    ///
    /// # Errors
    /// Ids of another shape, or at or above the codebook size.
    pub fn codes(&self, ids: &Tensor) -> Result<Tensor> {
        self.quantiser.codes(ids)
    }

    /// Codes [batch, embed_dim, h, w] to images [batch, channels, height, width], about [-1, 1] and not clamped.
    /// Differentiable.
    ///
    /// # Errors
    /// A latent of another shape.
    pub fn decode_latent(&self, latent: &Tensor) -> Result<Tensor> {
        self.last_layer(&self.before_last_layer(latent)?)
    }

    /// Codes [batch, embed_dim, h, w] to what the decoder's last convolution reads, [batch, channels, height, width].
    /// Differentiable.
    ///
    /// # Errors
    /// A latent of another shape.
    pub fn before_last_layer(&self, latent: &Tensor) -> Result<Tensor> {
        self.decoder.before_last_layer(&self.post_quant_conv.forward(latent)?)
    }

    /// The decoder's last convolution, from what [`before_last_layer`](Self::before_last_layer) gives to images: what an
    /// adversarial loss is balanced at (Esser et al. 2021, equation 7).
    ///
    /// # Errors
    /// Maps of another number of channels.
    pub fn last_layer(&self, maps: &Tensor) -> Result<Tensor> {
        self.decoder.last_layer(maps)
    }

    /// Images [batch, channels, height, width] in [-1, 1] to ids [batch, h, w], u32.
    ///
    /// # Errors
    /// As [`latent`](Self::latent).
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.nearest(&self.latent(images)?)
    }

    /// Ids [batch, h, w] (u32) to images [batch, channels, height, width], clamped to [-1, 1].
    ///
    /// # Errors
    /// As [`codes`](Self::codes).
    pub fn decode(&self, ids: &Tensor) -> Result<Tensor> {
        self.decode_latent(&self.codes(ids)?)?.clamp(-1f32, 1f32)
    }
}
