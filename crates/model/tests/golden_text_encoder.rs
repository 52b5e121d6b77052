//! The text encoder against what transformers computes with a BERT in CXR-BERT's layout.

mod golden_support;

use candle_core::DType;
use golden_support::{TestResult, assert_close, expected, golden, ids, json, pick, weights};
use raygen_model::{
    import,
    text::{TextConfig, TextTokenizer},
    text_encoder::TextEncoder,
    transformer::{TextNorm, normalise_text},
};
use serde::Deserialize;

/// `cxr_bert_texts.json`: what was tokenized.
#[derive(Deserialize)]
struct Texts {
    texts: Vec<String>,
    max_length: usize,
}

#[test]
fn the_importer_passes_over_the_heads_and_keeps_the_vocabulary() -> TestResult {
    let imported = import::text_encoder(&golden("cxr_bert"))?;
    assert_eq!(imported.folder.config.vocab_size, imported.folder.vocabulary.len());
    assert_eq!(imported.folder.vocabulary.first().map(String::as_str), Some("[PAD]"));
    assert_eq!(imported.folder.vocabulary.get(8).map(String::as_str), Some("pneumothorax"));
    assert!(!imported.passed_over.is_empty());
    assert!(imported.passed_over.iter().all(|name| name.starts_with("cls")), "{:?}", imported.passed_over);
    Ok(())
}

#[test]
fn hidden_states_and_their_published_norm_match_transformers() -> TestResult {
    let imported = import::text_encoder(&golden("cxr_bert"))?;
    let encoder = TextEncoder::new(&imported.folder.config, weights(&imported.tensors))?;
    let golden = expected("cxr_bert_expected.safetensors")?;
    let ids = pick(&golden, "input_ids")?.to_dtype(DType::U32)?;
    let mask = pick(&golden, "attention_mask")?.to_dtype(DType::F32)?;
    let states = encoder.forward(&ids, &mask)?;
    assert_close("last hidden state", &states, pick(&golden, "last_hidden_state")?, 1e-5)?;
    let normalised = normalise_text(&states, TextNorm::TokenAxis)?;
    assert_close("normalised over tokens", &normalised, pick(&golden, "published_normalised")?, 1e-5)
}

#[test]
fn texts_become_the_word_pieces_of_transformers() -> TestResult {
    let imported = import::text_encoder(&golden("cxr_bert"))?;
    let request: Texts = json("cxr_bert_texts.json")?;
    let config = TextConfig::published(request.max_length);
    let golden = expected("cxr_bert_expected.safetensors")?;
    for tokenizer in [
        imported.folder.tokenizer(&config)?,
        TextTokenizer::from_vocabulary(&imported.folder.vocabulary.join("\n"), &config)?,
    ] {
        let mut ours = (Vec::new(), Vec::new());
        for text in &request.texts {
            let tokens = tokenizer.tokenize(text)?;
            ours.0.extend(tokens.ids);
            ours.1.extend(tokens.mask.iter().map(|&one| one as u32));
        }
        assert_eq!(ours.0, ids(pick(&golden, "input_ids")?)?);
        assert_eq!(ours.1, ids(pick(&golden, "attention_mask")?)?);
    }
    Ok(())
}
