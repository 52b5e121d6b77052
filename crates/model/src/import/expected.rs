//! Which tensors a network needs: found by building it on a backend that writes down what it is asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};

use super::{Tensors, checkpoint::Checkpoint, error::ImportError};

type Shapes = BTreeMap<String, Vec<usize>>;

#[derive(Clone, Default)]
struct Recorder {
    shapes: Arc<Mutex<Shapes>>,
}

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
        // One number seen as the whole tensor: recording the largest network costs no memory.
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("`{name}` was asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Reads and checks all tensors that the network built by `build` asks for.
pub(super) fn take<T>(
    checkpoint: &Checkpoint,
    build: impl FnOnce(VarBuilder<'static>) -> Result<T>,
) -> std::result::Result<Tensors, ImportError> {
    record(|vb| build(vb).map(drop))
        .map_err(|error| ImportError::unreadable(checkpoint.path(), error.to_string()))?
        .into_iter()
        .map(|(name, shape)| {
            let tensor = checkpoint.tensor(&name, &shape)?;
            Ok((name, tensor))
        })
        .collect()
}

/// Names and shapes that `build` asks for.
pub(super) fn record(build: impl FnOnce(VarBuilder<'static>) -> Result<()>) -> Result<Shapes> {
    let recorder = Recorder::default();
    build(VarBuilder::from_backend(Box::new(recorder.clone()), DType::F32, Device::Cpu))?;
    let shapes = recorder.shapes.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(shapes.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        transformer::{Transformer, TransformerConfig},
        vqgan::{QuantiserKind, VqGan, VqGanConfig},
    };

    /// Tensors and parameters of a network.
    fn count(build: impl FnOnce(VarBuilder<'static>) -> Result<()>) -> Result<(usize, usize)> {
        let shapes = record(build)?;
        Ok((shapes.len(), shapes.values().map(|shape| shape.iter().product::<usize>()).sum()))
    }

    #[test]
    fn the_published_vqgan_has_the_published_tensors() -> Result<()> {
        let config = VqGanConfig {
            channels: 128,
            channel_multipliers: vec![1, 1, 2, 2, 4],
            residual_blocks: 2,
            attention_resolutions: vec![24],
            resolution: 512,
            in_channels: 3,
            out_channels: 3,
            z_channels: 256,
            embed_dim: 256,
            codebook_size: 1024,
            norm_groups: 32,
            quantiser: QuantiserKind::Nearest,
        };
        assert_eq!(count(|vb| VqGan::new(&config, vb).map(drop))?, (293, 66_883_459));
        Ok(())
    }

    #[test]
    fn the_published_transformer_has_the_published_tensors() -> Result<()> {
        let config: TransformerConfig = serde_json::from_value(serde_json::json!({
            "variant": "published", "codebook_size": 1024, "positions": 1024, "width": 1024, "layers": 6, "heads": 8,
            "feed_forward": 4096, "text_width": 768, "max_text_tokens": 256,
        }))
        .map_err(candle_core::Error::wrap)?;
        // Per layer 6 of norms, 8 of attention, 6 of feed-forward; 6 outside.
        assert_eq!(count(|vb| Transformer::new(&config, vb).map(drop))?, (6 * 20 + 6, 129_911_808));
        Ok(())
    }
}
