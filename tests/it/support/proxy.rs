//! A proxy between the gateway and ENS that can delay requests and terminate TLS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::authority::Authority;

/// The delay of a request, by its head.
type Delay = fn(&str) -> Duration;

/// Delivers each request, even if its sender has left. One request without a body for each
/// connection.
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// The negotiated protocol of each TLS connection.
    pub(crate) spoken: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Proxy {
    pub(crate) async fn start(upstream: &str, delay: Delay) -> Self {
        Self::listen("http", upstream, delay, None).await
    }

    /// Terminates TLS with a certificate of this authority, and prefers HTTP/2.
    pub(crate) async fn tls(upstream: &str, authority: &Authority) -> Self {
        Self::tls_of(upstream, authority.issue("127.0.0.1")).await
    }

    /// Terminates TLS with this certificate and its key, as PEM.
    pub(crate) async fn tls_of(upstream: &str, identity: (String, String)) -> Self {
        Self::listen("https", upstream, |_| Duration::ZERO, Some(acceptor(&identity))).await
    }

    async fn listen(scheme: &str, upstream: &str, delay: Delay, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (stop, tasks, spoken) = (CancellationToken::new(), TaskTracker::new(), Arc::default());
        let proxy = Self { url, spoken: Arc::clone(&spoken), _stop: stop.clone().drop_guard() };
        tasks.clone().spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, tls, spoken) = (upstream.clone(), tls.clone(), Arc::clone(&spoken));
                tasks.spawn(async move {
                    let Some(tls) = tls else {
                        return deliver(client, upstream, delay).await;
                    };
                    let client = tls.accept(client).await.ok()?;
                    let protocol = client.get_ref().1.alpn_protocol().unwrap_or_default();
                    spoken.lock().unwrap().push(String::from_utf8_lossy(protocol).into_owned());
                    deliver(client, upstream, delay).await
                });
            }
        }));
        proxy
    }
}

async fn deliver(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: String,
    delay: Delay,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    sleep(delay(&text)).await;
    let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all(text.as_bytes()).await.ok()?;
    copy(&mut server, &mut client).await.ok()?;
    client.shutdown().await.ok()
}

fn acceptor((certificate, key): &(String, String)) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        config.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
