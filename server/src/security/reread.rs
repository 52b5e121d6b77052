//! Files that may change while the server runs: read again and again; a bad new one is said once, and the old one stays.

use std::sync::Arc;
use std::time::Duration;

/// Something that came from files and can come from them again.
pub(crate) trait Reread: Send + Sync {
    /// What it is, for the log.
    fn what(&self) -> &'static str;

    /// Reads the files again. True when they gave something new, which is in force from now on; what they held before
    /// stays in force otherwise.
    ///
    /// # Errors
    /// The files changed and cannot be used. Said once for each change.
    fn reread(&self) -> Result<bool, String>;
}

/// Reads again every `period`, for ever.
///
/// By content and not by a watch of the file system: the files are small, and mounted secrets change by a swap of links
/// that watches of single files miss.
pub(crate) async fn keep_reading(sources: Vec<Arc<dyn Reread>>, period: Duration) {
    if sources.is_empty() {
        return;
    }
    let sources: Arc<[_]> = sources.into();
    loop {
        tokio::time::sleep(period).await;
        let sources = Arc::clone(&sources);
        let round = tokio::task::spawn_blocking(move || {
            for source in sources.iter() {
                match source.reread() {
                    Ok(true) => tracing::info!(what = source.what(), "read again; the new ones are in force"),
                    Ok(false) => {}
                    Err(problem) => {
                        tracing::error!(what = source.what(), problem, "changed and cannot be used; the old ones stay");
                    }
                }
            }
        });
        if round.await.is_err() {
            tracing::error!("reading certificates and keys again panicked; this is a bug of the server");
        }
    }
}
