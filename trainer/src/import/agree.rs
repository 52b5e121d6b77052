//! Whether parts belong together, as far as their sizes tell.

use std::path::PathBuf;

use raygen_model::import::TextEncoderFolder;

use super::{ImportFailure, PUBLISHED_SIDES, Parts, Sources};

/// Checks every two parts that have a size in common.
pub(super) fn check(
    sources: &Sources,
    parts: &Parts,
    text_folder: Option<&TextEncoderFolder>,
    max_text_tokens: usize,
) -> Result<(), ImportFailure> {
    let nowhere = PathBuf::new();
    let transformer_path = sources.transformer.as_ref().unwrap_or(&nowhere);
    let project = sources.vqgan.as_ref().map_or(&nowhere, |(_, project)| project);
    if let (Some(transformer), Some(vqgan)) = (&parts.transformer, &parts.vqgan) {
        let codes = transformer.config.codebook_size();
        if codes != vqgan.config.codebook_size {
            let problem = format!(
                "the transformer's `image_embedding.weight` has rows for {codes} codes and the mask, the VQ-GAN has \
                 n_embed {}",
                vqgan.config.codebook_size
            );
            return Err(ImportFailure::disagreement(transformer_path, project, problem));
        }
        let positions = transformer.config.positions();
        if positions != vqgan.config.positions() {
            let side = vqgan.config.grid_side();
            let problem = format!(
                "the transformer's `image_pos_emb.pos_emb` has {positions} positions, the VQ-GAN's grid is {side} x {side}, \
                 which is {} tokens",
                vqgan.config.positions()
            );
            return Err(ImportFailure::disagreement(transformer_path, project, problem));
        }
    }
    let Some(encoder) = text_folder else { return Ok(()) };
    let encoder_config = &encoder.config_path;
    if let Some(transformer) = &parts.transformer {
        let width = transformer.config.text_width();
        if width != encoder.config.hidden_size {
            let problem = format!(
                "the transformer's `text_projector.weight` reads states of width {width}, the text encoder has hidden_size \
                 {}",
                encoder.config.hidden_size
            );
            return Err(ImportFailure::disagreement(transformer_path, encoder_config, problem));
        }
    }
    let most = encoder.config.max_position_embeddings;
    if max_text_tokens > most {
        let problem = format!("max_position_embeddings is {most}; --text-max-length {max_text_tokens} is more");
        return Err(ImportFailure::given(encoder_config, problem));
    }
    Ok(())
}

/// Side of a grid of so many positions, and of its picture at the published 16 pixels a token.
pub(super) fn square(sources: &Sources, positions: usize) -> Result<(usize, usize), ImportFailure> {
    let side = positions.isqrt();
    if side * side == positions {
        return Ok((side, side.saturating_mul(PUBLISHED_SIDES.1 / PUBLISHED_SIDES.0)));
    }
    let path = sources.transformer.clone().unwrap_or_default();
    Err(ImportFailure::given(
        &path,
        format!("`image_pos_emb.pos_emb` has {positions} positions, which make no square grid"),
    ))
}
