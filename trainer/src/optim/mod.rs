//! What moves the weights: AdamW with inspectable moments, warm-up and cosine or the plateau rule, clipping, a moving average.

mod adamw;
mod elementwise;
mod ema;
mod gradients;
mod meeting;
#[cfg(feature = "nccl")]
mod nccl;
mod plateau;
mod reduce;
mod schedule;
mod threads;

pub use adamw::{AdamW, StepReport};
pub use ema::MovingAverage;
pub use gradients::Gradients;
pub use meeting::Meeting;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use plateau::Plateau;
pub use reduce::{Alone, RankError, Reduce, Word};
pub use schedule::learning_rate;
pub use threads::Threads;
