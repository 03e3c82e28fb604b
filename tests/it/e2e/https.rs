//! ENS over TLS, as in production, with the system's authorities or those of `SSL_CERT_FILE`.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;

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
