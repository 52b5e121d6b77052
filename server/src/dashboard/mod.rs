//! The page at `/` of the gRPC port: its files, what it asks of the server beside gRPC, and which requests are its.

mod assets;
mod layer;
mod status;

pub use layer::{DashboardLayer, DashboardService};
