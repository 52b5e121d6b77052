//! Reads a BERT folder as others have it, and prints what it makes of texts: `embed_texts FOLDER TEXTS.json`, where the
//! file is a list of texts. Prints a list of `{"token_ids", "states", "embedding"}`: the last hidden state of each
//! token, and their mean at length 1, as sentence-transformers computes it.

use std::error::Error;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use raygen_model::{
    import,
    text::{TextConfig, TextTokens},
    text_encoder::TextEncoder,
};
use serde_json::{Value, json};

/// Tokens of the longest text, as MiniLM's own settings have it.
const MAX_TOKENS: usize = 256;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, texts] = arguments.as_slice() else { return Err("usage: embed_texts FOLDER TEXTS.json".into()) };
    let texts: Vec<String> = serde_json::from_str(&std::fs::read_to_string(texts)?)?;

    let imported = import::text_encoder(folder.as_ref())?;
    for notice in &imported.folder.notices {
        eprintln!("{notice}");
    }
    let tokenizer =
        imported.folder.tokenizer(&TextConfig { pad_to_maximum: false, ..TextConfig::published(MAX_TOKENS) })?;
    let weights = VarBuilder::from_tensors(imported.tensors.into_iter().collect(), DType::F32, &Device::Cpu);
    let encoder = TextEncoder::new(&imported.folder.config, weights)?;

    let embedded = texts
        .iter()
        .map(|text| embed(&encoder, &tokenizer.tokenize(text)?))
        .collect::<Result<Vec<Value>, Box<dyn Error>>>()?;
    println!("{}", Value::from(embedded));
    Ok(())
}

fn embed(encoder: &TextEncoder, text: &TextTokens) -> Result<Value, Box<dyn Error>> {
    let ids = Tensor::new(text.ids.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
    let mask = Tensor::new(text.mask.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
    let count = text.tokens.len();
    let states = encoder.forward(&ids, &mask)?.squeeze(0)?.narrow(0, 0, count)?;
    let mean = states.mean(0)?;
    let length = mean.sqr()?.sum_all()?.sqrt()?;
    Ok(json!({
        "token_ids": text.ids[..count],
        "states": states.to_vec2::<f32>()?,
        "embedding": mean.broadcast_div(&length)?.to_vec1::<f32>()?,
    }))
}
