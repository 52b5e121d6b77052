//! End to end: the real server with its embedded model, called over the wire and by the real `raygen`.

mod bad_input;
mod bad_pictures;
mod command_line;
mod damaged_bundles;
mod editing;
mod generate;
mod importing;
mod pictures;
mod round_trip;
mod score;
mod services;
mod stopping;
mod training;
