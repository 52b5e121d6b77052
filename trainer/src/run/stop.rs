//! Ctrl-C and SIGTERM ask a stage to save and stop; a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether somebody asked to stop. Cloning shares the flag.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// A flag that SIGINT, SIGTERM and SIGHUP set.
    ///
    /// # Errors
    /// Where the signal handler cannot be installed.
    pub fn install() -> Result<Self, ctrlc::Error> {
        let signal = Self::default();
        let flag = signal.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping after this step and saving; once more to end at once (the last checkpoint stays)");
        })?;
        Ok(signal)
    }

    /// Asks to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether to stop.
    #[must_use]
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
