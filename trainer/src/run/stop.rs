//! Ctrl-C and SIGTERM ask a stage to save and stop; a second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;

/// What a shell expects of a program that was interrupted.
const INTERRUPTED: i32 = 130;

/// Whether somebody asked to stop. Cloning shares the flag.
#[derive(Debug, Clone, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// A flag that SIGINT, SIGTERM and SIGQUIT set; the second such signal ends the process.
    ///
    /// # Errors
    /// Where a signal handler cannot be installed.
    pub fn install() -> io::Result<Self> {
        let signal = Self::default();
        for number in TERM_SIGNALS {
            // In this order: the first signal finds the flag down and only raises it.
            flag::register_conditional_shutdown(*number, INTERRUPTED, Arc::clone(&signal.0))?;
            flag::register(*number, Arc::clone(&signal.0))?;
        }
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
