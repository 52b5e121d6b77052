//! Films in, checkpoints and bundles out: the stages of training, each resumable after a kill at any moment.
#![forbid(unsafe_code)]

pub mod config;
pub mod data;
pub mod evaluate;
pub mod import;
pub mod inspect;
pub mod loss;
pub mod optim;
pub mod plan;
pub mod prepare;
pub mod run;
pub mod sheet;
pub mod stages;
pub mod status;
pub mod synthesis;
