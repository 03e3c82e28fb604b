//! TLS with certificates that can be renewed while the server runs. Open connections keep theirs,
//! and are closed if their caller's certificate is not accepted any more.
//!
//! tonic's own TLS never replaces its identity. So this module replaces the whole configuration
//! when its files change. It keeps the old one while the files are invalid, for example during a
//! renewal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::client_certs::ClientCerts;
use super::handshake::HandshakeLog;
use crate::identity::certificate::principal;
use crate::listen::{ConnectionRef, Connections, Opened, certificate};
use crate::model::Reason;
use crate::telemetry::{AuditEvent, AuditLine};

/// Time for the TLS handshake of a connection.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Paths of the server's identity.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities that sign callers' certificates, PEM; `None`: callers need no certificate.
    pub client_ca: Option<PathBuf>,
    /// The authorities' revocation lists, PEM.
    pub client_crl: Option<PathBuf>,
}

/// A reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file does not hold the expected PEM.
    #[error("{path} has no usable {what} in PEM form")]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected content.
        what: &'static str,
    },
    /// Certificate and key do not match, or rustls rejects them.
    #[error("the certificate and its key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The authorities cannot be used.
    #[error("{path} has no usable CA certificates")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The server's TLS, from the last valid state of its files.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: ArcSwap<Loaded>,
    renewed: Notify,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// `None`: callers need no certificate.
    callers: Option<Arc<ClientCerts>>,
    expiry: Option<i64>,
    digest: [u8; 32],
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], with the file.
    pub async fn load(files: Files) -> Result<Self, TlsError> {
        let loaded = Contents::read(&files).await?.load(&files)?;
        Ok(Self { files, current: ArcSwap::from_pointee(loaded), renewed: Notify::new() })
    }

    /// Reads the files again, and returns whether they had changed.
    ///
    /// # Errors
    /// [`TlsError`], with the file. The old configuration stays.
    pub async fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files).await?;
        if contents.digest() == self.current.load().digest {
            return Ok(false);
        }
        self.current.store(Arc::new(contents.load(&self.files)?));
        self.renewed.notify_one();
        Ok(true)
    }

    /// Unix time at which the server's certificate expires.
    #[must_use]
    pub fn expiry(&self) -> Option<i64> {
        self.current.load().expiry
    }

    /// Closes the connections of callers whose certificate is not accepted any more, after each
    /// [`Tls::reload`]. Never returns.
    pub(super) async fn follow(&self, connections: &Connections) -> std::convert::Infallible {
        loop {
            self.renewed.notified().await;
            self.close_withdrawn(connections);
            while timeout(HANDSHAKE, self.renewed.notified()).await.is_ok() {
                self.close_withdrawn(connections);
            }
            // Handshakes that began with an earlier configuration have ended now.
            self.close_withdrawn(connections);
        }
    }

    fn close_withdrawn(&self, connections: &Connections) {
        let Some(callers) = self.current.load().callers.clone() else {
            return;
        };
        for closed in connections.close_unless(|chain| callers.accept(chain)) {
            audit_closed(&closed);
        }
    }

    /// Completes the TLS handshake of a new connection in time. `failures` receives its failure.
    pub(super) fn open(
        &self,
        tcp: TcpStream,
        failures: Arc<HandshakeLog>,
    ) -> impl Future<Output = io::Result<Opened<TlsStream<TcpStream>>>> + Send + use<> {
        let peer = tcp.peer_addr().ok();
        let accepted = TlsAcceptor::from(Arc::clone(&self.current.load().config)).accept(tcp);
        async move {
            let accepted = timeout(HANDSHAKE, accepted).await;
            let accepted = accepted.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            let io = accepted.inspect_err(|error| failures.failed(peer, error))?;
            let certificates = io.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            Ok(Opened { io, certificates })
        }
    }
}

/// Writes the audit line of a connection that was closed for its certificate.
fn audit_closed(connection: &ConnectionRef) {
    let certificate = connection.certificates().first();
    let caller = certificate.and_then(|certificate| principal(certificate, None).ok());
    AuditLine {
        caller: caller.as_ref().map(|caller| &caller.name),
        peer: Some(connection.peer()),
        allowed: Some(false),
        reason: Some(Reason::CallerUnauthenticated),
        cause: Some(&"the client's certificate is not accepted any more"),
        ..AuditLine::default()
    }
    .write(AuditEvent::Connection);
}

/// The files' bytes, from one reading.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    client_crl: Option<Vec<u8>>,
}

impl Contents {
    async fn read(files: &Files) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read(&files.cert).await?,
            key: read(&files.key).await?,
            client_ca: read_any(files.client_ca.as_ref()).await?,
            client_crl: read_any(files.client_crl.as_ref()).await?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        let (ca, crl) = (self.client_ca.as_ref(), self.client_crl.as_ref());
        for part in [Some(&self.cert), Some(&self.key), ca, crl].into_iter().flatten() {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn load(&self, files: &Files) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.cert, &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| TlsError::Pem { path: files.key.clone(), what: "private key" })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Identity)?;
        let callers = self.callers(files, provider)?;
        let builder = match &callers {
            Some(callers) => builder.with_client_cert_verifier(callers.clone()),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Identity)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let expiry = certificate::expiry(&self.cert);
        Ok(Loaded { config: Arc::new(config), callers, expiry, digest: self.digest() })
    }

    fn callers(
        &self,
        files: &Files,
        provider: Arc<CryptoProvider>,
    ) -> Result<Option<Arc<ClientCerts>>, TlsError> {
        let (Some(bytes), Some(path)) = (&self.client_ca, &files.client_ca) else {
            return Ok(None);
        };
        let bad = |source| TlsError::Authorities { path: path.clone(), source };
        let mut roots = RootCertStore::empty();
        for authority in certificates(bytes, path)? {
            roots.add(authority).map_err(|error| bad(error.into()))?;
        }
        let revoked = match (&self.client_crl, &files.client_crl) {
            (Some(bytes), Some(path)) => revocation_lists(bytes, path)?,
            _ => Vec::new(),
        };
        let callers = ClientCerts::new(roots, revoked, provider);
        Ok(Some(Arc::new(callers.map_err(|error| bad(error.into()))?)))
    }
}

async fn read_any(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, TlsError> {
    match path {
        Some(path) => read(path).await.map(Some),
        None => Ok(None),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| bad())?;
    if chain.is_empty() { Err(bad()) } else { Ok(chain) }
}

fn revocation_lists(
    pem: &[u8],
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let bad = || TlsError::Pem { path: path.to_owned(), what: "revocation list" };
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    if lists.is_empty() { Err(bad()) } else { Ok(lists) }
}
