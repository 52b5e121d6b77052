//! The subcommands that have more to them than a call.

pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod generate;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod plan;
pub(crate) mod sampling;
