//! A handshake that shows why a call failed: the server expects TLS, or a client certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TlsFault;

/// The protocol of gRPC, as TLS names it. A server that takes no list of protocols ignores it.
const HTTP2: &[u8] = b"h2";

/// A client's certificates and its private key.
#[derive(Debug)]
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// The identity in these PEM texts; `None` if they hold none.
    #[must_use]
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Option<Self> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().ok()?;
        Some(Self { chain, key: PrivateKeyDer::from_pem_slice(key).ok()? })
    }
}

/// The cause of a broken connection to this URL, which the call over it did not show. `None` if a
/// handshake shows none. The caller bounds the time.
///
/// The probe trusts any server, because it sends nothing. The call before it verified the server,
/// or did not know that it uses TLS.
pub async fn probe(endpoint: &str, identity: Option<ClientIdentity>) -> Option<TlsFault> {
    let url = url::Url::parse(endpoint).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_or_known_default()?;
    if url.scheme() == "http" {
        return expects_tls(host, port).await.then_some(TlsFault::UsesTls);
    }
    let mut stream = match handshake(host, port, identity).await? {
        Ok(stream) => stream,
        Err(fault) => return Some(fault),
    };
    // In TLS 1.3 a client certificate is refused after the handshake.
    let received = stream.read(&mut [0; 1]).await;
    received.err().and_then(|error| TlsFault::find(&error))
}

/// Whether the server there expects TLS. The caller bounds the time.
pub async fn expects_tls(host: &str, port: u16) -> bool {
    match handshake(host, port, None).await {
        Some(Err(fault)) => fault != TlsFault::NotTls,
        Some(Ok(_)) => true,
        None => false,
    }
}

async fn handshake(
    host: &str,
    port: u16,
    identity: Option<ClientIdentity>,
) -> Option<Result<TlsStream<TcpStream>, TlsFault>> {
    let stream = TcpStream::connect((host, port)).await.ok()?;
    let name = ServerName::try_from(host.to_owned()).ok()?;
    let connector = TlsConnector::from(Arc::new(config(identity)?));
    match connector.connect(name, stream).await {
        Ok(stream) => Some(Ok(stream)),
        Err(error) => TlsFault::find(&error).map(Err),
    }
}

fn config(identity: Option<ClientIdentity>) -> Option<ClientConfig> {
    let provider = CryptoProvider::get_default()?.clone();
    let builder = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key).ok()?,
    };
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Some(config)
}

/// Accepts any server.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
