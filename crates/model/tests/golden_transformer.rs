//! The published transformer against what the published code computes.

mod golden_support;

use std::error::Error;

use candle_core::{D, DType, Device, IndexOp, Tensor};
use golden_support::{TestResult, assert_close, expected, golden, ids, json, pick, weights};
use raygen_model::{
    import::{self, ImportedTransformer, TransformerOptions},
    sampler::{Noise, SampleState, Sampler, SamplingParams, advance, advance_with_noise},
    transformer::{Context, Transformer, TransformerConfig},
};
use raygen_nn::Parameters;
use serde::Deserialize;

/// `raygen_config.json`: the sizes that the golden checkpoint was made with.
#[derive(Deserialize)]
struct Sizes {
    embed_dim: usize,
    hidden_dim: usize,
    n_heads: usize,
    n_layers: usize,
    txt_embed_dim: usize,
    context_len: usize,
    codebook: usize,
    mask_id: u32,
    positions: usize,
}

/// `sampled_request.json`: how the sampled trajectories were made.
#[derive(Deserialize)]
struct SampledRequest {
    temperature: f32,
    top_k_filter: f32,
    steps: Vec<usize>,
}

fn import_golden() -> Result<ImportedTransformer, Box<dyn Error>> {
    let sizes: Sizes = json("raygen_config.json")?;
    let options = TransformerOptions { heads: sizes.n_heads, max_text_tokens: sizes.context_len };
    Ok(import::transformer(&golden("raygen.ckpt"), options)?)
}

fn load() -> Result<Transformer, Box<dyn Error>> {
    let imported = import_golden()?;
    Ok(Transformer::new(&imported.config, weights(&imported.tensors))?)
}

fn context(transformer: &Transformer, rows: usize) -> Result<Context, Box<dyn Error>> {
    let golden = expected("raygen_expected.safetensors")?;
    let features = pick(&golden, "text_features")?.narrow(0, 0, rows)?;
    Ok(transformer.context_from_normalised(&features, None)?)
}

#[test]
fn the_importer_infers_the_published_configuration() -> TestResult {
    let imported = import_golden()?;
    let TransformerConfig::Published(config) = &imported.config else {
        return Err("a Lightning checkpoint is the published variant".into());
    };
    let sizes: Sizes = json("raygen_config.json")?;
    assert_eq!((config.width, config.layers), (sizes.embed_dim, sizes.n_layers));
    assert_eq!((config.feed_forward, config.text_width), (sizes.hidden_dim, sizes.txt_embed_dim));
    assert_eq!((config.codebook_size, config.positions), (sizes.codebook, sizes.positions));
    assert_eq!(imported.config.mask_id(), sizes.mask_id);
    assert!(imported.config.pads_text_to_maximum() && !imported.config.pad_mask());
    assert!(imported.text_encoder.is_empty() && imported.passed_over.is_empty());
    Ok(())
}

#[test]
fn logits_match_the_published_code() -> TestResult {
    let golden = expected("raygen_expected.safetensors")?;
    let transformer = load()?;
    let masked = pick(&golden, "masked_ids")?.to_dtype(DType::U32)?;
    let logits = transformer.logits(&masked, &context(&transformer, 2)?)?;
    let every_64th: Vec<u32> = (0..16).map(|index| index * 64).collect();
    let some = logits.index_select(&Tensor::new(every_64th, &Device::Cpu)?, 1)?;
    assert_close("logits", &some, pick(&golden, "logits_every_64th_position")?, 1e-4)?;
    assert_eq!(ids(&logits.argmax(D::Minus1)?)?, ids(pick(&golden, "logits_argmax")?)?);
    Ok(())
}

/// Mean cross-entropy over masked positions, as the published training has it.
fn published_loss(transformer: &Transformer) -> Result<Tensor, Box<dyn Error>> {
    let golden = expected("raygen_expected.safetensors")?;
    let masked = pick(&golden, "masked_ids")?.to_dtype(DType::U32)?;
    let targets = pick(&golden, "ids")?.to_dtype(DType::U32)?.flatten_all()?;
    let mask = pick(&golden, "mask")?.to_dtype(DType::F32)?.flatten_all()?;
    let logits = transformer.logits(&masked, &context(transformer, 2)?)?.flatten(0, 1)?;
    Ok(raygen_nn::cross_entropy(&logits, &targets, &mask, 0.0)?)
}

#[test]
fn the_loss_matches_the_published_code() -> TestResult {
    let golden = expected("raygen_expected.safetensors")?;
    let loss = published_loss(&load()?)?.reshape(1)?;
    assert_close("loss", &loss, pick(&golden, "loss")?, 1e-5)
}

#[test]
fn gradients_match_the_published_code() -> TestResult {
    let imported = import_golden()?;
    let parameters = Parameters::from_tensors(imported.tensors)?;
    let transformer = Transformer::new(&imported.config, parameters.builder(DType::F32))?;
    let gradients = published_loss(&transformer)?.backward()?;
    let golden = expected("gradients_expected.safetensors")?;
    let mut compared = 0;
    for (name, var) in parameters.named() {
        match (golden.get(&name), gradients.get(var.as_tensor())) {
            (Some(expected), Some(ours)) => {
                assert_close(&name, ours, expected, 1e-3)?;
                compared += 1;
            }
            // The published code never calls these two norms.
            (None, None) => assert!(name.contains("dec_layers") && !name.contains("ffn"), "{name}: no gradient"),
            (expected, ours) => {
                let found = (ours.is_some(), expected.is_some());
                return Err(format!("{name}: gradient (ours, published) is {found:?}").into());
            }
        }
    }
    assert_eq!(compared, golden.len());
    Ok(())
}

/// Runs a sampler over the network and asserts the grid at every step.
fn assert_trajectory(
    transformer: &Transformer,
    context: &Context,
    (inputs, last): (&Tensor, &Tensor),
    mut step: impl FnMut(&mut SampleState, &[f32]) -> Result<(), raygen_model::sampler::SamplingError>,
) -> TestResult {
    let (steps, positions) = inputs.dims2()?;
    let mut state = SampleState::new(positions, transformer.config().mask_id(), 0);
    for index in 0..steps {
        assert_eq!(state.ids, ids(&inputs.i(index)?)?, "grid at step {index}");
        let grid = Tensor::new(state.ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let logits = transformer.logits(&grid, context)?.flatten_all()?.to_vec1::<f32>()?;
        step(&mut state, &logits)?;
    }
    assert_eq!(state.ids, ids(last)?, "final grid");
    Ok(())
}

fn params(step_count: usize, temperature: f32, top_k_filter: f32) -> Result<SamplingParams, Box<dyn Error>> {
    let step_count = u32::try_from(step_count)?;
    Ok(SamplingParams {
        sampler: Sampler::Published,
        step_count,
        temperature,
        top_k_filter,
        ..SamplingParams::published()
    })
}

#[test]
fn greedy_trajectories_match_the_published_code() -> TestResult {
    let golden = expected("raygen_expected.safetensors")?;
    let transformer = load()?;
    let features = pick(&golden, "text_features")?;
    for (steps, alpha) in [(3, 0.5f32), (3, 0.9), (8, 0.5), (8, 0.9)] {
        let inputs = pick(&golden, &format!("greedy_K{steps}_alpha{alpha}_inputs"))?;
        let last = pick(&golden, &format!("greedy_K{steps}_alpha{alpha}_final"))?;
        let params = params(steps, 0.0, alpha)?;
        for row in 0..2 {
            let context = transformer.context_from_normalised(&features.narrow(0, row, 1)?, None)?;
            let grids = (&inputs.i((.., row))?, &last.i(row)?);
            assert_trajectory(&transformer, &context, grids, |state, logits| advance(state, &params, logits))?;
        }
    }
    Ok(())
}

/// The uniforms that `sampled_request.json` describes: SplitMix64 from state 0, one number per entry of the logits.
struct SplitMix {
    step: u64,
    positions: u64,
    codes: u64,
}

impl Noise for SplitMix {
    fn uniform(&mut self, position: usize, candidate: usize) -> f32 {
        let entry = self.step * self.positions * self.codes + position as u64 * self.codes + candidate as u64;
        // SplitMix64 adds a constant per output, so that output n needs no walk.
        let mut z = (entry + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 40) as f32 + 0.5) / (1u32 << 24) as f32
    }
}

#[test]
fn sampled_trajectories_match_the_published_code() -> TestResult {
    let golden = expected("sampled_expected.safetensors")?;
    let transformer = load()?;
    let context = context(&transformer, 1)?;
    let request: SampledRequest = json("sampled_request.json")?;
    for steps in request.steps {
        let grids =
            (pick(&golden, &format!("sampled_K{steps}_inputs"))?, pick(&golden, &format!("sampled_K{steps}_final"))?);
        let params = params(steps, request.temperature, request.top_k_filter)?;
        assert_trajectory(&transformer, &context, grids, |state, logits| {
            let mut noise = SplitMix { step: u64::from(state.step), positions: 1024, codes: 1024 };
            advance_with_noise(state, &params, logits, &mut noise)
        })?;
    }
    Ok(())
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_a_batch() -> TestResult {
    let golden = expected("raygen_expected.safetensors")?;
    let transformer = load()?;
    let masked = pick(&golden, "masked_ids")?.to_dtype(DType::U32)?;
    let features = pick(&golden, "text_features")?;
    let context_of = |row: usize| transformer.context_from_normalised(&features.narrow(0, row, 1)?, None);
    let (first, second) = (context_of(0)?, context_of(1)?);
    let together = transformer.logits(&masked, &Context::stack(&[&first, &second])?)?;
    for (row, context) in [(0, &first), (1, &second)] {
        let alone = transformer.logits(&masked.narrow(0, row, 1)?, context)?;
        let bits = |tensor: &Tensor| -> Result<Vec<u32>, Box<dyn Error>> {
            Ok(golden_support::floats(tensor)?.into_iter().map(f32::to_bits).collect())
        };
        assert!(bits(&alone)? == bits(&together.narrow(0, row, 1)?)?, "row {row} differs");
    }
    Ok(())
}
