//! Stage `export`: the bundle, with a model card that says what the model was made from and what it does not know.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use raygen_model::bundle::{
    BundleConfig, BundleWriter, Component, Components, FORMAT_VERSION, Grid, StoreType, TOKENIZER_FILE,
};
use serde_json::{Value, json};

use super::Stage;
use super::classifier::Classifier;
use super::tokenizer::Tokenizer;
use super::transformer::Trained;
use crate::config::StorageType;

/// Writes a bundle to `path`.
///
/// # Errors
/// Where a tensor does not fit the storage type or the bundle cannot be written; a bundle that was there stays.
pub fn export(
    stage: &Stage<'_>,
    tokenizer: &Tokenizer,
    trained: &Trained,
    classifier: Option<&Classifier>,
    path: &Path,
) -> Result<()> {
    let mut config = bundle_config(stage, tokenizer, trained);
    let store = store_type(stage);
    let mut metrics = metrics(tokenizer, trained);
    let mut card = card(stage, trained, &metrics)?;
    if let Some(classifier) = classifier {
        add_classifier(classifier, &mut config, &mut metrics, &mut card)?;
    }
    let mut run = stage.config.clone();
    run.data = run.data.identity();
    writeln!(card, "\n## The run\n\n```toml\n{}```", toml::to_string_pretty(&run)?)?;
    let mut writer = BundleWriter::create(path)?;
    writer.write_config(&config)?;
    writer.write_tensors(Component::VqGan, &tokenizer.tensors, store)?;
    writer.write_tensors(Component::Transformer, &trained.transformer, store)?;
    writer.write_tensors(Component::TextEncoder, &trained.text_encoder, store)?;
    if let Some(classifier) = classifier {
        writer.write_tensors(Component::Classifier, &classifier.tensors, store)?;
    }
    writer.write_file(TOKENIZER_FILE, trained.text.to_json().context("tokenizer.json")?.as_bytes())?;
    writer.write_file("metrics.json", format!("{metrics:#}\n").as_bytes())?;
    writer.write_file("README.md", card.as_bytes())?;
    writer.finish()?;
    Ok(())
}

/// How weights are stored.
pub(super) fn store_type(stage: &Stage<'_>) -> StoreType {
    match stage.config.export.dtype {
        StorageType::F32 => StoreType::F32,
        StorageType::F16 => StoreType::F16,
        StorageType::Bf16 => StoreType::Bf16,
    }
}

/// What a bundle says of its classifier.
fn add_classifier(
    classifier: &Classifier,
    config: &mut BundleConfig,
    metrics: &mut Value,
    card: &mut String,
) -> Result<()> {
    config.components.classifier = Some(classifier.config.clone());
    if let Some(steps) = config.provenance.get_mut("steps").and_then(Value::as_object_mut) {
        steps.insert("classifier".to_owned(), json!(classifier.steps));
    }
    metrics.as_object_mut().context("metrics.json")?.extend(classifier.metrics());
    write!(card, "\n{}", classifier.card())?;
    Ok(())
}

fn bundle_config(stage: &Stage<'_>, tokenizer: &Tokenizer, trained: &Trained) -> BundleConfig {
    let config = stage.config;
    let side = tokenizer.config.grid_side();
    let mut provenance = provenance(stage);
    let steps = json!({ "tokenizer": config.tokenizer.steps, "transformer": config.transformer.steps });
    provenance.insert("steps".to_owned(), steps);
    BundleConfig {
        format_version: FORMAT_VERSION,
        components: Components {
            vqgan: Some(tokenizer.config.clone()),
            transformer: Some(trained.shapes.transformer.clone()),
            text_encoder: Some(trained.shapes.text_encoder.clone()),
            classifier: None,
        },
        image_size: tokenizer.config.resolution,
        grid: Grid { height: side, width: side },
        sampling: config.export.sampling.clone(),
        text: trained.text_config.clone(),
        provenance,
    }
}

/// Where a bundle comes from, but for the steps.
pub(super) fn provenance(stage: &Stage<'_>) -> BTreeMap<String, Value> {
    let (config, films) = (stage.config, stage.films);
    let mut provenance = BTreeMap::from([
        ("name".to_owned(), json!(config.name)),
        ("licence".to_owned(), json!(config.export.licence)),
        ("trainer".to_owned(), json!(concat!("raygen-trainer ", env!("CARGO_PKG_VERSION")))),
        ("seed".to_owned(), json!(config.seed)),
        ("films".to_owned(), json!({ "train": films.train.len(), "val": films.val.len() })),
        ("films_sha256".to_owned(), json!(films.pixels_fingerprint)),
    ]);
    // Each took a batch of its own: without this the settings do not say how many films a step had.
    if stage.reduce.ranks() > 1 {
        provenance.insert("ranks".to_owned(), json!(stage.reduce.ranks()));
    }
    provenance
}

fn metrics(tokenizer: &Tokenizer, trained: &Trained) -> Value {
    let report = &trained.validation;
    json!({
        "protocol": "validation films of the run's manifest; each at fixed masks of 0.25, 0.5, 0.75 and 1 of the tokens; means over films",
        "reconstruction_psnr": tokenizer.validation_psnr,
        "nll": report.nll,
        "nll_without_text": report.nll_without_text,
        "text_gain_over_empty": report.nll_without_text - report.nll,
        "accuracy": report.accuracy,
    })
}

fn card(stage: &Stage<'_>, trained: &Trained, metrics: &Value) -> Result<String> {
    let (config, films) = (stage.config, stage.films);
    let number = |key: &str| metrics.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mut card = String::new();
    writeln!(card, "# {}\n", config.name)?;
    writeln!(
        card,
        "Generates synthetic {1}chest X-rays of {0} x {0} px from short impressions. \
         **Synthetic pictures; never for diagnosis.**\n",
        films.side,
        if films.texts.iter().any(|film| film.view == Some(raygen_manifest::View::Lateral)) { "" } else { "frontal " }
    )?;
    if let Some(views) = trained.shapes.transformer.views() {
        let names: Vec<&str> = views.trained.iter().map(|view| view.name()).collect();
        writeln!(card, "It is told the view: {}; {} unless asked.\n", names.join(", "), views.default)?;
    }
    writeln!(card, "Trained by `raygen-trainer` on {} films, validated on {}.", films.train.len(), films.val.len())?;
    if !config.export.licence.is_empty() {
        writeln!(card, "Licence of the weights: {}.", config.export.licence)?;
    }
    if !config.export.supported_terms.is_empty() {
        writeln!(card, "\n## What it knows\n\nImpressions made of these findings:\n")?;
        for term in &config.export.supported_terms {
            writeln!(card, "- {term}")?;
        }
    }
    let others = if trained.text_config.pass_over_unknown_words {
        "Its vocabulary is the {words} words of its training impressions. Any other word is passed over, and a server tells it \
         as `unsupported_terms`."
    } else {
        "Its training impressions have {words} different words. A server tells any other word as `unsupported_terms`; the text \
         encoder reads it all the same."
    };
    let others = others.replace("{words}", &trained.text_config.known_words.len().to_string());
    writeln!(card, "\n## What it does not know\n\n{others}")?;
    if !config.export.notes.is_empty() {
        writeln!(card, "\n{}", config.export.notes.trim())?;
    }
    writeln!(card, "\n## Measured\n\n{}.\n", metrics["protocol"].as_str().unwrap_or_default())?;
    writeln!(card, "| metric | value |\n|---|---|")?;
    writeln!(card, "| reconstruction of validation films (PSNR) | {:.2} dB |", number("reconstruction_psnr"))?;
    writeln!(card, "| negative log-likelihood a masked token | {:.3} nats |", number("nll"))?;
    writeln!(card, "| the same without the text | {:.3} nats |", number("nll_without_text"))?;
    writeln!(card, "| masked tokens predicted exactly | {:.1} % |", 100.0 * number("accuracy"))?;
    Ok(card)
}
