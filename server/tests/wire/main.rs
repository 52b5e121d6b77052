//! The server over the wire: a real client and a real port; the fake model behind the engine, or a tiny real one.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "test code")]

mod bundles;
mod common;
mod dashboard;
mod encode_and_score;
mod generate;
mod kserve;
mod lifecycle;
mod process;
mod security;
#[path = "../../../crates/model/tests/tiny/mod.rs"]
mod tiny;
mod traces;
