//! Connections: how many, how long they may idle, TLS, and how much of all request messages is in memory at once.

mod connection;
mod incoming;
mod receiving;

pub(crate) use connection::ActiveLayer;
pub(crate) use incoming::incoming;
pub(crate) use receiving::{Held, ReceivingLayer};

use std::time::Duration;

/// Limits of the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLimits {
    /// Connections at once; one more is closed as soon as it is there.
    pub max_connections: usize,
    /// Calls at once on one connection.
    pub max_streams: u32,
    /// Names and values of one request's headers together, in bytes.
    pub max_header_bytes: u32,
    /// Bytes of all request messages that are being received or have not been read yet.
    pub max_receiving_bytes: u64,
    /// How long a connection without a call stays open.
    pub idle_timeout: Duration,
    /// How long a client may send nothing of a message that it has begun.
    pub sender_timeout: Duration,
}

// === impl PortLimits ===

impl Default for PortLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_streams: 256,
            max_header_bytes: 16 << 10,
            max_receiving_bytes: 512 << 20,
            idle_timeout: Duration::from_secs(300),
            sender_timeout: Duration::from_secs(60),
        }
    }
}
