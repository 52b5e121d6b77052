//! Which file of a folder is what.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::{ImportError, small_file::read_optional};

/// Weight files in the order in which they are looked for.
const WEIGHT_FILES: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Weights of other programs, to say what was found instead.
const FOREIGN_WEIGHT_FILES: [&str; 6] = [
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
    "bert_model.ckpt.index",
    "model.onnx",
];

/// One entry of sentence-transformers' `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    class: String,
    path: String,
}

/// The folder of the encoder itself: sentence-transformers may keep it in `0_Transformer`, as its `modules.json` says.
pub(super) fn encoder_folder(folder: &Path) -> Result<PathBuf, ImportError> {
    let path = folder.join("modules.json");
    let Some(text) = read_optional(&path)? else { return Ok(folder.to_owned()) };
    let modules: Vec<Module> = serde_json::from_str(&text)
        .map_err(|error| ImportError::unreadable(&path, format!("is not a list of modules: {error}")))?;
    let is_encoder = |class: &str| class.ends_with(".Transformer") || class.ends_with(".BERT");
    let Some(module) = modules.into_iter().find(|module| is_encoder(&module.class)) else {
        return Err(ImportError::unreadable(&path, "names no module of type Transformer; expected a BERT"));
    };
    if Path::new(&module.path).components().any(|part| !matches!(part, Component::Normal(_))) {
        let problem = format!("`{}` is not a folder within this one", module.path);
        return Err(ImportError::field(&path, "path", problem));
    }
    Ok(if module.path.is_empty() { folder.to_owned() } else { folder.join(module.path) })
}

/// The file of weights.
pub(super) fn weight_file(folder: &Path) -> Result<PathBuf, ImportError> {
    WEIGHT_FILES
        .into_iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| absent(folder, &WEIGHT_FILES, &FOREIGN_WEIGHT_FILES))
}

/// The error for a folder with none of the files that would do; `foreign` are files that others would have used.
pub(super) fn absent(folder: &Path, wanted: &[&str], foreign: &[&str]) -> ImportError {
    let found: Vec<&str> = foreign.iter().copied().filter(|name| folder.join(name).exists()).collect();
    let mut problem = format!("holds neither {}", wanted.join(" nor "));
    if !found.is_empty() {
        problem += &format!("; it holds {}, which can't be read here", found.join(", "));
    }
    ImportError::unreadable(folder, problem)
}
