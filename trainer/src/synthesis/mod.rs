//! Synthetic films for a manifest's impressions: pictures, their token grids, and a manifest of them that says what each is.
//!
//! ```text
//! pictures/000002-0.png   the film of the manifest's line 2, its first sample
//! tokens.jsonl            what was asked, then a line for each picture with its grid
//! manifest.csv            at the end: the pictures as a manifest, to train on or to judge
//! ```

mod journal;
mod manifest;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use raygen_manifest::{Film, Manifest, Split, View};
use raygen_model::bundle::Bundle;
use raygen_model::image::{BitDepth, ImageFormat, Provenance, encode};
use raygen_model::model::{Condition, Model, Row};
use raygen_model::sampler::SamplingParams;
use serde::{Deserialize, Serialize};

use self::journal::{Grid, Journal};
use crate::data::told;
use crate::run::disk::sha256;
use crate::run::{RunDirectory, StageProgress, StopSignal, write_synced};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model.
    pub bundle: PathBuf,
    /// Whose impressions.
    pub manifest: PathBuf,
    /// Films of this split; all of them where there is none.
    pub split: Option<Split>,
    /// Samples of each film.
    pub samples: u32,
    /// The first so many films only.
    pub limit: Option<usize>,
    /// Pictures generated at once.
    pub batch: usize,
}

/// What decides the pictures: a folder holds those of one such task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Task {
    /// The model's name.
    model: String,
    /// SHA-256 of the bundle.
    bundle: String,
    /// SHA-256 of the manifest.
    manifest: String,
    split: Option<String>,
    samples: u32,
    limit: Option<usize>,
    sampling: SamplingParams,
}

/// A picture to be made.
#[derive(Debug, Clone)]
struct Job<'a> {
    film: &'a Film,
    split: Split,
    impression: &'a str,
    sample: u32,
    /// The seed of its film: that of the task plus the film's line, so that what else is generated makes no difference.
    seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Pictures in the folder.
    pub pictures: usize,
    /// Of them those that were there before.
    pub kept: usize,
    /// Films of the manifest without an impression, or from the side where the model has not learnt that.
    pub left_out: usize,
    /// Whether all are there; else it was asked to stop.
    pub done: bool,
}

/// Generates what `request` asks for into `out`, going on where an earlier call stopped. `change` adjusts the model's defaults
/// of sampling.
///
/// Each picture depends on the bundle, its film's line and impression, its sample's number and the sampling, and on nothing
/// else: `raygen generate IMPRESSION --seed SEED --count N` gives the same ones, with `--view` where the model knows views.
///
/// # Errors
/// Names the bundle, the manifest, the setting or the file that is wrong, or a folder that holds something else.
pub fn generate(
    request: &Request,
    change: impl FnOnce(&SamplingParams) -> Result<SamplingParams>,
    device: &Device,
    stop: &StopSignal,
    out: &Path,
) -> Result<Outcome> {
    let bundle = Bundle::open(&request.bundle)?;
    let model = Model::load(&bundle, device, DType::F32)?;
    let sampling = change(&model.info().sampling)?;
    if sampling.guidance_scale != 1.0 && !model.info().supports_guidance {
        bail!("--guidance: the model was trained without condition dropout; only 1 is possible");
    }
    let manifest = Manifest::read(&request.manifest)?;
    let task = Task {
        model: name(&bundle, &request.bundle),
        bundle: model.info().digest.clone(),
        manifest: digest(&request.manifest)?,
        split: request.split.map(|split| split.to_string()),
        samples: request.samples,
        limit: request.limit,
        sampling,
    };
    let lateral = model.info().knows_view(raygen_model::transformer::View::Lateral);
    let (jobs, left_out) = jobs(&manifest, request, lateral, task.sampling.seed);
    if jobs.is_empty() {
        bail!("{}: no film with an impression to generate from", request.manifest.display());
    }
    // Its lock: two that wrote here at once would spoil each other's files.
    let _held = RunDirectory::open(out)?;
    fs::create_dir_all(out.join("pictures")).with_context(|| out.display().to_string())?;
    let mut journal = Journal::open(out, &task)?;
    let open: Vec<&Job<'_>> = jobs.iter().filter(|job| !journal.has(&job.path())).collect();
    let kept = jobs.len() - open.len();
    let mut progress = StageProgress::new("generate", kept as u64, jobs.len() as u64, 1);
    let mut made = kept;
    for jobs in open.chunks(request.batch.max(1)) {
        if stop.raised() {
            return Ok(Outcome { pictures: made, kept, left_out, done: false });
        }
        for (job, ids) in jobs.iter().zip(make(&model, jobs, &task, out)?) {
            journal.add(Grid::of(&model, job, ids))?;
        }
        made += jobs.len();
        progress.step(made as u64, None);
    }
    manifest::write(out, &jobs, &task, &model)?;
    Ok(Outcome { pictures: made, kept, left_out, done: true })
}

/// The token grids of the pictures that were generated into `out`, by the pictures' paths in it.
///
/// # Errors
/// There are none, or the file is damaged.
pub fn grids(out: &Path) -> Result<std::collections::BTreeMap<String, Vec<u32>>> {
    journal::grids(out)
}

/// Generates and writes the pictures of `jobs`; their grids.
fn make(model: &Model, jobs: &[&Job<'_>], task: &Task, out: &Path) -> Result<Vec<Vec<u32>>> {
    let conditions: Vec<Condition> = jobs
        .iter()
        .map(|job| {
            // As in training: a film of which no view is known stands with the frontal ones.
            let view = Some(told(job.film.view)).filter(|view| model.info().knows_view(*view));
            let tokens = model.tokenize(job.impression).with_context(|| format!("film {}", job.film.id))?;
            Ok(model.condition_of_view(&tokens, view)?)
        })
        .collect::<Result<_>>()?;
    let params: Vec<SamplingParams> =
        jobs.iter().map(|job| SamplingParams { seed: job.seed, ..task.sampling.clone() }).collect();
    let mut states: Vec<_> = jobs.iter().map(|job| model.empty_state(job.sample)).collect();
    let mut rows: Vec<Row<'_>> = conditions
        .iter()
        .zip(&params)
        .zip(&mut states)
        .map(|((condition, params), state)| Row { condition, negative: None, params, state })
        .collect();
    model.generate_rows(&mut rows)?;
    let grids: Vec<&[u32]> = states.iter().map(|state| state.ids.as_slice()).collect();
    for (job, picture) in jobs.iter().zip(model.decode(&grids)?) {
        let provenance = Provenance::generated(&task.model, job.impression, job.seed, job.sample);
        let path = out.join(job.path());
        let bytes = encode(&picture, ImageFormat::Png, BitDepth::Eight, &provenance)?;
        write_synced(&path, &bytes).with_context(|| path.display().to_string())?;
    }
    Ok(states.into_iter().map(|state| state.ids).collect())
}

/// The pictures to be made, in the manifest's order, and how many films have none.
fn jobs<'a>(manifest: &'a Manifest, request: &Request, lateral: bool, seed: u64) -> (Vec<Job<'a>>, usize) {
    let wanted = manifest.films.iter().filter_map(|film| {
        let split = manifest.split_of(film);
        request.split.is_none_or(|wanted| wanted == split).then_some((film, split))
    });
    let (mut jobs, mut left_out, mut films) = (Vec::new(), 0, 0);
    for (film, split) in wanted {
        let Some(impression) = film.impression.as_deref().filter(|_| lateral || film.view != Some(View::Lateral))
        else {
            left_out += 1;
            continue;
        };
        if request.limit.is_some_and(|limit| films >= limit) {
            break;
        }
        films += 1;
        let seed = seed.wrapping_add(film.line);
        jobs.extend((0..request.samples).map(|sample| Job { film, split, impression, sample, seed }));
    }
    (jobs, left_out)
}

/// The name that a run gave the model, or the bundle's folder's.
pub(crate) fn name(bundle: &Bundle, path: &Path) -> String {
    let given = bundle.config().provenance.get("name").and_then(|name| name.as_str());
    let folder = path.file_name().map(|name| name.to_string_lossy().into_owned());
    given.map(str::to_owned).or(folder).unwrap_or_else(|| "bundle".to_owned())
}

fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(sha256(&bytes))
}

// === impl Job ===

impl Job<'_> {
    /// Where the picture lies, seen from the output folder.
    fn path(&self) -> String {
        format!("pictures/{:06}-{}.png", self.film.line, self.sample)
    }
}
