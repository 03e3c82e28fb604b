//! TLS with certificates that may be renewed while the server runs. Open connections keep what they began with.
//!
//! tonic's own TLS holds one identity for ever; so the configuration here is replaced as a whole when its files change, and
//! kept as it is while they are bad: half of a renewal must not take the server down.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(30);

/// Where the server's identity is.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate chain, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// The authorities that callers' certificates must come from, PEM; `None`: callers need none.
    pub client_ca: Option<PathBuf>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path} holds no usable {what} in PEM form")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key do not fit together, or rustls takes them for unusable.
    #[error("the certificate and its key cannot be used together")]
    Identity(#[source] rustls::Error),
    /// The authorities cannot be used.
    #[error("{path} holds no usable authorities")]
    Authorities {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The server's TLS, as its files last said.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    current: ArcSwap<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    digest: [u8; 32],
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub async fn load(files: Files) -> Result<Self, TlsError> {
        let loaded = Contents::read(&files).await?.load(&files)?;
        Ok(Self {
            files,
            current: ArcSwap::from_pointee(loaded),
        })
    }

    /// Reads the files again; says whether they had changed.
    ///
    /// # Errors
    /// [`TlsError`]; the old configuration stays.
    pub async fn reload(&self) -> Result<bool, TlsError> {
        let contents = Contents::read(&self.files).await?;
        if contents.digest() == self.current.load().digest {
            return Ok(false);
        }
        self.current.store(Arc::new(contents.load(&self.files)?));
        Ok(true)
    }

    /// Follows the files, for ever.
    pub(super) async fn follow(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.reload().await {
                Ok(true) => tracing::info!(cert = %self.files.cert.display(), "the certificate was renewed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the old certificate stays in use"
                    );
                }
            }
        }
    }

    /// Shakes hands on a new connection.
    pub(super) fn open(&self, tcp: TcpStream) -> impl Future<Output = io::Result<TlsStream<TcpStream>>> + Send + use<> {
        TlsAcceptor::from(Arc::clone(&self.current.load().config)).accept(tcp)
    }
}

/// The files' bytes, read together.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    async fn read(files: &Files) -> Result<Self, TlsError> {
        let client_ca = match &files.client_ca {
            Some(path) => Some(read(path).await?),
            None => None,
        };
        Ok(Self {
            cert: read(&files.cert).await?,
            key: read(&files.key).await?,
            client_ca,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
        {
            digest.update(part.len().to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn load(&self, files: &Files) -> Result<Loaded, TlsError> {
        let chain = certificates(&self.cert, &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| TlsError::Pem {
            path: files.key.clone(),
            what: "private key",
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Identity)?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(bytes), Some(path)) => {
                let bad = |source| TlsError::Authorities {
                    path: path.clone(),
                    source,
                };
                let mut roots = RootCertStore::empty();
                for authority in certificates(bytes, path)? {
                    roots.add(authority).map_err(|error| bad(error.into()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| bad(error.into()))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Identity)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Loaded {
            config: Arc::new(config),
            digest: self.digest(),
        })
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    tokio::fs::read(path).await.map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = || TlsError::Pem {
        path: path.to_owned(),
        what: "certificate",
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| bad())?;
    if chain.is_empty() { Err(bad()) } else { Ok(chain) }
}
