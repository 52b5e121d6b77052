//! Finds and loads bundles: the embedded one, one directory, or `DIR/{model}/{version}/`.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use raygen_model::bundle::{Bundle, BundleError, CONFIG_FILE};
use raygen_model::model::{Model, ModelError};

use super::real::RealModel;
use super::{Placement, Repository, Standing};
use crate::engine::{LoadedModel, ModelFault};

/// Name of the model that is compiled in.
const EMBEDDED_NAME: &str = "models/default/versions/1";

/// Why there is nothing to serve.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Built without a model, and none was given.
    #[error("no model is built into this server; give one with --models DIR")]
    NothingEmbedded,
    /// A directory cannot be read.
    #[error("--models: {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory without bundles.
    #[error(
        "--models: {0} holds no bundle; it must be a bundle (with a config.json) or hold {{model}}/{{version}}/ directories \
         that are"
    )]
    NoBundle(PathBuf),
    /// The only bundle is bad.
    #[error("{name} cannot be loaded from {source_name}: {error}")]
    Bundle {
        /// The model.
        name: String,
        /// Where from.
        source_name: String,
        /// What is wrong, by file and tensor.
        error: Box<BundleProblem>,
    },
    /// Every bundle is bad.
    #[error("--models: none of the bundles in {path} can be loaded: {reasons}")]
    AllBad {
        /// The directory.
        path: PathBuf,
        /// Each with its reason.
        reasons: String,
    },
}

/// What is wrong with a bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleProblem {
    /// A file or a tensor.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It fails when it is run.
    #[error("the first run failed: {0}")]
    WarmUp(#[from] ModelFault),
}

/// Loads and warms up what there is: `directory`, or the embedded model.
///
/// # Errors
/// There is nothing that can serve.
pub fn load(directory: Option<&Path>, placement: &Placement) -> Result<Repository, LoadError> {
    match directory {
        None => embedded(placement),
        Some(directory) if directory.join(CONFIG_FILE).is_file() => single(directory, placement),
        Some(directory) => several(directory, placement),
    }
}

fn embedded(placement: &Placement) -> Result<Repository, LoadError> {
    let files = raygen_embedded::files();
    if files.is_empty() {
        return Err(LoadError::NothingEmbedded);
    }
    let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes))).collect();
    let loaded = Bundle::from_bytes(files)
        .map_err(|error| Box::new(BundleProblem::from(error)))
        .and_then(|bundle| start(EMBEDDED_NAME, &bundle, placement));
    match loaded {
        Ok(model) => Ok(Repository::of([model])),
        Err(error) => {
            Err(LoadError::Bundle { name: EMBEDDED_NAME.to_owned(), source_name: "the program".to_owned(), error })
        }
    }
}

fn single(directory: &Path, placement: &Placement) -> Result<Repository, LoadError> {
    // `.` and `..` have no name of their own before they are resolved.
    let resolved = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let model = resolved.file_name().and_then(|name| name.to_str()).map_or_else(|| "model".to_owned(), segment);
    let name = format!("models/{model}/versions/1");
    match open(&name, directory, placement) {
        Ok(model) => Ok(Repository::of([model])),
        Err(error) => Err(LoadError::Bundle { name, source_name: directory.display().to_string(), error }),
    }
}

fn several(directory: &Path, placement: &Placement) -> Result<Repository, LoadError> {
    let mut repository = Repository::default();
    let mut reasons = Vec::new();
    for model in subdirectories(directory)? {
        for version in subdirectories(&model)? {
            let (Some(model_name), Some(version_name)) = (model.file_name(), version.file_name()) else {
                continue;
            };
            let name = format!(
                "models/{}/versions/{}",
                segment(&model_name.to_string_lossy()),
                segment(&version_name.to_string_lossy())
            );
            match open(&name, &version, placement) {
                Ok(model) => repository.insert(name, Standing::Ready(model.into())),
                Err(error) => {
                    tracing::error!(model = name, directory = %version.display(), %error, "a model cannot be loaded");
                    reasons.push(format!("{}: {error}", version.display()));
                    repository.insert(name, Standing::Failed(error.to_string()));
                }
            }
        }
    }
    if repository.ready().next().is_some() {
        Ok(repository)
    } else if reasons.is_empty() {
        Err(LoadError::NoBundle(directory.to_owned()))
    } else {
        Err(LoadError::AllBad { path: directory.to_owned(), reasons: reasons.join("; ") })
    }
}

fn open(name: &str, directory: &Path, placement: &Placement) -> Result<LoadedModel, Box<BundleProblem>> {
    let bundle = Bundle::open(directory).map_err(BundleProblem::from)?;
    start(name, &bundle, placement)
}

fn start(name: &str, bundle: &Bundle, placement: &Placement) -> Result<LoadedModel, Box<BundleProblem>> {
    let model = Model::load(bundle, &placement.device, placement.dtype).map_err(BundleProblem::from)?;
    let loaded = LoadedModel::new(name, RealModel::new(model));
    loaded.warm_up().map_err(BundleProblem::from)?;
    Ok(loaded)
}

/// Directories in a directory, sorted; hidden ones (half-written bundles among them) are passed over.
fn subdirectories(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Directory { path: directory.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// A directory's name as a segment of a resource name.
fn segment(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '~') { c } else { '-' };
    name.chars().map(plain).collect()
}
