//! What can be wrong with a bundle, by file and tensor.

use std::path::PathBuf;

use crate::config::InvalidConfig;

use super::Component;

/// A bundle that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file or directory cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that the bundle needs is not there.
    #[error("{file} is missing from the bundle{hint}")]
    MissingFile {
        /// The file.
        file: String,
        /// What needs it, in words; may be empty.
        hint: String,
    },
    /// A line of `SHA256SUMS` is not one.
    #[error("SHA256SUMS line {line}: {problem}")]
    ChecksumFile {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A file changed since the bundle was written, or did not arrive whole.
    #[error("{file} has SHA-256 {found}, but SHA256SUMS says {expected}; copy or download the bundle again")]
    Checksum {
        /// The file.
        file: String,
        /// The digest written in `SHA256SUMS`.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// `config.json` is not JSON, or lacks a field.
    #[error("config.json: {0}")]
    ConfigSyntax(#[from] serde_json::Error),
    /// `config.json` says something that cannot be.
    #[error("config.json: {0}")]
    Config(#[from] InvalidConfig),
    /// The bundle does not hold a component.
    #[error("the bundle has no {component}")]
    ComponentAbsent {
        /// The component.
        component: Component,
    },
    /// A safetensors file is cut short or damaged.
    #[error("{file} is not a complete safetensors file: {problem}")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// A tensor that the configuration asks for is not there.
    #[error("{file} has no tensor {}, which should be {expected:?}", tensor.escape_debug())]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape by the configuration.
        expected: Vec<usize>,
    },
    /// A tensor that the configuration does not ask for.
    #[error("{file} has a tensor {} of {found:?} that the configuration does not ask for", tensor.escape_debug())]
    UnexpectedTensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
    },
    /// A tensor of another shape than the configuration says.
    #[error("{file}: tensor {} is {found:?}, but the configuration says {expected:?}", tensor.escape_debug())]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape by the configuration.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor stored in a type that is not read.
    #[error("{file}: tensor {} is stored as {found}, but must be F16, BF16 or F32", tensor.escape_debug())]
    StoredType {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
    },
    /// A tensor with NaN or infinity in it.
    #[error("{file}: tensor {} holds {value} at element {index}", tensor.escape_debug())]
    NotFinite {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Which element, row-major.
        index: usize,
        /// The value: NaN or an infinity.
        value: f32,
    },
    /// A network or tensor cannot be made.
    #[error("{component}: {source}")]
    Tensor {
        /// The component.
        component: Component,
        /// What candle says.
        source: candle_core::Error,
    },
    /// A bundle's file name that is a path, or is written by the bundle itself.
    #[error("{0:?} is not a file name that a bundle can hold")]
    FileName(String),
}
