//! Every trainable tensor of every network gets a gradient, and it is the right one: in f64 it agrees with finite
//! differences, and the fused f32 kernels agree with f64.

use std::{collections::BTreeMap, error::Error};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use raygen_model::{
    densenet::{DENSENET_121, DenseNetConfig, TrainingDenseNet, is_running},
    text_encoder::{TextEncoder, TextEncoderConfig},
    transformer::{
        Activation, AttentionDropout, PublishedConfig, RaygenConfig, TextNorm, Transformer, TransformerConfig, View,
        Views,
    },
    vqgan::{QuantiserKind, VqGan, VqGanConfig},
};
use raygen_nn::Parameters;

type TestResult = Result<(), Box<dyn Error>>;

/// Entries of each tensor that are moved to measure a slope.
const ENTRIES_PER_TENSOR: usize = 3;
/// Step of the central difference, in f64.
const STEP: f64 = 1e-5;

/// A network with its loss: built from parameters, called in the builder's precision.
type Loss = dyn Fn(VarBuilder<'static>) -> candle_core::Result<Tensor>;

/// Checks all gradients of `loss`. Tensors for which `is_unused` holds must have none.
fn assert_gradients(loss: &Loss, is_unused: impl Fn(&str) -> bool) -> TestResult {
    let parameters = Parameters::initialised(7, &Device::Cpu);
    loss(parameters.builder(DType::F64))?;
    // Away from the start: zero biases and unit gains hide mistakes.
    for (index, (_, var)) in parameters.named().iter().enumerate() {
        var.set(&(var.as_tensor() + wave(var.dims(), index as f64, 0.1)?)?)?;
    }
    let value = || -> Result<f64, Box<dyn Error>> { Ok(loss(parameters.builder(DType::F64))?.to_scalar::<f64>()?) };
    let gradients = loss(parameters.builder(DType::F64))?.backward()?;
    let single = single_precision(&parameters)?;
    let fused = loss(single.builder(DType::F32))?.backward()?;
    let single: BTreeMap<String, Var> = single.named().into_iter().collect();

    for (index, (name, var)) in parameters.named().iter().enumerate() {
        let Some(gradient) = gradients.get(var.as_tensor()) else {
            assert!(is_unused(name), "{name}: no gradient");
            continue;
        };
        assert!(!is_unused(name), "{name}: has a gradient and should be unused");
        let exact = gradient.flatten_all()?.to_vec1::<f64>()?;
        let largest = exact.iter().fold(0f64, |largest, value| largest.max(value.abs()));
        for entry in entries(&exact, index) {
            let before = var.as_tensor().flatten_all()?.to_vec1::<f64>()?;
            let mut slopes = Vec::new();
            for step in [STEP, -STEP] {
                let mut moved = before.clone();
                if let Some(value) = moved.get_mut(entry) {
                    *value += step;
                }
                var.set(&Tensor::from_vec(moved, var.shape(), &Device::Cpu)?)?;
                slopes.push(value()?);
            }
            var.set(&Tensor::from_vec(before, var.shape(), &Device::Cpu)?)?;
            let measured = (slopes[0] - slopes[1]) / (2.0 * STEP);
            let error = (measured - exact[entry]).abs();
            assert!(
                error <= 1e-5 * largest + 1e-8,
                "{name}[{entry}]: gradient {:e}, finite difference {measured:e}",
                exact[entry]
            );
        }

        let fused = single.get(name).and_then(|var| fused.get(var.as_tensor()));
        let fused = fused.ok_or_else(|| format!("{name}: no gradient in f32"))?;
        for (fused, exact) in fused.flatten_all()?.to_vec1::<f32>()?.iter().zip(&exact) {
            let error = (f64::from(*fused) - exact).abs();
            assert!(error <= 1e-3 * largest + 1e-6, "{name}: {fused:e} in f32, {exact:e} in f64");
        }
    }
    Ok(())
}

/// The same values as f32 variables.
fn single_precision(parameters: &Parameters) -> Result<Parameters, Box<dyn Error>> {
    let tensors = parameters
        .named()
        .into_iter()
        .map(|(name, var)| Ok((name, var.as_detached_tensor().to_dtype(DType::F32)?)))
        .collect::<candle_core::Result<BTreeMap<_, _>>>()?;
    Ok(Parameters::from_tensors(tensors)?)
}

/// The entry with the largest gradient, and others spread over the tensor.
fn entries(gradient: &[f64], seed: usize) -> Vec<usize> {
    let largest = (0..gradient.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs()));
    let spread = (1..ENTRIES_PER_TENSOR).map(|step| (seed * 31 + step * 7919) % gradient.len());
    largest.into_iter().chain(spread).collect()
}

/// Smooth numbers between -scale and scale that differ from place to place and from phase to phase.
fn wave(dims: &[usize], phase: f64, scale: f64) -> candle_core::Result<Tensor> {
    let count: usize = dims.iter().product();
    let values: Vec<f64> = (0..count).map(|place| scale * (1.7 * place as f64 + 0.9 * phase + 0.3).sin()).collect();
    Tensor::from_vec(values, dims, &Device::Cpu)
}

/// A scalar that no symmetry of a network makes blind: Σ w·x + Σ x² / 2, in the precision of `x`.
fn probe(x: &Tensor) -> candle_core::Result<Tensor> {
    let weights = wave(x.dims(), 5.0, 1.0)?.to_dtype(x.dtype())?;
    (x * weights)?.sum_all()? + (x.sqr()?.sum_all()? * 0.5)?
}

fn ids(values: &[u32], dims: &[usize]) -> candle_core::Result<Tensor> {
    Tensor::from_vec(values.to_vec(), dims, &Device::Cpu)
}

fn no_exceptions(_: &str) -> bool {
    false
}

#[test]
fn vqgan_gradients_agree_with_finite_differences() -> TestResult {
    let config = VqGanConfig {
        channels: 4,
        channel_multipliers: vec![1, 2],
        residual_blocks: 1,
        attention_resolutions: vec![4],
        resolution: 8,
        in_channels: 1,
        out_channels: 3,
        z_channels: 4,
        embed_dim: 3,
        codebook_size: 5,
        norm_groups: 2,
        quantiser: QuantiserKind::Nearest,
    };
    assert_gradients(
        &move |vb| {
            let dtype = vb.dtype();
            let vqgan = VqGan::new(&config, vb)?;
            let images = wave(&[2, 1, 8, 8], 1.0, 1.0)?.to_dtype(dtype)?;
            // The latent goes on undisturbed: with the nearest code in between the loss would jump.
            let decoded = vqgan.decode_latent(&vqgan.latent(&images)?)?;
            let codes = vqgan.codes(&ids(&(0..16).map(|place| place % 5).collect::<Vec<_>>(), &[1, 4, 4])?)?;
            probe(&decoded)? + probe(&vqgan.decode_latent(&codes)?)?
        },
        no_exceptions,
    )
}

/// The loss of a transformer over 16 positions, two texts of 3 tokens, the second with a pad.
fn transformer_loss(
    config: TransformerConfig,
    dropout: Option<AttentionDropout>,
) -> impl Fn(VarBuilder<'static>) -> candle_core::Result<Tensor> {
    move |vb| {
        let dtype = vb.dtype();
        let transformer = Transformer::new(&config, vb)?;
        let features = wave(&[2, 3, config.text_width()], 2.0, 1.0)?.to_dtype(dtype)?;
        let mask = Tensor::new(&[[1f32, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu)?;
        let context = transformer.context(&features, &mask)?;
        // All codes and the mask occur, so that each row of the embedding is used.
        let grid: Vec<u32> = (0..32).map(|place| (place * 5 + place / 16) % 6).collect();
        let grid = ids(&grid, &[2, 16])?;
        let logits = match &dropout {
            Some(dropout) => transformer.logits_in_training(&grid, &context, dropout)?,
            None => transformer.logits(&grid, &context)?,
        };
        let logits = logits.flatten(0, 1)?;
        let targets: Vec<u32> = (0..32).map(|place| place % 5).collect();
        let weights = Tensor::from_vec((0..32).map(|place| (place % 3) as f32).collect(), 32, &Device::Cpu)?;
        raygen_nn::cross_entropy(&logits, &ids(&targets, &[32])?, &weights, 0.1)
    }
}

fn published_config(activation: Activation) -> TransformerConfig {
    TransformerConfig::Published(PublishedConfig {
        codebook_size: 5,
        positions: 16,
        width: 8,
        layers: 2,
        heads: 2,
        feed_forward: 6,
        text_width: 6,
        max_text_tokens: 3,
        text_norm: TextNorm::TokenAxis,
        pad_mask: false,
        unused_attention_norms: true,
        activation,
    })
}

/// The published code has these norms and never calls them.
fn never_called(name: &str) -> bool {
    name.contains("dec_layers")
        && !name.contains(".ffn.")
        && (name.contains("layer_norm_1") || name.contains("layer_norm_2"))
}

#[test]
fn published_transformer_gradients_agree_with_finite_differences() -> TestResult {
    for activation in [Activation::Geglu, Activation::Gelu] {
        assert_gradients(&transformer_loss(published_config(activation), None), never_called)?;
    }
    Ok(())
}

#[test]
fn gradients_under_attention_dropout_agree_with_finite_differences() -> TestResult {
    for config in [published_config(Activation::Geglu), raygen_config(1, 8, 0)] {
        let unused = |name: &str| config.is_unused(name);
        let dropout = AttentionDropout::new(0.3, 11, vec![(4, 1), (9, 1)]);
        assert_gradients(&transformer_loss(config.clone(), Some(dropout)), unused)?;
    }
    Ok(())
}

#[test]
fn the_tensors_that_are_said_to_be_unused_are_those_without_a_gradient() -> TestResult {
    let config = published_config(Activation::Geglu);
    let parameters = Parameters::initialised(7, &Device::Cpu);
    transformer_loss(config.clone(), None)(parameters.builder(DType::F32))?;
    let named = parameters.named();
    let unused: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).filter(|name| config.is_unused(name)).collect();
    assert_eq!(unused.len(), 2 * 2 * 2, "a gain and a bias of two norms of two layers: {unused:?}");
    assert!(unused.iter().all(|name| never_called(name)));
    Ok(())
}

fn raygen_config(token_merge: usize, token_width: usize, local_blocks: usize) -> TransformerConfig {
    TransformerConfig::Raygen(RaygenConfig {
        codebook_size: 5,
        positions: 16,
        grid_side: 4,
        token_merge,
        token_width,
        local_blocks,
        width: 8,
        layers: 2,
        heads: 2,
        feed_forward: 6,
        text_width: 6,
        max_text_tokens: 3,
        pad_mask: true,
        views: None,
    })
}

#[test]
fn raygen_transformer_gradients_agree_with_finite_differences() -> TestResult {
    assert_gradients(&transformer_loss(raygen_config(1, 8, 0), None), no_exceptions)
}

#[test]
fn merged_raygen_transformer_gradients_agree_with_finite_differences() -> TestResult {
    assert_gradients(&transformer_loss(raygen_config(2, 4, 0), None), no_exceptions)
}

#[test]
fn raygen_transformer_gradients_with_local_blocks_agree_with_finite_differences() -> TestResult {
    assert_gradients(&transformer_loss(raygen_config(1, 8, 1), None), no_exceptions)?;
    assert_gradients(&transformer_loss(raygen_config(2, 8, 1), None), no_exceptions)
}

#[test]
fn raygen_transformer_gradients_with_a_view_token_agree_with_finite_differences() -> TestResult {
    let TransformerConfig::Raygen(config) = raygen_config(1, 8, 0) else { return Err("another variant".into()) };
    let views = Some(Views { default: View::PA, trained: vec![View::AP, View::PA] });
    let config = TransformerConfig::Raygen(RaygenConfig { views, ..config });
    assert_gradients(
        &move |vb| {
            let dtype = vb.dtype();
            let transformer = Transformer::new(&config, vb)?;
            let features = wave(&[2, 3, 6], 2.0, 1.0)?.to_dtype(dtype)?;
            let mask = Tensor::new(&[[1f32, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu)?;
            let context = transformer.context_of_views(&features, &mask, &[None, Some(View::Lateral)])?;
            let grids: Vec<u32> = (0..32).map(|place| place * 7 % 6).collect();
            probe(&transformer.logits(&ids(&grids, &[2, 16])?, &context)?.to_dtype(dtype)?)
        },
        no_exceptions,
    )
}

#[test]
fn text_encoder_gradients_agree_with_finite_differences() -> TestResult {
    let config: TextEncoderConfig = serde_json::from_value(serde_json::json!({
        "vocab_size": 7, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 12, "max_position_embeddings": 4,
    }))?;
    assert_gradients(
        &move |vb| {
            let dtype = vb.dtype();
            let encoder = TextEncoder::new(&config, vb)?;
            let mask = Tensor::new(&[[1f32, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]], &Device::Cpu)?;
            let states = encoder.forward(&ids(&[1, 2, 3, 4, 5, 6, 0, 0], &[2, 4])?, &mask)?;
            probe(&states.to_dtype(dtype)?)
        },
        no_exceptions,
    )
}

#[test]
fn densenet_gradients_agree_with_finite_differences() -> TestResult {
    let classes = ["Edema", "Fracture", "Pneumonia"].map(str::to_owned).to_vec();
    let config = DenseNetConfig {
        growth_rate: 2,
        block_layers: vec![2, 1],
        initial_features: 4,
        bottleneck: 2,
        in_channels: 1,
        image_size: 16,
        ..DenseNetConfig::published(DENSENET_121, classes)
    };
    let targets = Tensor::new(&[[1f32, 0.0, 0.05], [0.95, 0.0, 1.0], [0.0, 1.0, 0.0]], &Device::Cpu)?;
    // Answers that are masked, and one that counts double.
    let weights = Tensor::new(&[[1f32, 0.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.0, 0.0]], &Device::Cpu)?;
    assert_gradients(
        &move |vb| {
            let dtype = vb.dtype();
            let images = wave(&[3, 1, 16, 17], 3.0, 1.0)?.to_dtype(dtype)?;
            let (logits, _) = TrainingDenseNet::new(&config, vb)?.logits(&images)?;
            raygen_nn::binary_cross_entropy(&logits, &targets, &weights)
        },
        // They follow the batches.
        is_running,
    )
}
