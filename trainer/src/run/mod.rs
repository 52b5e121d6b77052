//! A run directory and what every stage does with it: checkpoints, metrics and curves, progress, sample sheets, stopping,
//! going back after a failure.

mod checkpoint;
mod curves;
mod directory;
pub(crate) mod disk;
mod guard;
mod journal;
pub(crate) mod memory;
mod metrics;
mod progress;
mod sheet;
mod stop;
mod tensorboard;
mod waits;

pub use checkpoint::{Checkpoint, CheckpointError, Checkpoints};
pub use directory::{RunDirectory, RunDirectoryError};
pub(crate) use disk::write_synced;
pub use guard::{Failure, Guard};
pub use journal::{Journal, Pace, Subject};
pub use metrics::MetricsLog;
pub use progress::StageProgress;
pub(crate) use progress::minutes;
pub use sheet::{SheetRow, write_sheet};
pub use stop::StopSignal;
pub use waits::Waits;
