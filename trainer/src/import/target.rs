//! Where the bundle goes.

use std::fs;
use std::path::Path;

use raygen_model::bundle::{CHECKSUM_FILE, CONFIG_FILE};

use super::ImportFailure;

/// Refuses a target that replacing would destroy: anything there but a bundle or an empty folder. Told before hours of
/// reading, not after.
pub(super) fn check(out: &Path) -> Result<(), ImportFailure> {
    let taken = || ImportFailure::TargetTaken(out.to_owned());
    let Ok(metadata) = fs::symlink_metadata(out) else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(taken());
    }
    let is_bundle = [CONFIG_FILE, CHECKSUM_FILE].iter().all(|name| out.join(name).is_file());
    let is_empty = || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if is_bundle || is_empty() { Ok(()) } else { Err(taken()) }
}
