//! What the end-to-end tests share: the real programs, a server of one's own, the wire, and bundles to damage.
//!
//! Nothing here reaches into the programs: a test sees what a user sees.

#![forbid(unsafe_code)]

mod bundles;
mod programs;
mod server;
mod wire;

use std::path::{Path, PathBuf};

pub use bundles::{BundleCopy, StoredTensor};
pub use programs::{Ran, raygen, raygen_with, trainer};
pub use server::Server;
pub use wire::{Generated, Refused, Wire, impression};

/// Whatever goes wrong in a test.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What a test returns.
pub type TestResult<T = ()> = Result<T, Failure>;

/// A path in the repository.
pub fn repository(path: impl AsRef<Path>) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join(path)
}
