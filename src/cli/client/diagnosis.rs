//! Why a connection to the gateway failed: the scheme, the certificates, or the network.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cli::error::Error;
use crate::tls_fault::{Remedies, TlsFault};

/// Time limit for a probe of the server.
const PATIENCE: Duration = Duration::from_secs(2);
const REMEDIES: Remedies<'_> = Remedies {
    plaintext: "use an --endpoint with http://",
    authorities: "give the CA certificate of the gateway with --ca",
    name: "give a name of the certificate with --server-name, or in --endpoint",
    identity: "give a client certificate of an authority that the gateway trusts, with --cert and \
               --key",
};

/// The innermost cause; tonic's own text is "transport error".
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The error of a failed connect.
pub(super) fn of_connect(endpoint: &str, error: &tonic::transport::Error) -> Error {
    match TlsFault::find(error) {
        Some(fault) => explained(endpoint, &fault),
        None => Error::Unreachable {
            endpoint: endpoint.to_owned(),
            cause: innermost(error),
            remedy: "check --endpoint, and whether the gateway runs there".to_owned(),
        },
    }
}

/// The error of a failed call. A broken connection may have a cause that only shows after the
/// connect: TLS behind http://, or a missing client certificate.
pub(super) async fn of_call(
    endpoint: &str,
    identity: Option<(&Path, &Path)>,
    error: Error,
) -> Error {
    let Error::Refused(refusal) = &error else { return error };
    if !refusal.is_broken_connection() {
        return error;
    }
    let probed = timeout(PATIENCE, probe(endpoint, identity)).await.unwrap_or(None);
    match probed {
        Some(Ok(())) if endpoint.starts_with("http://") => Error::Unreachable {
            endpoint: endpoint.to_owned(),
            cause: "the server there uses TLS".to_owned(),
            remedy: "use an --endpoint with https://".to_owned(),
        },
        Some(Err(fault)) if endpoint.starts_with("https://") => explained(endpoint, &fault),
        _ => error,
    }
}

fn explained(endpoint: &str, fault: &TlsFault) -> Error {
    Error::Unreachable {
        endpoint: endpoint.to_owned(),
        cause: fault.to_string(),
        remedy: fault.remedy(&REMEDIES),
    }
}

/// Makes a handshake with the server, and waits for what it sends afterwards: in TLS 1.3 that may
/// be the refusal of a client certificate. `None` if the probe shows nothing.
async fn probe(endpoint: &str, identity: Option<(&Path, &Path)>) -> Option<Result<(), TlsFault>> {
    let url = url::Url::parse(endpoint).ok()?;
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((bare.as_str(), port)).await.ok()?;
    let name = ServerName::try_from(bare).ok()?;
    let connector = TlsConnector::from(Arc::new(config(identity)?));
    let mut first = [0; 1];
    let ended = match connector.connect(name, stream).await {
        Ok(mut stream) => stream.read(&mut first).await.map(drop),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => Some(Ok(())),
        // Plaintext is no fault of http://.
        Err(error) => match TlsFault::find(&error)? {
            TlsFault::NotTls if endpoint.starts_with("http://") => None,
            // It answered in TLS.
            _ if endpoint.starts_with("http://") => Some(Ok(())),
            fault => Some(Err(fault)),
        },
    }
}

fn config(identity: Option<(&Path, &Path)>) -> Option<ClientConfig> {
    let provider = CryptoProvider::get_default()?.clone();
    let builder = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = CertificateDer::pem_file_iter(cert).ok()?.collect::<Result<_, _>>().ok()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).ok()?).ok()?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Some(config)
}

/// Accepts any server: the probe sends nothing. The call before it verified the server, or did not
/// know that it uses TLS.
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
