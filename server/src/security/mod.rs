//! Who may call: TLS, API keys with scopes and quotas, and the files behind them, re-read while the server runs.

mod guard;
mod keys;
mod quota;
mod reread;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use guard::KeyAccount;
pub use guard::{Caller, GuardLayer};
pub use keys::{KeyFileError, Keys, Scope, hash_key};
pub use quota::Limits;
pub(crate) use reread::{Reread, keep_reading};
pub use tls::{Tls, TlsError, TlsFiles};

/// What a server demands of its callers. The default demands nothing.
#[derive(Debug, Clone)]
pub struct Security {
    /// Certificates; without them the port speaks plain text.
    pub tls: Option<Arc<Tls>>,
    /// API keys; without them everybody may do everything.
    pub keys: Option<Arc<Keys>>,
    /// How often the files are read again.
    pub reread: Duration,
}

// === impl Security ===

impl Default for Security {
    fn default() -> Self {
        Self { tls: None, keys: None, reread: Duration::from_secs(10) }
    }
}
