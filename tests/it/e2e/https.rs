//! ENS over TLS, as in production, with the system's authorities or those of `SSL_CERT_FILE`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::authority::Authority;
use crate::support::gateway::{Stage, attach, reason, try_attach, watch, within};
use crate::support::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ens_is_reached_over_tls_and_spoken_to_in_http_1_only() {
    let stage = Stage::new(&["i-1"], 1).await;
    let authority = Authority::new();
    let proxy = Proxy::tls(&stage.ens.endpoint(), &authority).await;
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), authority.pem()).unwrap();
    let settings =
        [("ENS__ENDPOINT", proxy.url.as_str()), ("SSL_CERT_FILE", bundle.path().to_str().unwrap())];
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    let seen = watch(&client, "i-1", "eni-0001", 0).await.unwrap();
    assert_eq!(seen.last().unwrap().state(), State::Attached);
    // Over HTTP/2 clients send again by themselves what a server refused, after the lease was
    // checked.
    let spoken = proxy.spoken.lock().unwrap().clone();
    assert!(!spoken.is_empty() && spoken.iter().all(|spoken| spoken == "http/1.1"), "{spoken:?}");
}

/// A proxy that tunnels, and counts the tunnels. Anything but CONNECT is refused.
async fn tunnels() -> (String, Arc<AtomicUsize>, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let count = Arc::<AtomicUsize>::default();
    let (counted, guard) = (count.clone(), stop.clone().drop_guard());
    tasks.clone().spawn(stop.run_until_cancelled_owned(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let counted = counted.clone();
            tasks.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.ok()?);
                }
                let head = String::from_utf8(head).ok()?;
                let Some(target) = head.strip_prefix("CONNECT ") else {
                    return client.write_all(b"HTTP/1.1 405 no\r\n\r\n").await.ok();
                };
                let mut server = TcpStream::connect(target.split(' ').next()?).await.ok()?;
                counted.fetch_add(1, Ordering::SeqCst);
                client.write_all(b"HTTP/1.1 200 ok\r\n\r\n").await.ok()?;
                copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
            });
        }
    }));
    (url, count, guard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_proxy_tunnels_and_a_proxy_variable_is_only_reported() {
    let stage = Stage::new(&["i-1"], 2).await;
    let authority = Authority::new();
    let ens = Proxy::tls(&stage.ens.endpoint(), &authority).await;
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), authority.pem()).unwrap();
    let (proxy, count, _guard) = tunnels().await;
    let mut settings = vec![
        ("ENS__ENDPOINT", ens.url.as_str()),
        ("SSL_CERT_FILE", bundle.path().to_str().unwrap()),
        ("HTTPS_PROXY", proxy.as_str()),
    ];
    let direct = stage.replica(&settings).await;
    try_attach(&direct.client().await, attach("i-1", "eni-0001")).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert!(direct.log().contains("HTTPS_PROXY is set and has no effect"), "{}", direct.log());
    drop(direct);

    settings.push(("ENS__PROXY", proxy.as_str()));
    let proxied = stage.replica(&settings).await;
    try_attach(&proxied.client().await, attach("i-1", "eni-0002")).await.unwrap();
    assert!(count.load(Ordering::SeqCst) > 0);
    assert!(!proxied.log().contains("has no effect"), "{}", proxied.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_stranger_is_not_taken_and_nothing_is_sent() {
    let stage = Stage::new(&["i-1"], 1).await;
    let proxy = Proxy::tls(&stage.ens.endpoint(), &Authority::new()).await;
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), Authority::new().pem()).unwrap();
    let settings =
        [("ENS__ENDPOINT", proxy.url.as_str()), ("SSL_CERT_FILE", bundle.path().to_str().unwrap())];
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;
    let request = within(Duration::from_secs(10), attach("i-1", "eni-0001"));
    let failure = try_attach(&client, request).await.unwrap_err();
    assert_eq!(reason(&failure), "NOT_APPLIED");
    let message = failure.0.message().to_lowercase();
    assert!(message.contains("certificate") || message.contains("issuer"), "{message}");
    assert!(stage.ens.journal().calls.is_empty());
}
