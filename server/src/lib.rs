//! The RayGen server: an engine that batches between steps, the gRPC API in front of it, and what runs them.

#![forbid(unsafe_code)]

pub mod api;
pub mod dashboard;
pub mod engine;
pub mod histogram;
pub mod http;
pub mod kserve;
mod methods;
pub mod metrics;
pub mod repository;
pub mod security;
pub mod serve;
pub mod settings;
pub mod telemetry;
pub mod transport;
