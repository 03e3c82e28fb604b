//! A proxy between the gateway and ENS: it may hold requests up, and end TLS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// How long a request is held up, by its head.
type Hold = fn(&str) -> Duration;

/// Delivers each request, whether its sender still waits for the answer or not. One request a connection, and none with a body.
pub(crate) struct Proxy {
    pub(crate) url: String,
    /// What each TLS connection was negotiated to speak.
    pub(crate) spoken: Arc<Mutex<Vec<String>>>,
    _stop: DropGuard,
}

impl Proxy {
    pub(crate) async fn start(upstream: &str, hold: Hold) -> Self {
        Self::listen("http", upstream, hold, None).await
    }

    /// Ends TLS with a certificate of this authority, and would rather speak HTTP/2.
    pub(crate) async fn tls(upstream: &str, authority: &Authority) -> Self {
        Self::listen("https", upstream, |_| Duration::ZERO, Some(authority.acceptor())).await
    }

    async fn listen(scheme: &str, upstream: &str, hold: Hold, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let (stop, tasks, spoken) = (CancellationToken::new(), TaskTracker::new(), Arc::default());
        let proxy = Self {
            url,
            spoken: Arc::clone(&spoken),
            _stop: stop.clone().drop_guard(),
        };
        tasks.clone().spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, tls, spoken) = (upstream.clone(), tls.clone(), Arc::clone(&spoken));
                tasks.spawn(async move {
                    let Some(tls) = tls else {
                        return deliver(client, upstream, hold).await;
                    };
                    let client = tls.accept(client).await.ok()?;
                    let protocol = client.get_ref().1.alpn_protocol().unwrap_or_default();
                    spoken
                        .lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(protocol).into_owned());
                    deliver(client, upstream, hold).await
                });
            }
        }));
        proxy
    }
}

async fn deliver(mut client: impl AsyncRead + AsyncWrite + Unpin, upstream: String, hold: Hold) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    sleep(hold(&text)).await;
    let text = text.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all(text.as_bytes()).await.ok()?;
    copy(&mut server, &mut client).await.ok()?;
    client.shutdown().await.ok()
}

/// Signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = CertificateDer::from(params.signed_by(&key, &self.0).unwrap());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}
