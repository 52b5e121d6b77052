//! All imported parts together: prompts in, tokens and pictures out, as the published code gives them.

mod golden_support;

use candle_core::{DType, Device, IndexOp, Tensor};
use golden_support::{TestResult, assert_close, expected, floats, golden, ids, json, pick, weights};
use raygen_model::{
    import::{self, TextEncoderFolder, TransformerOptions},
    sampler::{SampleState, Sampler, SamplingParams, advance},
    text::{TextConfig, TextTokenizer},
    text_encoder::TextEncoder,
    transformer::Transformer,
    vqgan::VqGan,
};
use serde::Deserialize;

/// `request.json`: what the published code was asked for.
#[derive(Deserialize)]
struct Request {
    prompts: Vec<String>,
    steps: u32,
    temperature: f32,
    top_k_filter: f32,
    text_max_length: usize,
    transformer: RequestTransformer,
}

#[derive(Deserialize)]
struct RequestTransformer {
    n_heads: usize,
}

#[test]
fn prompts_become_the_published_tokens_and_pictures() -> TestResult {
    let request: Request = json("end_to_end/request.json")?;
    let length = request.text_max_length;
    let checkpoint = golden("end_to_end/raygen.ckpt");
    let options = TransformerOptions { heads: request.transformer.n_heads, max_text_tokens: length };
    let imported = import::transformer(&checkpoint, options)?;
    assert!(!imported.text_encoder.is_empty(), "the checkpoint holds a text encoder");
    assert!(imported.passed_over.iter().all(|name| name.contains("tokenizer.cls")), "{:?}", imported.passed_over);
    let folder = TextEncoderFolder::read(&golden("end_to_end/cxr_bert"))?;
    let text = folder.weights_of(imported.text_encoder, &checkpoint)?;
    let image = import::vqgan(&golden("end_to_end/vqgan.ckpt"), &golden("end_to_end/vqgan_project.yaml"))?;

    let tokenizer = TextTokenizer::from_vocabulary(&text.folder.vocabulary.join("\n"), &TextConfig::published(length))?;
    let encoder = TextEncoder::new(&text.folder.config, weights(&text.tensors))?;
    let transformer = Transformer::new(&imported.config, weights(&imported.tensors))?;
    let vqgan = VqGan::new(&image.config, weights(&image.tensors))?;
    let params = SamplingParams {
        sampler: Sampler::Published,
        step_count: request.steps,
        temperature: request.temperature,
        top_k_filter: request.top_k_filter,
        ..SamplingParams::published()
    };

    let golden = expected("end_to_end/expected.safetensors")?;
    for (row, prompt) in request.prompts.iter().enumerate() {
        let tokens = tokenizer.tokenize(prompt)?;
        assert_eq!(tokens.ids.len(), length);
        let text_ids = Tensor::new(tokens.ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let mask = Tensor::new(tokens.mask.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let context = transformer.context(&encoder.forward(&text_ids, &mask)?, &mask)?;

        let mut state = SampleState::new(1024, 1024, 0);
        for _ in 0..params.step_count {
            let grid = Tensor::new(state.ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            advance(&mut state, &params, &floats(&transformer.logits(&grid, &context)?)?)?;
        }
        assert_eq!(state.ids, ids(&pick(&golden, "tokens")?.i(row)?)?, "tokens of {prompt:?}");

        let grid = Tensor::new(state.ids.as_slice(), &Device::Cpu)?.reshape((1, 32, 32))?;
        let picture = vqgan.decode(&grid)?.affine(0.5, 0.5)?.squeeze(0)?;
        assert_close("picture", &picture, &pick(&golden, "image")?.i(row)?, 1e-4)?;
        let bytes = floats(&pick(&golden, "image_u8")?.i(row)?.to_dtype(DType::F32)?)?;
        for (ours, byte) in floats(&picture)?.into_iter().zip(bytes) {
            assert!(((ours * 255.0).round() - byte).abs() <= 1.0, "{prompt:?}: {ours} is not {byte} of 255");
        }
    }
    Ok(())
}
