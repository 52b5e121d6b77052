//! The bundle of a run that trains a classifier alone.

use std::fmt::Write as _;

use anyhow::Result;
use raygen_model::bundle::{BundleConfig, BundleWriter, Component, Components, FORMAT_VERSION, Grid};
use raygen_model::text::TextConfig;
use serde_json::{Value, json};

use super::{Classifier, Stage};
use crate::stages::export::{provenance, store_type};

/// A bundle without a text encoder says this of its texts; nothing reads it.
const NO_TEXT: usize = 3;

/// Writes the bundle.
///
/// # Errors
/// Where a tensor does not fit the storage type or the bundle cannot be written; a bundle that was there stays.
pub(in crate::stages) fn export(stage: &Stage<'_>, classifier: &Classifier) -> Result<()> {
    let mut provenance = provenance(stage);
    provenance.insert("steps".to_owned(), json!({ "classifier": classifier.steps }));
    let config = BundleConfig {
        format_version: FORMAT_VERSION,
        components: Components { classifier: Some(classifier.config.clone()), ..Components::default() },
        image_size: classifier.config.image_size,
        grid: Grid { height: 1, width: 1 },
        sampling: stage.config.export.sampling.clone(),
        text: TextConfig::plain(NO_TEXT),
        provenance,
    };
    let metrics = Value::Object(classifier.metrics());
    let mut writer = BundleWriter::create(stage.directory.bundle())?;
    writer.write_config(&config)?;
    writer.write_tensors(Component::Classifier, &classifier.tensors, store_type(stage))?;
    writer.write_file("metrics.json", format!("{metrics:#}\n").as_bytes())?;
    writer.write_file("README.md", card(stage, classifier)?.as_bytes())?;
    writer.finish()?;
    Ok(())
}

fn card(stage: &Stage<'_>, classifier: &Classifier) -> Result<String> {
    let (config, films) = (stage.config, stage.films);
    let mut card = format!("# {}\n\nTells findings on frontal chest X-rays. It makes no pictures.\n\n", config.name);
    let (train, val) = (films.train.len(), films.val.len());
    writeln!(card, "Trained by `raygen-trainer` on films with labels among {train}, validated on those among {val}.")?;
    if !config.export.licence.is_empty() {
        writeln!(card, "Licence of the weights: {}.", config.export.licence)?;
    }
    if !config.export.notes.is_empty() {
        writeln!(card, "\n{}", config.export.notes.trim())?;
    }
    write!(card, "\n{}", classifier.card())?;
    let mut run = config.clone();
    run.data = run.data.identity();
    writeln!(card, "\n## The run\n\n```toml\n{}```", toml::to_string_pretty(&run)?)?;
    Ok(card)
}
