//! What callers rely on beyond golden values: rows that ignore their neighbours and pads, and errors in place of panics.

use std::error::Error;

use candle_core::{DType, Device, Tensor};
use raygen_model::{
    text_encoder::{TextEncoder, TextEncoderConfig},
    transformer::{Context, RaygenConfig, Transformer, TransformerConfig, initialise_from_codebook},
    vqgan::{QuantiserKind, VqGan, VqGanConfig},
};
use raygen_nn::Parameters;

type TestResult = Result<(), Box<dyn Error>>;

fn parameters() -> Parameters {
    Parameters::initialised(3, &Device::Cpu)
}

fn vqgan_config() -> VqGanConfig {
    VqGanConfig {
        channels: 8,
        channel_multipliers: vec![1, 2],
        residual_blocks: 1,
        attention_resolutions: vec![24],
        resolution: 16,
        in_channels: 1,
        out_channels: 1,
        z_channels: 8,
        embed_dim: 6,
        codebook_size: 20,
        norm_groups: 8,
        quantiser: QuantiserKind::Nearest,
    }
}

fn raygen_config() -> RaygenConfig {
    RaygenConfig {
        codebook_size: 20,
        positions: 64,
        grid_side: 8,
        token_merge: 2,
        token_width: 8,
        local_blocks: 1,
        width: 16,
        layers: 2,
        heads: 2,
        feed_forward: 24,
        text_width: 12,
        max_text_tokens: 8,
        pad_mask: true,
        views: None,
    }
}

fn text_config() -> Result<TextEncoderConfig, Box<dyn Error>> {
    Ok(serde_json::from_value(serde_json::json!({
        "vocab_size": 30, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 20, "max_position_embeddings": 8,
    }))?)
}

/// Numbers between -1 and 1 that differ from place to place.
fn wave(dims: &[usize]) -> candle_core::Result<Tensor> {
    let count: usize = dims.iter().product();
    Tensor::from_vec((0..count).map(|place| (place as f32 * 0.77).sin()).collect(), dims, &Device::Cpu)
}

fn some_ids(dims: &[usize], below: u32) -> candle_core::Result<Tensor> {
    let count: usize = dims.iter().product();
    Tensor::from_vec((0..count as u32).map(|place| place * 7 % below).collect(), dims, &Device::Cpu)
}

fn bits(tensor: &Tensor) -> Result<Vec<u32>, Box<dyn Error>> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// Asserts that every row of `f(batch)` has the bits of `f(row)`.
fn assert_rows_independent(x: &Tensor, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> TestResult {
    let together = f(x)?;
    for row in 0..x.dim(0)? {
        let alone = f(&x.narrow(0, row, 1)?)?;
        assert!(bits(&alone)? == bits(&together.narrow(0, row, 1)?)?, "row {row} depends on its neighbours");
    }
    Ok(())
}

#[test]
fn images_are_coded_and_decoded_with_the_same_bits_in_any_batch() -> TestResult {
    let vqgan = VqGan::new(&vqgan_config(), parameters().builder(DType::F32))?;
    assert_rows_independent(&wave(&[5, 1, 16, 16])?, |images| vqgan.latent(images))?;
    assert_rows_independent(&some_ids(&[5, 8, 8], 20)?, |ids| vqgan.decode(ids))
}

#[test]
fn texts_are_encoded_with_the_same_bits_in_any_batch() -> TestResult {
    let encoder = TextEncoder::new(&text_config()?, parameters().builder(DType::F32))?;
    let mask = Tensor::new(&[1f32, 1.0, 1.0, 1.0, 0.0], &Device::Cpu)?;
    assert_rows_independent(&some_ids(&[4, 5], 30)?, |ids| {
        encoder.forward(ids, &mask.broadcast_as(ids.shape())?.contiguous()?)
    })
}

#[test]
fn raygen_logits_have_the_same_bits_in_any_batch() -> TestResult {
    let config = TransformerConfig::Raygen(raygen_config());
    let transformer = Transformer::new(&config, parameters().builder(DType::F32))?;
    let mask = Tensor::new(&[[1f32, 1.0, 0.0]], &Device::Cpu)?;
    let features = wave(&[3, 3, 12])?;
    let contexts = (0..3)
        .map(|row| transformer.context(&features.narrow(0, row, 1)?, &mask))
        .collect::<candle_core::Result<Vec<_>>>()?;
    let grid = some_ids(&[3, 64], 21)?;
    let together = transformer.logits(&grid, &Context::stack(&contexts.iter().collect::<Vec<_>>())?)?;
    for (row, context) in contexts.iter().enumerate() {
        let alone = transformer.logits(&grid.narrow(0, row, 1)?, context)?;
        assert!(bits(&alone)? == bits(&together.narrow(0, row, 1)?)?, "row {row} depends on its neighbours");
    }
    Ok(())
}

#[test]
fn what_stands_at_a_texts_pads_has_no_effect_on_raygen_logits() -> TestResult {
    let config = TransformerConfig::Raygen(raygen_config());
    let transformer = Transformer::new(&config, parameters().builder(DType::F32))?;
    let mask = Tensor::new(&[[1f32, 1.0, 0.0, 0.0]], &Device::Cpu)?;
    let grid = some_ids(&[1, 64], 21)?;
    let words = wave(&[1, 2, 12])?;
    let logits = |pads: Tensor| -> Result<Vec<u32>, Box<dyn Error>> {
        let features = Tensor::cat(&[&words, &pads], 1)?;
        bits(&transformer.logits(&grid, &transformer.context(&features, &mask)?)?)
    };
    assert!(logits(wave(&[1, 2, 12])?)? == logits((wave(&[1, 2, 12])? * 3.0)?.sin()?)?);
    let other_words = transformer.context(&wave(&[1, 4, 12])?.neg()?, &mask)?;
    assert!(
        logits(wave(&[1, 2, 12])?)? != bits(&transformer.logits(&grid, &other_words)?)?,
        "the words have no effect"
    );
    Ok(())
}

#[test]
fn wrong_shapes_and_ids_are_errors() -> TestResult {
    let vqgan = VqGan::new(&vqgan_config(), parameters().builder(DType::F32))?;
    for dims in [[1, 3, 16, 16], [1, 1, 15, 16], [1, 1, 0, 16]] {
        assert!(vqgan.latent(&Tensor::zeros(&dims, DType::F32, &Device::Cpu)?).is_err(), "{dims:?}");
    }
    assert!(vqgan.decode_latent(&wave(&[1, 5, 8, 8])?).is_err());
    assert!(vqgan.decode(&Tensor::full(20u32, (1, 8, 8), &Device::Cpu)?).is_err(), "id above the codebook");

    let transformer = Transformer::new(&TransformerConfig::Raygen(raygen_config()), parameters().builder(DType::F32))?;
    let ones = |tokens| Tensor::ones((1, tokens), DType::F32, &Device::Cpu);
    assert!(transformer.context(&wave(&[1, 2, 11])?, &ones(2)?).is_err(), "wrong text width");
    assert!(transformer.context(&wave(&[1, 9, 12])?, &ones(9)?).is_err(), "too many text tokens");
    assert!(transformer.context(&wave(&[1, 2, 12])?, &ones(3)?).is_err(), "mask of another length");
    let context = transformer.context(&wave(&[1, 2, 12])?, &ones(2)?)?;
    assert!(transformer.logits(&some_ids(&[1, 63], 20)?, &context).is_err(), "wrong grid");
    assert!(transformer.logits(&some_ids(&[2, 64], 20)?, &context).is_err(), "wrong batch");
    assert!(transformer.logits(&Tensor::full(21u32, (1, 64), &Device::Cpu)?, &context).is_err(), "id above the mask");
    let longer = transformer.context(&wave(&[1, 3, 12])?, &ones(3)?)?;
    assert!(Context::stack(&[&context, &longer]).is_err(), "texts of two lengths");
    assert!(Context::stack(&[]).is_err());

    let encoder = TextEncoder::new(&text_config()?, parameters().builder(DType::F32))?;
    assert!(encoder.forward(&some_ids(&[1, 9], 30)?, &ones(9)?).is_err(), "more tokens than positions");
    assert!(encoder.forward(&Tensor::full(30u32, (1, 4), &Device::Cpu)?, &ones(4)?).is_err(), "unknown word piece");
    Ok(())
}

#[test]
fn configurations_without_a_network_name_the_field() {
    let field = |change: fn(&mut VqGanConfig)| {
        let mut config = vqgan_config();
        change(&mut config);
        config.validate().err().map(|error| error.field)
    };
    assert_eq!(field(|_| ()), None);
    assert_eq!(field(|config| config.channel_multipliers = vec![]).as_deref(), Some("channel_multipliers"));
    assert_eq!(field(|config| config.norm_groups = 0).as_deref(), Some("norm_groups"));
    assert_eq!(field(|config| config.norm_groups = 3).as_deref(), Some("channels × channel_multipliers"));
    assert_eq!(field(|config| config.resolution = 15).as_deref(), Some("resolution"));
    assert_eq!(field(|config| config.out_channels = 2).as_deref(), Some("out_channels"));
    assert_eq!(field(|config| config.codebook_size = 70_000).as_deref(), Some("codebook_size"));

    let field = |change: fn(&mut RaygenConfig)| {
        let mut config = raygen_config();
        change(&mut config);
        TransformerConfig::Raygen(config).validate().err().map(|error| error.field)
    };
    assert_eq!(field(|_| ()), None);
    assert_eq!(field(|config| config.heads = 3).as_deref(), Some("width"));
    assert_eq!(field(|config| config.heads = 0).as_deref(), Some("heads"));
    assert_eq!(field(|config| config.positions = 63).as_deref(), Some("positions"));
    assert_eq!(field(|config| config.token_merge = 3).as_deref(), Some("token_merge"));
    assert_eq!(field(|config| config.token_merge = 1).as_deref(), Some("token_width"));
    assert_eq!(field(|config| config.token_width = 12).as_deref(), Some("token_width"));
    assert_eq!(field(|config| config.local_blocks = usize::MAX).as_deref(), Some("local_blocks"));
    assert_eq!(field(|config| config.layers = usize::MAX).as_deref(), Some("layers"));
}

#[test]
fn a_transformer_config_is_tagged_by_its_variant() -> TestResult {
    let config = TransformerConfig::Raygen(raygen_config());
    let json = serde_json::to_value(&config)?;
    assert_eq!(json["variant"], "raygen");
    assert_eq!(serde_json::from_value::<TransformerConfig>(json)?, config);
    let published: TransformerConfig = serde_json::from_value(serde_json::json!({
        "variant": "published", "codebook_size": 1024, "positions": 1024, "width": 1024, "layers": 6, "heads": 8,
        "feed_forward": 4096, "text_width": 768, "max_text_tokens": 256,
    }))?;
    // The quirks are what "published" means: they need no mention.
    assert!(published.pads_text_to_maximum() && !published.pad_mask());
    Ok(())
}

/// Cosine of the angle between two vectors.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_start_from_the_codebook_gives_codes_that_look_alike_vectors_that_are_alike() -> TestResult {
    let parameters = parameters();
    let config = RaygenConfig { token_merge: 1, token_width: 64, width: 64, ..raygen_config() };
    Transformer::new(&TransformerConfig::Raygen(config), parameters.builder(DType::F32))?;
    // Twenty codes; the first two are the same.
    let rows = wave(&[20, 6])?;
    let codebook = Tensor::cat(&[&rows.narrow(0, 1, 1)?, &rows.narrow(0, 1, 19)?], 0)?;
    let mask_row = |parameters: &Parameters| -> Result<Vec<f32>, Box<dyn Error>> {
        let named = parameters.named();
        let (_, table) = named.iter().find(|(name, _)| name == "image_embedding.weight").ok_or("no embedding")?;
        Ok(table.to_vec2::<f32>()?.pop().ok_or("empty embedding")?)
    };
    let before = mask_row(&parameters)?;
    initialise_from_codebook(&codebook, &parameters, 5)?;
    assert_eq!(mask_row(&parameters)?, before, "the mask keeps its own start");
    for (name, var) in parameters.named() {
        if name != "image_embedding.weight" && name != "final_dense.weight" {
            continue;
        }
        let table = var.narrow(0, 0, 20)?;
        let rows = table.to_vec2::<f32>()?;
        assert!(cosine(&rows[0], &rows[1]) > 0.9, "{name}: equal codes start apart");
        assert!(rows[0] != rows[1], "{name}: equal codes could never part");
        assert!(cosine(&rows[0], &rows[4]).abs() < 0.9, "{name}: unlike codes start alike");
        let deviation = table.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?;
        assert!((deviation - 0.02).abs() < 0.005, "{name}: standard deviation {deviation}");
    }
    assert!(initialise_from_codebook(&codebook.narrow(0, 0, 19)?, &parameters, 5).is_err(), "another codebook size");
    Ok(())
}
