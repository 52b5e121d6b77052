//! A tiny bundle with random weights: every network there, nothing slow.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up fails")]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{
    Bundle, BundleConfig, BundleWriter, Component, Components, FORMAT_VERSION, Grid, StoreType, TOKENIZER_FILE,
};
use raygen_model::random::{Purpose, Randomness, standard_normal};
use raygen_model::sampler::SamplingParams;
use raygen_model::text::{TextConfig, TextTokenizer};
use raygen_model::text_encoder::TextEncoderConfig;
use raygen_model::transformer::{RaygenConfig, TransformerConfig};
use raygen_model::vqgan::{QuantiserKind, VqGanConfig};

pub(crate) const CODEBOOK: usize = 24;
pub(crate) const SIDE: usize = 32;
pub(crate) const GRID: usize = 8;

const CAPTIONS: [&str; 3] = ["no acute disease", "pleural effusion", "right pneumothorax and small nodule"];

/// `channels` of the VQ-GAN's pictures: 1 or 3.
pub(crate) fn config(channels: usize) -> BundleConfig {
    let text = TextConfig {
        known_words: CAPTIONS.map(String::from).to_vec(),
        supported_terms: vec!["pleural effusion".to_owned()],
        condition_dropout: true,
        ..TextConfig::plain(32)
    };
    let vocabulary = tokenizer(&text).vocabulary_size();
    BundleConfig {
        format_version: FORMAT_VERSION,
        components: Components {
            vqgan: Some(VqGanConfig {
                channels: 8,
                channel_multipliers: vec![1, 1, 2],
                residual_blocks: 1,
                attention_resolutions: Vec::new(),
                resolution: SIDE,
                in_channels: channels,
                out_channels: channels,
                z_channels: 8,
                embed_dim: 6,
                codebook_size: CODEBOOK,
                norm_groups: 4,
                quantiser: QuantiserKind::Nearest,
            }),
            transformer: Some(TransformerConfig::Raygen(RaygenConfig {
                codebook_size: CODEBOOK,
                positions: GRID * GRID,
                grid_side: GRID,
                token_merge: 2,
                token_width: 8,
                local_blocks: 1,
                width: 16,
                layers: 2,
                heads: 2,
                feed_forward: 24,
                text_width: 12,
                max_text_tokens: 32,
                pad_mask: true,
                views: None,
            })),
            text_encoder: Some(encoder(vocabulary)),
            classifier: None,
        },
        image_size: SIDE,
        grid: Grid { height: GRID, width: GRID },
        sampling: SamplingParams { step_count: 4, ..SamplingParams::default() },
        text,
        provenance: BTreeMap::from([("licence".to_owned(), serde_json::json!("CC0-1.0"))]),
    }
}

fn encoder(vocab_size: usize) -> TextEncoderConfig {
    let json = serde_json::json!({
        "vocab_size": vocab_size, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 24, "max_position_embeddings": 32,
    });
    serde_json::from_value(json).unwrap()
}

pub(crate) fn tokenizer(text: &TextConfig) -> TextTokenizer {
    TextTokenizer::from_words(CAPTIONS, text).unwrap()
}

/// Random tensors of a component: small weights, so that nothing overflows.
pub(crate) fn tensors(config: &BundleConfig, component: Component) -> BTreeMap<String, Tensor> {
    let expected = raygen_model::bundle::expected_tensors(config, component).unwrap().unwrap();
    let randomness = Randomness::new(5, Purpose::Initialise);
    expected
        .into_iter()
        .enumerate()
        .map(|(index, (name, shape))| {
            let mut generator = randomness.stream(index as u64, 0);
            let values: Vec<f32> =
                (0..shape.iter().product::<usize>()).map(|_| 0.3 * standard_normal(&mut generator)).collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect()
}

/// Writes the bundle of a configuration; `change` may spoil a component's tensors first.
pub(crate) fn write_with(
    target: &Path,
    config: &BundleConfig,
    change: impl Fn(Component, &mut BTreeMap<String, Tensor>),
) -> String {
    let mut writer = BundleWriter::create(target).unwrap();
    writer.write_config(config).unwrap();
    for component in config.components.present() {
        let mut tensors = tensors(config, component);
        change(component, &mut tensors);
        writer.write_tensors(component, &tensors, StoreType::F32).unwrap();
    }
    writer.write_file(TOKENIZER_FILE, tokenizer(&config.text).to_json().unwrap().as_bytes()).unwrap();
    writer.write_file("README.md", b"A tiny model with random weights.\n").unwrap();
    writer.finish().unwrap()
}

pub(crate) fn write(target: &Path, config: &BundleConfig) -> String {
    write_with(target, config, |_, _| ())
}

pub(crate) fn all_tensors(bundle: &Bundle) -> Result<(), raygen_model::bundle::BundleError> {
    for component in bundle.config().components.present() {
        bundle.tensors(component, &Device::Cpu, DType::F32)?;
    }
    Ok(())
}
