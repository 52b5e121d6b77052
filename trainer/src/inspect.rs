//! What a bundle or a checkpoint holds: networks, tensors, counts, types, checksums, and where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use raygen_model::bundle::{Bundle, BundleError, CHECKSUM_FILE, CONFIG_FILE};
use raygen_model::import::{self, Architecture, Element, ImportError, TensorInfo};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::import::checksum;

/// Weights in a folder as Hugging Face has it.
const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// More bytes than a configuration has.
const MAX_CONFIG: u64 = 16 << 20;

/// Why something cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The bundle is damaged.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The bundle.
        path: PathBuf,
        /// What is wrong.
        source: Box<BundleError>,
    },
    /// A folder that is none of those that can be looked into.
    #[error(
        "{}: is neither a bundle ({CONFIG_FILE}, {CHECKSUM_FILE}) nor a folder with {}; give a file in it",
        path.display(),
        WEIGHT_FILES.join(" or ")
    )]
    Folder {
        /// The folder.
        path: PathBuf,
    },
    /// The file is not one of tensors.
    #[error(transparent)]
    File(#[from] ImportError),
    /// Something cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What there is. The names of its fields, in JSON too, stay as they are.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// What was looked into, as it was given.
    pub path: PathBuf,
    /// `bundle`, `folder` (as Hugging Face has it), `safetensors` or `pytorch`.
    pub kind: &'static str,
    /// SHA-256 in lower-case hexadecimal: of the file, of the bundle's `SHA256SUMS`, or of the folder's first weights.
    pub sha256: String,
    /// Tensors in all.
    pub tensor_count: usize,
    /// Elements of all floating-point tensors; integer tensors are buffers.
    pub parameter_count: u64,
    /// How many tensors have which type.
    pub dtypes: BTreeMap<String, usize>,
    /// The files of tensors: one, those of a bundle's networks, or those of a folder.
    pub files: Vec<TensorFile>,
    /// A bundle's `config.json` without its networks and its provenance, or a folder's; absent for a single file.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Where a bundle came from; absent for a single file.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub provenance: Map<String, Value>,
}

/// A file of tensors.
#[derive(Debug, Serialize)]
pub struct TensorFile {
    /// The file's name.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// The component of the bundle that it is; null for a single file.
    pub component: Option<&'static str>,
    /// What the tensors' names say: `raygen_transformer`, `vqgan`, `gumbel_vqgan`, `bert`, `densenet121`, or null.
    pub architecture: Option<&'static str>,
    /// The component's part of `config.json`; null for a single file.
    pub config: Value,
    /// Elements of its floating-point tensors.
    pub parameter_count: u64,
    /// Its tensors by name.
    pub tensors: Vec<TensorRow>,
}

/// A tensor.
#[derive(Debug, Serialize)]
pub struct TensorRow {
    /// Its name in the file.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Type of its elements: `f32`, `f16`, `bf16`, `f64`, `i64`, ...
    pub dtype: String,
}

/// Looks into a bundle (whose checksums are verified), a folder as Hugging Face has it, or a file of tensors.
///
/// # Errors
/// The path cannot be read, the bundle is damaged, or the file is none of tensors.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let weights: Vec<PathBuf> = WEIGHT_FILES.iter().map(|name| path.join(name)).filter(|path| path.is_file()).collect();
    if !path.is_dir() {
        inspect_file(path)
    } else if path.join(CHECKSUM_FILE).exists() || weights.is_empty() {
        inspect_bundle(path)
    } else {
        inspect_folder(path, &weights)
    }
}

/// A folder as Hugging Face has it. Its sum is that of its weights.
fn inspect_folder(path: &Path, weights: &[PathBuf]) -> Result<Inspection, InspectError> {
    let files = weights.iter().map(|path| tensor_file(path, None, Value::Null)).collect::<Result<Vec<_>, _>>()?;
    let sha256 = files.first().map(|file| file.sha256.clone()).unwrap_or_default();
    let mut inspection = Inspection::new(path, "folder", sha256, files);
    // Tensors can be told without a configuration, and with one that is damaged.
    let mut text = Vec::new();
    let read =
        File::open(path.join(CONFIG_FILE)).is_ok_and(|file| file.take(MAX_CONFIG).read_to_end(&mut text).is_ok());
    if read && let Ok(Value::Object(config)) = serde_json::from_slice(&text) {
        inspection.config = config;
    }
    Ok(inspection)
}

fn inspect_file(path: &Path) -> Result<Inspection, InspectError> {
    let file = tensor_file(path, None, Value::Null)?;
    let kind = if is_safetensors(path)? { "safetensors" } else { "pytorch" };
    Ok(Inspection::new(path, kind, file.sha256.clone(), vec![file]))
}

/// Whether a file of tensors, which this is, begins as safetensors do: eight bytes of length, then JSON.
fn is_safetensors(path: &Path) -> Result<bool, InspectError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(9).read_to_end(&mut start));
    read.map_err(|source| InspectError::Io { path: path.to_owned(), source })?;
    Ok(start.last() == Some(&b'{'))
}

fn inspect_bundle(path: &Path) -> Result<Inspection, InspectError> {
    if [CONFIG_FILE, CHECKSUM_FILE].iter().all(|name| !path.join(name).exists()) {
        return Err(InspectError::Folder { path: path.to_owned() });
    }
    let damaged = |error| InspectError::Bundle { path: path.to_owned(), source: Box::new(error) };
    let bundle = Bundle::open(path).map_err(damaged)?;
    let config = serde_json::to_value(bundle.config()).map_err(|error| damaged(error.into()))?;
    let mut config = config.as_object().cloned().unwrap_or_default();
    let components = config.remove("components").unwrap_or_default();
    let provenance = config.remove("provenance").unwrap_or_default();
    let mut files = Vec::new();
    for component in bundle.config().components.present() {
        let config = components.get(component.name()).cloned().unwrap_or_default();
        files.push(tensor_file(&path.join(component.file()), Some(component.name()), config)?);
    }
    let mut inspection = Inspection::new(path, "bundle", bundle.digest().to_owned(), files);
    inspection.config = config;
    inspection.provenance = provenance.as_object().cloned().unwrap_or_default();
    Ok(inspection)
}

fn tensor_file(path: &Path, component: Option<&'static str>, config: Value) -> Result<TensorFile, InspectError> {
    let tensors = import::list_tensors(path)?;
    let (bytes, sha256) = checksum(path).map_err(|source| InspectError::Io { path: path.to_owned(), source })?;
    let architecture = Architecture::of(tensors.iter().map(|tensor| tensor.name.as_str())).map(Architecture::id);
    Ok(TensorFile {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes,
        sha256,
        component,
        architecture,
        config,
        parameter_count: tensors.iter().map(parameters).sum(),
        tensors: tensors
            .into_iter()
            .map(|TensorInfo { name, shape, dtype }| TensorRow { name, shape, dtype: dtype.as_str().to_owned() })
            .collect(),
    })
}

fn parameters(tensor: &TensorInfo) -> u64 {
    if matches!(tensor.dtype, Element::F16 | Element::Bf16 | Element::F32 | Element::F64) {
        tensor.shape.iter().map(|&side| side as u64).product()
    } else {
        0
    }
}

impl Inspection {
    fn new(path: &Path, kind: &'static str, sha256: String, files: Vec<TensorFile>) -> Self {
        let mut dtypes = BTreeMap::new();
        for tensor in files.iter().flat_map(|file| &file.tensors) {
            *dtypes.entry(tensor.dtype.clone()).or_default() += 1;
        }
        Self {
            path: path.to_owned(),
            kind,
            sha256,
            tensor_count: files.iter().map(|file| file.tensors.len()).sum(),
            parameter_count: files.iter().map(|file| file.parameter_count).sum(),
            dtypes,
            files,
            config: Map::new(),
            provenance: Map::new(),
        }
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<String> = self.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
        writeln!(f, "{}: {}", self.path.display(), self.kind)?;
        writeln!(f, "{} tensors ({}), {} parameters", self.tensor_count, types.join(", "), self.parameter_count)?;
        writeln!(f, "sha256 {}", self.sha256)?;
        for (title, fields) in [("config", &self.config), ("provenance", &self.provenance)] {
            for (name, value) in fields {
                writeln!(f, "{title}.{name}: {value}")?;
            }
        }
        for file in &self.files {
            let what = file.component.or(file.architecture).unwrap_or("of no architecture that is known here");
            writeln!(f, "\n{}: {what}, {} bytes, {} parameters", file.file, file.bytes, file.parameter_count)?;
            writeln!(f, "sha256 {}", file.sha256)?;
            if !file.config.is_null() {
                writeln!(f, "config: {}", file.config)?;
            }
            // Names come from the file: control characters stay out of terminals.
            let names: Vec<String> = file.tensors.iter().map(|tensor| tensor.name.escape_debug().to_string()).collect();
            let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
            for (name, tensor) in names.iter().zip(&file.tensors) {
                writeln!(f, "  {name:width$}  {:5} {}", tensor.dtype, json!(tensor.shape))?;
            }
        }
        Ok(())
    }
}
