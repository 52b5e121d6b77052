//! Our decoder: pre-norm, QK-norm, padding mask, and a trunk that may run on blocks of 2 by 2 tokens.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use raygen_nn::layers::LayerNorm;

use super::{
    attention::{AttentionStyle, MultiHeadAttention},
    config::RaygenConfig,
    context::{Context, additive_mask},
    dropout::{AttentionDropout, LayerDropout},
    local::LocalBlocks,
    merge::TokenMerge,
    view::View,
};
use crate::dense::{Dense, DenseInit};

const NORM_EPS: f64 = 1e-5;
/// Standard deviation of fresh embeddings, positions and the head.
pub(super) const EMBEDDING_STD: f64 = 0.02;

#[derive(Debug, Clone)]
pub(super) struct Raygen {
    pad_mask: bool,
    /// [codebook_size + 1, token_width]; the last row is the mask's.
    image_embedding: Tensor,
    /// [1, positions, token_width]
    position: Tensor,
    local_in: LocalBlocks,
    merge: Option<TokenMerge>,
    text_norm: LayerNorm,
    text_projector: Dense,
    views: Option<ViewTable>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    local_out: LocalBlocks,
    final_dense: Dense,
}

/// One vector for each view.
#[derive(Debug, Clone)]
struct ViewTable {
    /// [views, width], views in the order of [`View::ALL`]
    embedding: Tensor,
    default: View,
}

#[derive(Debug, Clone)]
struct Layer {
    layer_norm_1: LayerNorm,
    self_attention: MultiHeadAttention,
    layer_norm_2: LayerNorm,
    cross_attention: MultiHeadAttention,
    layer_norm_3: LayerNorm,
    linear_1: Dense,
    linear_2: Dense,
}

impl Raygen {
    pub(super) fn new(config: &RaygenConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let normal = Init::Randn { mean: 0.0, stdev: EMBEDDING_STD };
        let transformer = vb.pp("transformer");
        let layers = (0..config.layers)
            .map(|index| Layer::new(config, &transformer.pp("dec_layers").pp(index)))
            .collect::<Result<Vec<_>>>()?;
        let (token_width, codes) = (config.token_width, config.codebook_size);
        let local = |name: &str| LocalBlocks::new(config.local_blocks, config.grid_side, token_width, &vb.pp(name));
        Ok(Self {
            pad_mask: config.pad_mask,
            image_embedding: vb.pp("image_embedding").get_with_hints((codes + 1, token_width), "weight", normal)?,
            position: vb.pp("image_pos_emb").get_with_hints((1, config.positions, token_width), "pos_emb", normal)?,
            local_in: local("local_in")?,
            merge: if config.token_merge == 2 { Some(TokenMerge::new(config, vb)?) } else { None },
            text_norm: LayerNorm::new(config.text_width, NORM_EPS, vb.pp("text_norm"))?,
            text_projector: Dense::new(
                (config.text_width, config.width),
                true,
                DenseInit::Xavier,
                &vb.pp("text_projector"),
            )?,
            views: match &config.views {
                Some(views) => Some(ViewTable {
                    embedding: vb.pp("view_embedding").get_with_hints(
                        (View::ALL.len(), config.width),
                        "weight",
                        normal,
                    )?,
                    default: views.default,
                }),
                None => None,
            },
            layers,
            norm: LayerNorm::new(config.width, NORM_EPS, transformer.pp("norm"))?,
            local_out: local("local_out")?,
            final_dense: Dense::new(
                (token_width, codes),
                true,
                DenseInit::Normal(EMBEDDING_STD),
                &vb.pp("final_dense"),
            )?,
        })
    }

    /// Text states [batch, tokens, text_width] to keys and values; of the default view, where the model knows views.
    pub(super) fn context(&self, features: &Tensor, mask: Option<&Tensor>) -> Result<Context> {
        self.context_of_views(features, mask, &vec![None; features.dim(0)?])
    }

    /// The same, each text with its view; without one, the default. A model that knows none passes over them.
    pub(super) fn context_of_views(
        &self,
        features: &Tensor,
        mask: Option<&Tensor>,
        views: &[Option<View>],
    ) -> Result<Context> {
        let text = self.text_projector.forward(&self.text_norm.forward(features)?)?;
        let (text, mask) = match &self.views {
            Some(table) => table.before(&text, mask, views)?,
            None => (text, mask.cloned()),
        };
        let layers =
            self.layers.iter().map(|layer| layer.cross_attention.keys_values(&text)).collect::<Result<Vec<_>>>()?;
        let key_mask = match &mask {
            Some(mask) if self.pad_mask => Some(additive_mask(mask)?),
            _ => None,
        };
        Ok(Context { layers, key_mask })
    }

    /// Ids [batch, positions] to logits [batch, positions, codebook_size].
    pub(super) fn logits(&self, ids: &Tensor, context: &Context, dropout: Option<&AttentionDropout>) -> Result<Tensor> {
        let tokens = raygen_nn::embedding(&self.image_embedding, ids)?.broadcast_add(&self.position)?;
        let tokens = self.local_in.forward(&tokens)?;
        let mut x = match &self.merge {
            Some(merge) => merge.merge(&tokens)?,
            None => tokens.clone(),
        };
        for (index, (layer, (keys, values))) in self.layers.iter().zip(&context.layers).enumerate() {
            let dropout = LayerDropout::of(dropout, index)?;
            x = layer.forward(&x, keys, values, context.key_mask.as_ref(), &dropout)?;
        }
        let x = self.norm.forward(&x)?;
        let x = match &self.merge {
            Some(merge) => merge.split(&x, &tokens, &self.local_out)?,
            None => self.local_out.forward(&x)?,
        };
        self.final_dense.forward(&x)
    }
}

impl ViewTable {
    /// Texts [batch, tokens, width] with their views before them, and the mask that goes with it.
    fn before(&self, text: &Tensor, mask: Option<&Tensor>, views: &[Option<View>]) -> Result<(Tensor, Option<Tensor>)> {
        let rows: Vec<u32> = views.iter().map(|view| view.unwrap_or(self.default).index()).collect();
        let rows = Tensor::from_vec(rows, (views.len(), 1), text.device())?;
        let text = Tensor::cat(&[&raygen_nn::embedding(&self.embedding, &rows)?, text], 1)?;
        let mask = match mask {
            Some(mask) => Some(Tensor::cat(&[&mask.narrow(1, 0, 1)?.ones_like()?, mask], 1)?),
            None => None,
        };
        Ok((text, mask))
    }
}

impl Layer {
    fn new(config: &RaygenConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let width = config.width;
        // Small enough that a fresh network starts near the identity, whatever its depth.
        let output_init = DenseInit::Normal(EMBEDDING_STD / ((2 * config.layers) as f64).sqrt());
        let style = AttentionStyle { qk_norm: true, output_init };
        let attention = |name: &str| MultiHeadAttention::new(width, config.heads, style, &vb.pp(name).pp("mha"));
        let norm = |name: &str| LayerNorm::new(width, NORM_EPS, vb.pp(name));
        let feed_forward = vb.pp("ffn");
        Ok(Self {
            layer_norm_1: norm("layer_norm_1")?,
            self_attention: attention("mha")?,
            layer_norm_2: norm("layer_norm_2")?,
            cross_attention: attention("cross_mha")?,
            layer_norm_3: norm("layer_norm_3")?,
            linear_1: Dense::new(
                (width, 2 * config.feed_forward),
                false,
                DenseInit::Xavier,
                &feed_forward.pp("linear_1"),
            )?,
            linear_2: Dense::new((config.feed_forward, width), false, output_init, &feed_forward.pp("linear_2"))?,
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
        let x = (x + self.self_attention.attend_to_self(&self.layer_norm_1.forward(x)?, dropout.to_self())?)?;
        let normed = self.layer_norm_2.forward(&x)?;
        let x = (&x + self.cross_attention.attend(&normed, keys, values, key_mask, dropout.to_text())?)?;
        let gated = raygen_nn::geglu(&self.linear_1.forward(&self.layer_norm_3.forward(&x)?)?)?;
        x + self.linear_2.forward(&gated)?
    }
}
