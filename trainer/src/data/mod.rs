//! Films and impressions as the stages need them.

mod ahead;
mod augment;
mod bad_films;
mod balance;
mod films;
mod order;
mod store;
mod view;

pub use ahead::Ahead;
pub use augment::{random_mirror, random_shift, shifted};
pub use bad_films::{BadFilm, BadFilms, OnBadFilms};
pub use balance::class_weights;
pub use films::{FilmError, FilmList, FilmSet, FilmSource, FilmText};
pub use order::FilmOrder;
pub use store::FilmPixels;
pub use view::told;
