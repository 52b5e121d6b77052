//! The published decoder, exactly: no norm around attention, one after the feed-forward block.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::layers::LayerNorm;

use super::{
    attention::{AttentionStyle, MultiHeadAttention},
    config::{Activation, PublishedConfig},
    context::{Context, additive_mask},
    dropout::{AttentionDropout, LayerDropout},
    text_norm::normalise_text,
};
use crate::dense::{Dense, DenseInit};

/// PyTorch's default, used in every norm.
const NORM_EPS: f64 = 1e-5;

#[derive(Debug, Clone)]
pub(super) struct Published {
    config: PublishedConfig,
    /// [codebook_size + 1, width]; the last row is the mask's.
    image_embedding: Tensor,
    /// [1, positions, width]
    position: Tensor,
    /// Absent where the text is as wide as the trunk: the published code then passes it on as it is.
    text_projector: Option<Dense>,
    layers: Vec<Layer>,
    final_dense: Dense,
}

#[derive(Debug, Clone)]
struct Layer {
    self_attention: MultiHeadAttention,
    cross_attention: MultiHeadAttention,
    feed_forward: FeedForward,
    layer_norm_3: LayerNorm,
    /// `layer_norm_1` and `layer_norm_2`: in the files, never used. Held so that a bundle keeps them.
    _unused_norms: Option<(LayerNorm, LayerNorm)>,
}

/// Norm, dense layer, gate (or GELU), norm, dense layer; no biases.
#[derive(Debug, Clone)]
struct FeedForward {
    layer_norm_1: LayerNorm,
    linear_1: Dense,
    activation: Activation,
    layer_norm_2: LayerNorm,
    linear_2: Dense,
}

/// Whether a tensor of this name is in the files and never used.
pub(super) fn is_unused(tensor: &str) -> bool {
    let of_a_layer = tensor.strip_prefix("transformer.dec_layers.").and_then(|name| name.split_once('.'));
    of_a_layer.is_some_and(|(_, name)| name.starts_with("layer_norm_1.") || name.starts_with("layer_norm_2."))
}

impl Published {
    pub(super) fn new(config: &PublishedConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: 1.0 };
        let width = config.width;
        let text_projector = if config.text_width == width {
            None
        } else {
            Some(Dense::new((config.text_width, width), true, DenseInit::PyTorch, &vb.pp("text_projector"))?)
        };
        let layers = (0..config.layers)
            .map(|index| Layer::new(config, &vb.pp("transformer.dec_layers").pp(index)))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            image_embedding: vb.pp("image_embedding").get_with_hints(
                (config.codebook_size + 1, width),
                "weight",
                normal,
            )?,
            position: vb.pp("image_pos_emb").get_with_hints((1, config.positions, width), "pos_emb", normal)?,
            text_projector,
            layers,
            final_dense: Dense::new((width, config.codebook_size), true, DenseInit::PyTorch, &vb.pp("final_dense"))?,
            config: config.clone(),
        })
    }

    /// Text states [batch, tokens, text_width], normalised as the configuration says.
    pub(super) fn normalise(&self, features: &Tensor) -> Result<Tensor> {
        normalise_text(features, self.config.text_norm)
    }

    /// Normalised text states [batch, tokens, text_width] to keys and values.
    pub(super) fn context(&self, features: &Tensor, mask: Option<&Tensor>) -> Result<Context> {
        let text = match &self.text_projector {
            Some(projector) => projector.forward(features)?,
            None => features.clone(),
        };
        let layers =
            self.layers.iter().map(|layer| layer.cross_attention.keys_values(&text)).collect::<Result<Vec<_>>>()?;
        let key_mask = match mask {
            Some(mask) if self.config.pad_mask => Some(additive_mask(mask)?),
            _ => None,
        };
        Ok(Context { layers, key_mask })
    }

    /// Ids [batch, positions] to logits [batch, positions, codebook_size].
    pub(super) fn logits(&self, ids: &Tensor, context: &Context, dropout: Option<&AttentionDropout>) -> Result<Tensor> {
        let mut x = raygen_nn::embedding(&self.image_embedding, ids)?.broadcast_add(&self.position)?;
        for (index, (layer, (keys, values))) in self.layers.iter().zip(&context.layers).enumerate() {
            let dropout = LayerDropout::of(dropout, index)?;
            x = layer.forward(&x, keys, values, context.key_mask.as_ref(), &dropout)?;
        }
        self.final_dense.forward(&x)
    }
}

impl Layer {
    fn new(config: &PublishedConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let style = AttentionStyle { qk_norm: false, output_init: DenseInit::PyTorchZeroBias };
        let attention = |name: &str| MultiHeadAttention::new(config.width, config.heads, style, &vb.pp(name).pp("mha"));
        let norm = |name: &str| LayerNorm::new(config.width, NORM_EPS, vb.pp(name));
        let unused_norms =
            if config.unused_attention_norms { Some((norm("layer_norm_1")?, norm("layer_norm_2")?)) } else { None };
        Ok(Self {
            self_attention: attention("mha")?,
            cross_attention: attention("cross_mha")?,
            feed_forward: FeedForward::new(config, &vb.pp("ffn"))?,
            layer_norm_3: norm("layer_norm_3")?,
            _unused_norms: unused_norms,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        key_mask: Option<&Tensor>,
        dropout: &LayerDropout,
    ) -> Result<Tensor> {
        let x = (x + self.self_attention.attend_to_self(x, dropout.to_self())?)?;
        let x = (&x + self.cross_attention.attend(&x, keys, values, key_mask, dropout.to_text())?)?;
        let x = (&x + self.feed_forward.forward(&x)?)?;
        self.layer_norm_3.forward(&x)
    }
}

impl FeedForward {
    fn new(config: &PublishedConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, hidden) = (config.width, config.feed_forward);
        let dense = |sizes, name: &str| Dense::new(sizes, false, DenseInit::PyTorch, &vb.pp(name));
        Ok(Self {
            layer_norm_1: LayerNorm::new(width, NORM_EPS, vb.pp("layer_norm_1"))?,
            linear_1: match config.activation {
                Activation::Geglu => dense((width, 2 * hidden), "linear_1")?,
                Activation::Gelu => dense((width, hidden), "linear_1")?,
            },
            activation: config.activation,
            layer_norm_2: LayerNorm::new(hidden, NORM_EPS, vb.pp("layer_norm_2"))?,
            linear_2: dense((hidden, width), "linear_2")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let inner = self.linear_1.forward(&self.layer_norm_1.forward(x)?)?;
        let inner = match self.activation {
            Activation::Geglu => raygen_nn::geglu(&inner)?,
            Activation::Gelu => raygen_nn::gelu(&inner)?,
        };
        self.linear_2.forward(&self.layer_norm_2.forward(&inner)?)
    }
}
