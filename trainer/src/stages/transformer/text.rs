//! The text side of the stage: how impressions are read, and the text encoder that is there already, if one is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use raygen_model::bundle::{Bundle, Component, TOKENIZER_FILE};
use raygen_model::text::{Normaliser, TextConfig, TextTokenizer};
use raygen_model::text_encoder::TextEncoderConfig;

use crate::config::{RunConfig, TextCleaning};
use crate::stages::fingerprint;

/// The word piece of what a tokenizer cannot spell.
const UNKNOWN: &str = "[UNK]";
/// Unknown words that are named.
const TOLD: usize = 8;

/// A bundle's text encoder and how that bundle reads text.
pub struct TextStart {
    /// Its shape.
    pub config: TextEncoderConfig,
    /// Its tensors, by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tells this encoder and its reading of text from others, whatever else is in the bundle.
    pub digest: String,
    bundle: String,
    text: TextConfig,
    tokenizer_json: Vec<u8>,
}

impl TextStart {
    /// The words of the training films that the bundle was not trained on, or that it has no word pieces for, as a line for people;
    /// none where it knows all.
    ///
    /// # Errors
    /// Where its tokenizer cannot be built.
    pub(super) fn unknown_words(&self, words: &[String], frozen: bool) -> Result<Option<String>> {
        let reader = TextTokenizer::from_json(
            &self.tokenizer_json,
            &TextConfig { pass_over_unknown_words: false, ..self.text.clone() },
        )?;
        let mut unknown = Vec::new();
        for word in words {
            let tokens = reader.tokenize(word)?;
            if !tokens.unsupported_terms.is_empty() || tokens.tokens.iter().any(|token| token == UNKNOWN) {
                unknown.push(word.as_str());
            }
        }
        if unknown.is_empty() {
            return Ok(None);
        }
        let (count, all) = (unknown.len(), words.len());
        let more = if count > TOLD { ", ..." } else { "" };
        unknown.truncate(TOLD);
        let fate = match frozen {
            true => "its encoder does not learn, so they say little",
            false => "they are spelt in its word pieces and learnt here",
        };
        Ok(Some(format!(
            "{count} of the {all} words of the training impressions are unknown to {} ({}{more}); {fate}",
            self.bundle,
            unknown.join(", ")
        )))
    }

    /// Reads the text encoder of the bundle `directory`, which must have the width, layers and heads that `config` gives.
    ///
    /// # Errors
    /// The bundle is unsound, has no text encoder, one of another shape, or one that reads shorter texts.
    pub(super) fn read(directory: &Path, config: &RunConfig, device: &Device) -> Result<Self> {
        let named = || named(directory, config);
        let (bundle, found) = open(directory, config)?;
        Ok(Self {
            config: found,
            tensors: bundle.tensors(Component::TextEncoder, device, DType::F32).with_context(named)?,
            digest: digest(&bundle).with_context(named)?,
            text: bundle.config().text.clone(),
            bundle: directory.display().to_string(),
            tokenizer_json: bundle.file(TOKENIZER_FILE).with_context(named)?.into_owned(),
        })
    }
}

/// The shape of the text encoder of the bundle `directory`, which must fit `config`; no tensor is read.
///
/// # Errors
/// As [`TextStart::read`].
pub(crate) fn check(directory: &Path, config: &RunConfig) -> Result<TextEncoderConfig> {
    open(directory, config).map(|(_, found)| found)
}

fn open(directory: &Path, config: &RunConfig) -> Result<(Bundle, TextEncoderConfig)> {
    let named = || named(directory, config);
    let bundle = Bundle::open(directory).with_context(named)?;
    let Some(found) = bundle.config().components.text_encoder.clone() else { bail!("{} has no text encoder", named()) };
    let expected = &config.transformer.text;
    for (key, found, expected) in [
        ("width", found.hidden_size, expected.width),
        ("layers", found.num_hidden_layers, expected.layers),
        ("heads", found.num_attention_heads, expected.heads),
    ] {
        if found != expected {
            bail!("{}: its text encoder has {key} {found}, transformer.text.{key} is {expected}", named());
        }
    }
    if expected.max_tokens > found.max_position_embeddings {
        bail!(
            "{}: its text encoder reads {} tokens, transformer.text.max_tokens is {}",
            named(),
            found.max_position_embeddings,
            expected.max_tokens
        );
    }
    Ok((bundle, found))
}

fn named(directory: &Path, config: &RunConfig) -> String {
    format!("{}: the bundle {}", config.text_start_key(), directory.display())
}

fn digest(bundle: &Bundle) -> Result<String> {
    let checksum = |file: &str| bundle.checksum(file).with_context(|| format!("its SHA256SUMS does not list {file}"));
    let text = serde_json::to_string(&bundle.config().text)?;
    Ok(fingerprint(&[checksum(&Component::TextEncoder.file())?, checksum(TOKENIZER_FILE)?, &text]))
}

/// How the model reads text: as the bundle that the encoder comes from does, or with the words of the training films.
///
/// # Errors
/// The tokenizer cannot be built.
pub(super) fn reading(
    config: &RunConfig,
    words: &[String],
    start: Option<&TextStart>,
    pad_to_maximum: bool,
) -> Result<(TextConfig, TextTokenizer)> {
    let max_tokens = config.transformer.text.max_tokens;
    let base = match start {
        Some(start) => start.text.clone(),
        None => TextConfig { pass_over_unknown_words: true, ..TextConfig::plain(max_tokens) },
    };
    let known_words = match start {
        // The transformer knows the words of its bundle too; where it is not known which these were, none can be told.
        Some(start) if config.transformer.start_from.is_some() && config.transformer.text.start_from.is_none() => {
            let mut known = start.text.known_words.clone();
            if !known.is_empty() {
                known.extend_from_slice(words);
                known.sort_unstable();
                known.dedup();
            }
            known
        }
        _ => words.to_vec(),
    };
    let text_config = TextConfig {
        max_tokens,
        pad_to_maximum,
        supported_terms: config.export.supported_terms.clone(),
        known_words,
        condition_dropout: config.transformer.condition_dropout > 0.0,
        ..base
    };
    let tokenizer = match start {
        Some(start) => TextTokenizer::from_json(&start.tokenizer_json, &text_config)
            .with_context(|| format!("the word pieces of {}", config.text_start_key()))?,
        None => TextTokenizer::from_words(words, &text_config).context("the vocabulary of the impressions")?,
    };
    Ok((text_config, tokenizer))
}

/// The distinct words of the training impressions, cleaned and normalised, in alphabetical order.
pub(super) fn training_words<'t>(impressions: impl Iterator<Item = &'t str>, cleaning: TextCleaning) -> Vec<String> {
    let normaliser = Normaliser::Plain;
    let words: BTreeSet<String> = impressions
        .flat_map(|impression| {
            let text = normaliser.apply(&cleaning.apply(impression));
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    words.into_iter().collect()
}
