//! The masked transformer: fills the masked ids of a token grid, given the states of a text.
//!
//! Two variants share tensor names and attention: [`published`] is exact, [`raygen`] is what we train.

mod attention;
mod config;
mod context;
mod dropout;
mod initialise;
mod local;
mod merge;
mod published;
mod raygen;
mod text_norm;
mod view;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

pub(crate) use self::context::additive_mask;
pub use self::{
    config::{Activation, PublishedConfig, RaygenConfig, TextNorm, TransformerConfig},
    context::Context,
    dropout::AttentionDropout,
    initialise::initialise_from_codebook,
    text_norm::normalise_text,
    view::{View, Views},
};
use self::{published::Published, raygen::Raygen};

/// A masked transformer of either variant.
#[derive(Debug, Clone)]
pub struct Transformer {
    config: TransformerConfig,
    network: Network,
}

#[derive(Debug, Clone)]
enum Network {
    Published(Published),
    Raygen(Raygen),
}

impl Transformer {
    /// Builds the network from named tensors.
    ///
    /// # Errors
    /// A configuration that [`TransformerConfig::validate`] refuses; a tensor that `vb` lacks or has in another shape.
    #[expect(clippy::needless_pass_by_value, reason = "as every candle network takes its builder")]
    pub fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Result<Self> {
        config.validate()?;
        let network = match config {
            TransformerConfig::Published(config) => Network::Published(Published::new(config, &vb)?),
            TransformerConfig::Raygen(config) => Network::Raygen(Raygen::new(config, &vb)?),
        };
        Ok(Self { config: config.clone(), network })
    }

    /// The configuration that the network was built from.
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// The condition that a text becomes, computed once per text: `features` [batch, tokens, text_width] as the text
    /// encoder gave them, `mask` [batch, tokens] with 1 for a word piece and 0 for a pad.
    ///
    /// # Errors
    /// Features of another width, more tokens than the model reads, or a mask of another shape.
    pub fn context(&self, features: &Tensor, mask: &Tensor) -> Result<Context> {
        self.check_features(features, Some(mask))?;
        match &self.network {
            Network::Published(network) => network.context(&network.normalise(features)?, Some(mask)),
            Network::Raygen(network) => network.context(features, Some(mask)),
        }
    }

    /// As [`context`](Self::context), for features that were normalised already (published variant; the raygen variant's
    /// normalisation is part of its network and runs all the same). Without a mask every token counts.
    ///
    /// # Errors
    /// As [`context`](Self::context).
    pub fn context_from_normalised(&self, features: &Tensor, mask: Option<&Tensor>) -> Result<Context> {
        self.check_features(features, mask)?;
        match &self.network {
            Network::Published(network) => network.context(features, mask),
            Network::Raygen(network) => network.context(features, mask),
        }
    }

    /// As [`context`](Self::context), each text with the view that its picture shall have; where none is named, the model's
    /// default. With a model that knows no views, none may be named.
    ///
    /// # Errors
    /// As [`context`](Self::context); another number of views than of texts.
    pub fn context_of_views(&self, features: &Tensor, mask: &Tensor, views: &[Option<View>]) -> Result<Context> {
        self.check_features(features, Some(mask))?;
        if views.len() != features.dim(0)? {
            candle_core::bail!("{} views came for {} texts", views.len(), features.dim(0)?);
        }
        match &self.network {
            Network::Raygen(network) if self.config.views().is_some() => {
                network.context_of_views(features, Some(mask), views)
            }
            _ if views.iter().all(Option::is_none) => self.context(features, mask),
            _ => candle_core::bail!("a view was named to a transformer that knows none"),
        }
    }

    /// What the network makes of grids under conditions: `ids` [batch, positions] (u32, the mask id is the codebook
    /// size) to logits [batch, positions, codebook_size].
    ///
    /// # Errors
    /// Ids of another shape or above the mask id; a context of another batch size.
    pub fn logits(&self, ids: &Tensor, context: &Context) -> Result<Tensor> {
        self.forward(ids, context, None)
    }

    /// As [`logits`](Self::logits), in training: attention probabilities fall out, in self- and in cross-attention of every
    /// layer, as the published code has it.
    ///
    /// # Errors
    /// As [`logits`](Self::logits); dropout of another number of grids.
    pub fn logits_in_training(&self, ids: &Tensor, context: &Context, dropout: &AttentionDropout) -> Result<Tensor> {
        self.forward(ids, context, Some(dropout))
    }

    fn forward(&self, ids: &Tensor, context: &Context, dropout: Option<&AttentionDropout>) -> Result<Tensor> {
        let (batch, positions) = ids.dims2()?;
        if positions != self.config.positions() {
            candle_core::bail!(
                "a grid of {positions} tokens went in; the transformer has {} positions",
                self.config.positions()
            );
        }
        context.check(batch, self.config.layers())?;
        match &self.network {
            Network::Published(network) => network.logits(ids, context, dropout),
            Network::Raygen(network) => network.logits(ids, context, dropout),
        }
    }

    fn check_features(&self, features: &Tensor, mask: Option<&Tensor>) -> Result<()> {
        let (batch, tokens, width) = features.dims3()?;
        let (expected, most) = (self.config.text_width(), self.config.max_text_tokens());
        if width != expected || tokens == 0 || tokens > most {
            candle_core::bail!(
                "text features have shape {:?}; expected [batch, 1 to {most} tokens, {expected}]",
                features.dims()
            );
        }
        if let Some(mask) = mask
            && mask.dims() != [batch, tokens]
        {
            candle_core::bail!("the text mask has shape {:?}; expected {:?}", mask.dims(), [batch, tokens]);
        }
        Ok(())
    }
}
