//! Our BERT against candle-transformers', at the size of BERT-base: `cargo bench --bench text_encoder`.

use std::collections::HashMap;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config, HiddenAct, PositionEmbeddingType};
use divan::Bencher;
use raygen_model::text_encoder::{TextEncoder, TextEncoderConfig};

/// The allocator of our programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// (texts, tokens of each, pads included)
const BATCHES: [(usize, usize); 4] = [(1, 64), (1, 256), (8, 64), (8, 256)];

/// BERT-base in everything but its vocabulary: looking words up costs nothing.
const VOCABULARY: usize = 1000;
const WIDTH: usize = 768;
const LAYERS: usize = 12;
const HEADS: usize = 12;
const FEED_FORWARD: usize = 3072;
const POSITIONS: usize = 512;

fn main() {
    divan::main();
}

#[divan::bench(args = BATCHES, sample_count = 5, sample_size = 1)]
fn ours(bencher: Bencher<'_, '_>, batch: (usize, usize)) {
    measure(bencher, batch, |tensors| {
        let config = TextEncoderConfig {
            vocab_size: VOCABULARY,
            hidden_size: WIDTH,
            num_hidden_layers: LAYERS,
            num_attention_heads: HEADS,
            intermediate_size: FEED_FORWARD,
            max_position_embeddings: POSITIONS,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            hidden_act: "gelu".to_owned(),
            position_embedding_type: "absolute".to_owned(),
            pad_token_id: 0,
            initializer_range: 0.02,
        };
        let encoder = TextEncoder::new(&config, tensors)?;
        Ok(move |ids: &Tensor, mask: &Tensor| encoder.forward(ids, mask))
    });
}

#[divan::bench(args = BATCHES, sample_count = 5, sample_size = 1)]
fn candle_transformers(bencher: Bencher<'_, '_>, batch: (usize, usize)) {
    measure(bencher, batch, |tensors| {
        let config = Config {
            vocab_size: VOCABULARY,
            hidden_size: WIDTH,
            num_hidden_layers: LAYERS,
            num_attention_heads: HEADS,
            intermediate_size: FEED_FORWARD,
            hidden_act: HiddenAct::Gelu,
            max_position_embeddings: POSITIONS,
            position_embedding_type: PositionEmbeddingType::Absolute,
            ..Config::default()
        };
        let encoder = BertModel::load(tensors.pp("bert"), &config)?;
        Ok(move |ids: &Tensor, mask: &Tensor| encoder.forward(ids, &ids.zeros_like()?, Some(mask)))
    });
}

/// Times the network that `build` makes on a batch whose last quarter is pads.
fn measure<Forward>(
    bencher: Bencher<'_, '_>,
    batch: (usize, usize),
    build: impl FnOnce(VarBuilder<'static>) -> Result<Forward>,
) where
    Forward: Fn(&Tensor, &Tensor) -> Result<Tensor> + Sync,
{
    let prepared = weights().and_then(build).and_then(|forward| Ok((forward, text(batch)?)));
    match prepared {
        Ok((forward, (ids, mask))) => bencher.bench(|| forward(&ids, &mask).map(|states| states.elem_count()).ok()),
        Err(error) => panic!("the network of a benchmark cannot be made: {error}"),
    }
}

fn text((texts, tokens): (usize, usize)) -> Result<(Tensor, Tensor)> {
    let ids = (0..texts * tokens).map(|place| (place * 7919 % VOCABULARY) as u32).collect();
    let mask = (0..texts * tokens).map(|place| f32::from(u8::from(place % tokens < tokens * 3 / 4))).collect();
    Ok((
        Tensor::from_vec::<_, u32>(ids, (texts, tokens), &Device::Cpu)?,
        Tensor::from_vec::<_, f32>(mask, (texts, tokens), &Device::Cpu)?,
    ))
}

/// Random weights by their names; the norms' are 1 and 0.
fn weights() -> Result<VarBuilder<'static>> {
    let mut tensors = HashMap::new();
    let mut dense = |name: String, outputs: usize, inputs: usize| -> Result<()> {
        tensors.insert(format!("{name}.bias"), Tensor::zeros(outputs, DType::F32, &Device::Cpu)?);
        tensors.insert(format!("{name}.weight"), Tensor::randn(0f32, 0.02, (outputs, inputs), &Device::Cpu)?);
        Ok(())
    };
    for (name, rows) in [("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)] {
        dense(format!("bert.embeddings.{name}_embeddings"), rows, WIDTH)?;
    }
    let mut norms = vec!["bert.embeddings.LayerNorm".to_owned()];
    for layer in (0..LAYERS).map(|index| format!("bert.encoder.layer.{index}")) {
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            dense(format!("{layer}.{part}"), WIDTH, WIDTH)?;
        }
        dense(format!("{layer}.intermediate.dense"), FEED_FORWARD, WIDTH)?;
        dense(format!("{layer}.output.dense"), WIDTH, FEED_FORWARD)?;
        norms.extend([format!("{layer}.attention.output.LayerNorm"), format!("{layer}.output.LayerNorm")]);
    }
    for norm in norms {
        tensors.insert(format!("{norm}.weight"), Tensor::ones(WIDTH, DType::F32, &Device::Cpu)?);
        tensors.insert(format!("{norm}.bias"), Tensor::zeros(WIDTH, DType::F32, &Device::Cpu)?);
    }
    Ok(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu))
}
