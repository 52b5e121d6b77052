//! TLS and mutual TLS: certificates from files, replaced while the server runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::reread::Reread;

/// gRPC first; gRPC-web and the dashboard may come over HTTP/1.1.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the certificates are, each in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's chain, its own certificate first.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// Authorities of the clients' certificates. With them a client without a certificate gets no connection.
    pub client_ca: Option<PathBuf>,
}

/// A certificate that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {path}: {problem}")]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    problem: String,
}

/// The certificates in force.
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// Digest of the files as they were last read, good or bad.
    seen: Mutex<[u8; 32]>,
}

/// The files' bytes.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

// === impl Tls ===

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, or they do not belong together.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let config = contents.config(&files)?;
        let seen = Mutex::new(contents.digest());
        Ok(Self { files, current: RwLock::new(Arc::new(config)), seen })
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Reread for Tls {
    fn what(&self) -> &'static str {
        "certificates"
    }

    fn reread(&self) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = match Contents::read(&self.files) {
            Ok(contents) => contents,
            // Gone for the moment of a swap, or for good: said once.
            Err(error) => {
                return if std::mem::take(&mut *seen) == [0; 32] { Ok(false) } else { Err(error.to_string()) };
            }
        };
        let digest = contents.digest();
        if std::mem::replace(&mut *seen, digest) == digest {
            return Ok(false);
        }
        let config = contents.config(&self.files).map_err(|error| error.to_string())?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(true)
    }
}

// === impl Contents ===

impl Contents {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let read = |setting, path: &Path| std::fs::read(path).map_err(|error| wrong(setting, path, &error));
        Ok(Self {
            cert: read("tls.cert", &files.cert)?,
            key: read("tls.key", &files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read("tls.client_ca", path)).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn config(&self, files: &TlsFiles) -> Result<ServerConfig, TlsError> {
        let chain = certificates("tls.cert", &files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| wrong("tls.key", &files.key, &error))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("tls.cert", &files.cert, &error))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(bytes)) => {
                let failed = |error: &dyn std::fmt::Display| wrong("tls.client_ca", path, error);
                let mut roots = RootCertStore::empty();
                for authority in certificates("tls.client_ca", path, bytes)? {
                    roots.add(authority).map_err(|error| failed(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| failed(&error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        // Says so where the key is another certificate's.
        let mut config = builder.with_single_cert(chain, key).map_err(|error| wrong("tls.key", &files.key, &error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(config)
    }
}

fn certificates(setting: &'static str, path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(setting, path, &error))?;
    if found.is_empty() {
        return Err(wrong(setting, path, &"holds no certificate in PEM"));
    }
    Ok(found)
}

fn wrong(setting: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError { setting, path: path.to_owned(), problem: problem.to_string() }
}
