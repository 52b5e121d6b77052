//! Films and impressions as the stages need them.

mod augment;
mod films;
mod order;

pub use augment::{random_mirror, random_shift, shifted};
pub use films::{FilmError, FilmList, FilmSet, FilmText};
pub use order::FilmOrder;
