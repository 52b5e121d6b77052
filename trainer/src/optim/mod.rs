//! What moves the weights: AdamW with inspectable moments, warm-up and cosine, clipping, a moving average.

mod adamw;
mod elementwise;
mod ema;
mod schedule;

pub use adamw::{AdamW, StepReport};
pub use ema::MovingAverage;
pub use schedule::learning_rate;
