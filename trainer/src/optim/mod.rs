//! What moves the weights: AdamW with inspectable moments, warm-up and cosine or the plateau rule, clipping, a moving average.

mod adamw;
mod elementwise;
mod ema;
mod gradients;
mod plateau;
mod reduce;
mod schedule;

pub use adamw::{AdamW, StepReport};
pub use ema::MovingAverage;
pub use gradients::Gradients;
pub use plateau::Plateau;
pub use reduce::{Alone, Reduce};
pub use schedule::learning_rate;
