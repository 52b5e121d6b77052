//! Films and impressions as the stages need them.

mod ahead;
mod augment;
mod bad_films;
mod films;
mod order;
mod store;

pub use ahead::Ahead;
pub use augment::{random_shift, shifted};
pub use bad_films::{BadFilm, BadFilms, OnBadFilms};
pub use films::{FilmError, FilmList, FilmSet, FilmSource, FilmText};
pub use order::FilmOrder;
pub use store::FilmPixels;
