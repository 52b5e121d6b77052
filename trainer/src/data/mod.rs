//! Films and impressions as the stages need them.

mod augment;
mod balance;
mod films;
mod order;
mod view;

pub use augment::{random_mirror, random_shift, shifted};
pub use balance::class_weights;
pub use films::{FilmError, FilmList, FilmSet, FilmText};
pub use order::FilmOrder;
pub use view::told;
