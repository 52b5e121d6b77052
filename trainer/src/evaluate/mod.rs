//! Judges models, or pictures from anywhere, against real films: numbers with intervals and protocols, sheets to look at, one report.
//!
//! ```text
//! index.html, report.json, measurements.csv    the report
//! sheets/                                      its pictures
//! sets/NAME/                                   the pictures that were generated for it; an interrupted evaluation goes on
//! ```

mod extract;
mod measure;
mod memorisation;
mod pictures;
mod report;
mod sheets;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use raygen_eval::memorisation::Thumbnails;
use raygen_eval::statistics::{Bootstrap, Units};
use raygen_eval::{GrayImage, Measurement, Metric, psnr_capped};
use raygen_manifest::Split;
use raygen_model::bundle::Bundle;
use raygen_model::model::Model;
use raygen_model::sampler::SamplingParams;

use self::extract::{Classifier, Seen};
use self::memorisation::{Found, Sets, Space};
use self::pictures::PictureSet;
use self::report::{Report, SetReport, Sheet};
use crate::run::StopSignal;
use crate::synthesis;

/// Pictures encoded at once.
const BATCH: usize = 16;

/// What is to be judged, and by what.
#[derive(Debug, Clone)]
pub struct Request {
    /// Models, to generate from.
    pub bundles: Vec<PathBuf>,
    /// Folders of pictures: with a `manifest.csv`, or else any pictures.
    pub images: Vec<PathBuf>,
    /// The real films.
    pub manifest: PathBuf,
    /// The split whose films are compared with.
    pub split: Split,
    /// Pictures of each impression.
    pub samples: u32,
    /// The first so many films' impressions only.
    pub limit: Option<usize>,
    /// The bundle whose classifier looks; without one, that of the first bundle that has one.
    pub classifier: Option<PathBuf>,
    /// Side of the pictures that are compared, where no model says it.
    pub image_size: usize,
    /// Seed of what is drawn: bootstraps, halves, pairs.
    pub seed: u64,
}

/// A set of pictures on its way through the evaluation.
struct Candidate {
    name: String,
    set: PictureSet,
    model: Option<Model>,
    sampling: Option<SamplingParams>,
    /// The grids that it was generated as, by picture.
    grids: BTreeMap<String, Vec<u32>>,
}

/// Real films as a model's tokenizer sees them.
struct RealGrids {
    held_out: Vec<u32>,
    training: Vec<u32>,
    positions: usize,
}

/// Judges what `request` names and writes the report to `out`; `change` adjusts each model's defaults of sampling. False where
/// it was asked to stop.
///
/// # Errors
/// Names the bundle, the film or the file that is wrong.
pub fn evaluate(
    request: &Request,
    change: impl Fn(&SamplingParams) -> Result<SamplingParams>,
    device: &Device,
    stop: &StopSignal,
    out: &Path,
) -> Result<bool> {
    if request.bundles.is_empty() && request.images.is_empty() {
        bail!("nothing to judge: give a bundle, or --images DIR");
    }
    // What is wrong is said before hours of generating, not after.
    let classifier = classifier(request, device)?;
    for split in [request.split, Split::Train] {
        PictureSet::list(&request.manifest, Some(split), request.image_size)?;
    }
    let Some(candidates) = candidates(request, &change, device, stop, out)? else { return Ok(false) };
    let side = candidates.first().map_or(request.image_size, |candidate| candidate.set.side);
    if let Some(other) = candidates.iter().find(|candidate| candidate.set.side != side) {
        bail!("{} has pictures of {} px, others of {side} px; judge them one by one", other.name, other.set.side);
    }
    let held_out = PictureSet::list(&request.manifest, Some(request.split), side)?.hold()?;
    let training = PictureSet::list(&request.manifest, Some(Split::Train), side)?;
    let look = |set: &PictureSet, what| classifier.as_ref().map(|seer| seer.look(set, what)).transpose();
    let seen = look(&held_out, "films")?;
    let seen_training = look(&training, "training films")?;
    let thumbnails = (thumbnails(&held_out)?, thumbnails(&training)?);

    let mut real = Vec::new();
    if let (Some(classifier), Some(seen)) = (&classifier, &seen) {
        let what = "the classifier on real films, their own labels";
        real.extend(measure::agreement(classifier, seen, &held_out, what, request.seed)?);
        real.push(measure::inception(classifier, seen, &held_out, request.seed));
    }
    let mut sets = Vec::new();
    for candidate in &candidates {
        eprintln!("judging {}", candidate.name);
        let set = &candidate.set;
        let mut measurements = Vec::new();
        let looked = look(set, "pictures")?;
        if let (Some(classifier), Some(seen), Some(looked)) = (&classifier, &seen, &looked) {
            measurements.extend(measure::distances(seen, &held_out, looked, set, request.seed)?);
            let what = "the classifier on generated pictures, the labels that were asked for";
            measurements.extend(measure::agreement(classifier, looked, set, what, request.seed)?);
            measurements.push(measure::inception(classifier, looked, set, request.seed));
        }
        measurements.extend(measure::likeness(&held_out, set, request.seed)?);
        let grids = candidate.model.as_ref().map(|model| real_grids(model, &held_out, &training)).transpose()?;
        if let (Some(model), Some(grids)) = (&candidate.model, &grids) {
            measurements.push(reconstruction(model, grids, &held_out, request.seed)?);
        }
        // Training films are no measure of how near fresh films are to training films.
        let fresh = request.split != Split::Train;
        let all = Sets { generated: set, held_out: &held_out, training: &training };
        let features = looked.as_ref().zip(seen.as_ref()).zip(seen_training.as_ref());
        let found = match fresh {
            true => memorisation(candidate, &all, &thumbnails, grids.as_ref(), features)?,
            false => Vec::new(),
        };
        measurements.extend(found.iter().filter_map(|space| space.measurement.clone()));
        let sheets = draw(candidate, &all, &found, out)?;
        sets.push(SetReport {
            name: candidate.name.clone(),
            pictures: set.len(),
            prompts: set.prompts().len(),
            sampling: candidate.sampling.clone(),
            measurements,
            memorisation: found,
            sheets,
            notices: notices(request, set, &held_out, classifier.is_some()),
        });
    }
    let report = Report {
        data: request.manifest.display().to_string(),
        split: request.split.to_string(),
        films: held_out.len(),
        patients: Units::groups(&held_out.groups()).count(),
        training_films: training.len(),
        extractor: classifier.as_ref().map(|classifier| classifier.extractor().to_string()),
        trainer: concat!("raygen-trainer ", env!("CARGO_PKG_VERSION")),
        seed: request.seed,
        real,
        sets,
    };
    report.write(out)?;
    Ok(true)
}

/// The pictures of every model and folder; none where it was asked to stop while it generated.
fn candidates(
    request: &Request,
    change: &impl Fn(&SamplingParams) -> Result<SamplingParams>,
    device: &Device,
    stop: &StopSignal,
    out: &Path,
) -> Result<Option<Vec<Candidate>>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let unique = |candidates: &[Candidate], name: &str| {
        let taken = |name: &str| candidates.iter().any(|candidate| candidate.name == name);
        if !taken(name) {
            return name.to_owned();
        }
        (2..).map(|number| format!("{name} ({number})")).find(|name| !taken(name)).unwrap_or_default()
    };
    for path in &request.bundles {
        let bundle = Bundle::open(path)?;
        let name = unique(&candidates, &synthesis::name(&bundle, path));
        let folder = out.join("sets").join(file_name(&name));
        let generation = synthesis::Request {
            bundle: path.clone(),
            manifest: request.manifest.clone(),
            split: Some(request.split),
            samples: request.samples,
            limit: request.limit,
            batch: BATCH,
        };
        eprintln!("generating with {name}");
        if !synthesis::generate(&generation, change, device, stop, &folder)?.done {
            return Ok(None);
        }
        let model = Model::load(&bundle, device, DType::F32)?;
        candidates.push(Candidate {
            name,
            set: PictureSet::of_folder(&folder, model.info().image_size)?,
            sampling: Some(change(&model.info().sampling)?),
            grids: synthesis::grids(&folder)?,
            model: Some(model),
        });
    }
    let side = candidates.first().map_or(request.image_size, |candidate| candidate.set.side);
    for folder in &request.images {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = unique(&candidates, &name.unwrap_or_else(|| folder.display().to_string()));
        let set = PictureSet::of_folder(folder, side)?;
        candidates.push(Candidate { name, set, model: None, sampling: None, grids: BTreeMap::new() });
    }
    Ok(Some(candidates))
}

fn classifier(request: &Request, device: &Device) -> Result<Option<Classifier>> {
    let paths: Vec<&PathBuf> = match &request.classifier {
        Some(path) => vec![path],
        None => request.bundles.iter().collect(),
    };
    for path in paths {
        let bundle = Bundle::open(path)?;
        if let Some(classifier) = Classifier::of(&bundle, &synthesis::name(&bundle, path), device)? {
            return Ok(Some(classifier));
        }
        if request.classifier.is_some() {
            bail!("--classifier {}: the bundle has no classifier", path.display());
        }
    }
    eprintln!("no classifier: no FID, KID, precision and recall, and no AUROC; give --classifier BUNDLE");
    Ok(None)
}

fn thumbnails(set: &PictureSet) -> Result<Thumbnails> {
    let mut thumbnails = Thumbnails::default();
    for places in (0..set.len()).collect::<Vec<_>>().chunks(BATCH) {
        for picture in set.pictures(places)? {
            thumbnails.push(&GrayImage::new(picture.width, picture.height, &picture.pixels)?);
        }
    }
    Ok(thumbnails)
}

fn real_grids(model: &Model, held_out: &PictureSet, training: &PictureSet) -> Result<RealGrids> {
    let encode = |set: &PictureSet| -> Result<Vec<u32>> {
        let mut ids = Vec::with_capacity(set.len() * model.info().positions());
        for places in (0..set.len()).collect::<Vec<_>>().chunks(BATCH) {
            let pictures = set.pictures(places)?;
            ids.extend(model.encode(&pictures.iter().collect::<Vec<_>>())?.concat());
        }
        Ok(ids)
    };
    Ok(RealGrids { held_out: encode(held_out)?, training: encode(training)?, positions: model.info().positions() })
}

/// What the tokenizer makes of films: PSNR.
fn reconstruction(model: &Model, grids: &RealGrids, films: &PictureSet, seed: u64) -> Result<Measurement> {
    let mut values = Vec::with_capacity(films.len());
    let all: Vec<&[u32]> = grids.held_out.chunks_exact(grids.positions).collect();
    for (batch, grids) in all.chunks(BATCH).enumerate() {
        for (place, picture) in model.decode(grids)?.into_iter().enumerate() {
            let film = films.picture(batch * BATCH + place)?;
            let film = GrayImage::new(film.width, film.height, &film.pixels)?;
            values.push(psnr_capped(&film, &GrayImage::new(picture.width, picture.height, &picture.pixels)?)?);
        }
    }
    let bootstrap = Bootstrap { seed, ..Bootstrap::default() };
    let (mean, interval) = bootstrap.mean(&values, &Units::groups(&films.groups()))?;
    let protocol = "mean over films of the PSNR of their reconstruction, pixels in [0, 1]";
    Ok(Measurement::new(Metric::ReconstructionPsnr, mean, protocol, values.len() as u64).with_interval(interval))
}

fn memorisation(
    candidate: &Candidate,
    sets: &Sets<'_>,
    (held_out, training): &(Thumbnails, Thumbnails),
    grids: Option<&RealGrids>,
    features: Option<((&Seen, &Seen), &Seen)>,
) -> Result<Vec<Found>> {
    let generated = thumbnails(sets.generated)?;
    let mut found = vec![Space::Pixels { generated: &generated, held_out, training }.judge(sets)?];
    if let Some(grids) = grids {
        let missing = || format!("{}: a picture has no grid in tokens.jsonl", candidate.name);
        let ids: Vec<&Vec<u32>> = sets
            .generated
            .items
            .iter()
            .map(|item| candidate.grids.get(&item.id).with_context(missing))
            .collect::<Result<_>>()?;
        let ids: Vec<u32> = ids.into_iter().flatten().copied().collect();
        let RealGrids { held_out, training, positions } = grids;
        found.push(Space::Tokens { generated: &ids, held_out, training, positions: *positions }.judge(sets)?);
    }
    if let Some(((looked, held_out), training)) = features {
        let space =
            Space::Features { generated: &looked.features, held_out: &held_out.features, training: &training.features };
        found.push(space.judge(sets)?);
    }
    Ok(found)
}

fn draw(candidate: &Candidate, sets: &Sets<'_>, found: &[Found], out: &Path) -> Result<Vec<Sheet>> {
    let mut drawn = Vec::new();
    let file = |kind: &str| format!("sheets/{}-{kind}.png", file_name(&candidate.name));
    let classes = file("classes");
    if sheets::classes(sets.held_out, sets.generated, &out.join(&classes))? {
        drawn.push(Sheet { title: "Films and generated pictures of each class", file: classes });
    }
    let asked = sets.generated.items.iter().find_map(|item| item.impression.as_deref());
    if let (Some(model), Some(impression), Some(params)) = (&candidate.model, asked, &candidate.sampling) {
        let emergence = file("emergence");
        sheets::emergence(model, impression, params, &out.join(&emergence))?;
        drawn.push(Sheet { title: "One picture from the first step to the last", file: emergence });
    }
    for space in found {
        let suspects = file(&format!("nearest-{}", space.space));
        sheets::suspects(sets, space, &out.join(&suspects))?;
        drawn.push(Sheet { title: "The pictures nearest to training films, above those films", file: suspects });
    }
    Ok(drawn)
}

/// A name as that of a file: one from a bundle may be anything.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || " -_()".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}

/// What a reader of the numbers must know.
fn notices(request: &Request, set: &PictureSet, films: &PictureSet, classifier: bool) -> Vec<String> {
    let mut notices = Vec::new();
    let mut say = |text: &str| notices.push(text.to_owned());
    if !classifier {
        say("No classifier was given: there is no FID, KID, precision, recall or AUROC. Give --classifier BUNDLE.");
    }
    if request.split == Split::Train {
        say("The films compared with are those that models learn from: nothing is said of memorisation.");
    }
    let prompts = set.items.iter().filter_map(|item| item.prompt.as_deref()).collect::<std::collections::BTreeSet<_>>();
    if !prompts.is_empty() && prompts.len() < films.len() {
        let (prompts, films) = (prompts.len(), films.len());
        say(&format!(
            "The pictures are of {prompts} films' impressions, the films that they are compared with {films}: distances also tell that."
        ));
    }
    if set.items.iter().all(|item| item.labels.class_flags().is_none()) {
        say("The pictures have no labels: what was asked for cannot be compared with what is seen.");
    }
    notices
}
