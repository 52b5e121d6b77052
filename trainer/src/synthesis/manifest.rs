//! The pictures as a manifest: whose words each was made from, and that it is synthetic.

use std::path::Path;

use anyhow::{Context, Result};
use raygen_model::model::Model;

use super::{Job, Task};
use crate::run::write_synced;

const COLUMNS: [&str; 14] = [
    "path",
    "split",
    "patient",
    "view",
    "impression",
    "labels",
    "uncertain_labels",
    "text_origin",
    "source",
    "licence",
    "prompt_of",
    "seed",
    "sample",
    "bundle_sha256",
];

/// Writes `manifest.csv`. A picture has the split and the patient of the film whose impression it was made from, so that no
/// one who splits by patient judges a model by pictures of what it learnt from.
pub(super) fn write(out: &Path, jobs: &[Job<'_>], task: &Task, model: &Model) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    table.write_record(COLUMNS)?;
    for job in jobs {
        let film = job.film;
        let view = film.view.map_or("", |view| view.name());
        table.write_record([
            &job.path(),
            &job.split.to_string(),
            film.group(),
            view,
            job.impression,
            &film.labels.names().join(";"),
            &film.uncertain.join(";"),
            film.text_origin.as_deref().unwrap_or_default(),
            &format!("synthetic: {}", task.model),
            &model.info().licence,
            &film.id,
            &job.seed.to_string(),
            &job.sample.to_string(),
            &task.bundle,
        ])?;
    }
    let path = out.join("manifest.csv");
    write_synced(&path, &table.into_inner()?).with_context(|| path.display().to_string())
}
