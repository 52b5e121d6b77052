//! Where the bundle goes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use raygen_model::bundle::{CHECKSUM_FILE, CONFIG_FILE};

use serde_json::Value;

use super::ImportFailure;

/// More bytes than the `config.json` of any bundle has.
const MAX_CONFIG: u64 = 16 << 20;

/// Refuses a target that replacing would destroy: anything there but a bundle or an empty folder. Told before hours of
/// reading, not after.
pub(super) fn check(out: &Path) -> Result<(), ImportFailure> {
    let taken = || ImportFailure::TargetTaken(out.to_owned());
    let Ok(metadata) = fs::symlink_metadata(out) else { return Ok(()) };
    if !metadata.is_dir() {
        return Err(taken());
    }
    let is_empty = || fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    if is_bundle(out) || is_empty() { Ok(()) } else { Err(taken()) }
}

/// Many folders have a `config.json` and checksums; one of ours says so itself. It may be damaged, or of another version.
fn is_bundle(out: &Path) -> bool {
    let mut config = Vec::new();
    let file = out.join(CONFIG_FILE);
    let read = file.is_file() && out.join(CHECKSUM_FILE).is_file();
    let read = read && File::open(file).is_ok_and(|file| file.take(MAX_CONFIG).read_to_end(&mut config).is_ok());
    let config = serde_json::from_slice::<Value>(&config).unwrap_or_default();
    read && config["format_version"].is_u64() && config["components"].is_object()
}
