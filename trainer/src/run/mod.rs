//! A run directory and what every stage does with it: checkpoints, metrics, progress, sample sheets, stopping.

mod checkpoint;
mod directory;
mod metrics;
mod progress;
mod sheet;
mod stop;

pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use directory::{RunDirectory, RunDirectoryError};
pub use metrics::MetricsLog;
pub use progress::StageProgress;
pub use sheet::{SheetRow, write_sheet};
pub use stop::StopSignal;
