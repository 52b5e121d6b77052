//! Other people's checkpoints in, a bundle out: each part read and checked, all parts checked against each other, then
//! written in one step.

mod agree;
mod error;
mod record;
mod report;
mod target;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use raygen_model::bundle::{
    BundleConfig, BundleWriter, Component, Components, FORMAT_VERSION, Grid, StoreType, TOKENIZER_FILE,
};
use raygen_model::import::{
    self, DenseNetOptions, ImportedDenseNet, ImportedTextEncoder, ImportedTransformer, ImportedVqGan, Tensors,
    TextEncoderFolder, TransformerOptions,
};
use raygen_model::sampler::SamplingParams;
use raygen_model::text::TextConfig;

use crate::run::StopSignal;

pub(crate) use record::checksum;

pub use error::ImportFailure;
pub use record::Source;
pub use report::{PartReport, Report};

/// Side of the published grid, and of the published picture in pixels: what a bundle says of itself where none of its
/// parts tells.
const PUBLISHED_SIDES: (usize, usize) = (32, 512);
/// Text tokens of the published model, and how many there may be.
const PUBLISHED_TEXT_TOKENS: usize = 256;
const TEXT_TOKENS: RangeInclusive<usize> = 3..=8192;

/// The files of a model; any part may be absent, all may not.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A RayGen checkpoint.
    pub transformer: Option<PathBuf>,
    /// A taming checkpoint and its project file.
    pub vqgan: Option<(PathBuf, PathBuf)>,
    /// A BERT folder.
    pub text_encoder: Option<PathBuf>,
    /// A DenseNet.
    pub classifier: Option<PathBuf>,
}

/// What no file tells.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Attention heads of the transformer.
    pub heads: usize,
    /// Text tokens per impression; where none are given, the published 256 or what the text encoder has positions for.
    pub text_max_length: Option<usize>,
    /// The type that tensors are stored in; where none is given, each part's own.
    pub store: Option<StoreType>,
}

impl Default for Options {
    fn default() -> Self {
        Self { heads: TransformerOptions::default().heads, text_max_length: None, store: None }
    }
}

/// Everything that was read.
#[derive(Default)]
struct Parts {
    transformer: Option<ImportedTransformer>,
    vqgan: Option<ImportedVqGan>,
    text_encoder: Option<ImportedTextEncoder>,
    classifier: Option<ImportedDenseNet>,
}

/// Reads the files and writes the bundle `out`. A bundle that was there is replaced in one step; on any error it stays,
/// and nothing half-written remains. `stop` is looked at between parts.
///
/// # Errors
/// A file that cannot be read or is not what it should be; parts that do not fit each other; an `out` that is there and is
/// no bundle, or cannot be written; `stop` was raised. Every error but the last names the file, and the tensor or field where there is one.
pub fn import(sources: &Sources, options: Options, out: &Path, stop: &StopSignal) -> Result<Report, ImportFailure> {
    target::check(out)?;
    check_text_length(options)?;
    let mut notes = Vec::new();
    let mut parts = Parts::default();
    if let Some((checkpoint, project)) = &sources.vqgan {
        parts.vqgan = Some(import::vqgan(checkpoint, project)?);
    }
    let text_folder = sources.text_encoder.as_deref().map(TextEncoderFolder::read).transpose()?;
    notes.extend(text_folder.iter().flat_map(|folder| folder.notices.iter().cloned()));
    if let Some(path) = &sources.classifier {
        parts.classifier = Some(import::densenet(path, &DenseNetOptions::default())?);
    }
    let max_text_tokens = text_tokens(options, text_folder.as_ref(), &mut notes);
    go_on(stop)?;
    if let Some(path) = &sources.transformer {
        let imported = import::transformer(path, TransformerOptions { heads: options.heads, max_text_tokens })?;
        notes.push(format!(
            "no tensor tells how many attention heads the transformer has: {} (--heads)",
            imported.config.heads()
        ));
        parts.transformer = Some(imported);
    }
    agree::check(sources, &parts, text_folder.as_ref(), max_text_tokens)?;
    let inside = parts.transformer.as_mut().map(|part| std::mem::take(&mut part.text_encoder)).unwrap_or_default();
    parts.text_encoder = take_text_encoder(sources, text_folder, inside, &mut notes)?;
    go_on(stop)?;
    let records = record::of(sources, parts.text_encoder.as_ref())?;
    if let (None, Some(grid)) = (&parts.vqgan, parts.transformer.as_ref()) {
        notes.push(format!(
            "without a VQ-GAN this bundle makes grids of {} tokens, and no pictures",
            grid.config.positions()
        ));
    }

    let config = bundle_config(sources, &parts, max_text_tokens, &records)?;
    if let Some(part) = &parts.text_encoder {
        // Built once here, so that a tokenizer that does not work is told now and not by a server.
        part.folder.tokenizer(&config.text)?;
    }
    let mut report = Report { parts: Vec::new(), notes, out: out.to_owned(), digest: String::new() };
    go_on(stop)?;
    let mut writer = BundleWriter::create(out)?;
    writer.write_config(&config)?;
    let mut write = |component, tensors: &Tensors, passed_over: &[String], summary: String| {
        go_on(stop)?;
        let store = options.store.unwrap_or_else(|| stored_as(tensors));
        writer.write_tensors(component, tensors, store)?;
        report.parts.push(PartReport::new(component, summary, tensors, store, passed_over));
        Ok::<_, ImportFailure>(())
    };
    if let Some(part) = &parts.vqgan {
        write(Component::VqGan, &part.tensors, &part.passed_over, report::vqgan(&part.config))?;
    }
    if let Some(part) = &parts.transformer {
        write(Component::Transformer, &part.tensors, &part.passed_over, report::transformer(&part.config))?;
    }
    if let Some(part) = &parts.text_encoder {
        write(Component::TextEncoder, &part.tensors, &part.passed_over, report::text_encoder(&part.folder.config))?;
    }
    if let Some(part) = &parts.classifier {
        write(Component::Classifier, &part.tensors, &part.passed_over, report::classifier(&part.config))?;
    }
    if let Some(part) = &parts.text_encoder {
        writer.write_file(TOKENIZER_FILE, part.folder.tokenizer_json.as_bytes())?;
    }
    writer.write_file("README.md", record::card(out, &report, &records).as_bytes())?;
    go_on(stop)?;
    report.digest = writer.finish()?;
    Ok(report)
}

/// What was written so far goes with its writer: a person who interrupts an import finds nothing half-written.
fn go_on(stop: &StopSignal) -> Result<(), ImportFailure> {
    if stop.raised() { Err(ImportFailure::Interrupted) } else { Ok(()) }
}

/// Refuses lengths into which no text fits.
fn check_text_length(options: Options) -> Result<(), ImportFailure> {
    match options.text_max_length {
        Some(asked) if !TEXT_TOKENS.contains(&asked) => Err(ImportFailure::Option {
            option: "--text-max-length",
            problem: format!(
                "{asked} is not between {} and {}; a text is a token and the two at its ends, or more",
                TEXT_TOKENS.start(),
                TEXT_TOKENS.end()
            ),
        }),
        _ => Ok(()),
    }
}

/// How long texts are: as asked, else as published, but never longer than the text encoder reads.
fn text_tokens(options: Options, encoder: Option<&TextEncoderFolder>, notes: &mut Vec<String>) -> usize {
    if let Some(asked) = options.text_max_length {
        return asked;
    }
    let most = encoder.map_or(PUBLISHED_TEXT_TOKENS, |encoder| encoder.config.max_position_embeddings);
    if most < PUBLISHED_TEXT_TOKENS {
        notes.push(format!(
            "the text encoder has {most} positions: texts are of {most} tokens, not of {PUBLISHED_TEXT_TOKENS}"
        ));
    }
    most.min(PUBLISHED_TEXT_TOKENS)
}

/// The text encoder of a folder. A RayGen checkpoint may hold its weights (`inside`): the published code loads those over
/// the folder's, which are not read then and need not be there.
fn take_text_encoder(
    sources: &Sources,
    folder: Option<TextEncoderFolder>,
    inside: Tensors,
    notes: &mut Vec<String>,
) -> Result<Option<ImportedTextEncoder>, ImportFailure> {
    let checkpoint = sources.transformer.as_deref().filter(|_| !inside.is_empty());
    match (folder, checkpoint) {
        (Some(folder), Some(path)) => {
            let name = record::name(sources.text_encoder.as_deref().unwrap_or(&folder.path));
            notes.push(format!(
                "the text encoder's weights are those inside {}, whatever {name} holds: the published code loads them so",
                record::name(path)
            ));
            Ok(Some(folder.weights_of(inside, path)?))
        }
        (Some(folder), None) => Ok(Some(folder.own_weights()?)),
        (None, Some(path)) => {
            notes.push(format!(
                "{} holds a text encoder, which was left there: give its folder with --text-encoder to take it; the                  configuration and the vocabulary in it are enough",
                record::name(path)
            ));
            Ok(None)
        }
        (None, None) => Ok(None),
    }
}

fn bundle_config(
    sources: &Sources,
    parts: &Parts,
    max_text_tokens: usize,
    records: &[Source],
) -> Result<BundleConfig, ImportFailure> {
    let (side, image_size) = match (&parts.vqgan, &parts.transformer) {
        (Some(vqgan), _) => (vqgan.config.grid_side(), vqgan.config.resolution),
        (None, Some(transformer)) => agree::square(sources, transformer.config.positions())?,
        (None, None) => PUBLISHED_SIDES,
    };
    Ok(BundleConfig {
        format_version: FORMAT_VERSION,
        components: Components {
            vqgan: parts.vqgan.as_ref().map(|part| part.config.clone()),
            transformer: parts.transformer.as_ref().map(|part| part.config.clone()),
            text_encoder: parts.text_encoder.as_ref().map(|part| part.folder.config.clone()),
            classifier: parts.classifier.as_ref().map(|part| part.config.clone()),
        },
        image_size,
        grid: Grid { height: side, width: side },
        sampling: SamplingParams::published(),
        text: TextConfig::published(max_text_tokens),
        provenance: record::provenance(records),
    })
}

/// The type that all tensors of a part have, or f32 where they differ: nothing is lost by default.
fn stored_as(tensors: &BTreeMap<String, Tensor>) -> StoreType {
    let all = |dtype| !tensors.is_empty() && tensors.values().all(|tensor| tensor.dtype() == dtype);
    if all(DType::F16) {
        StoreType::F16
    } else if all(DType::BF16) {
        StoreType::Bf16
    } else {
        StoreType::F32
    }
}
