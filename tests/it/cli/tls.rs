//! TLS of server and client.

use std::path::Path;

use eni_gateway::grpc::proto::attachment::State;
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::fake::{Fake, Script, attachment};
use super::{Ran, run};
use crate::support::authority::Authority;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn get(endpoint: &str, options: &[&str]) -> Ran {
    run(&[&["get", "i-1", "eni-1", "--endpoint", endpoint], options].concat()).await
}

#[tokio::test]
async fn both_sides_show_a_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) = ours.issue("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ours.pem()));
    let script =
        Script { get: [Ok(attachment("eni-1", State::Attached, 7))].into(), ..Script::default() };
    let fake = Fake::serve_with(Server::builder().tls_config(tls).unwrap(), "https", script).await;

    let (cert, key) = ours.issue("caller");
    let (ca, cert, key) =
        (file("ca.pem", &ours.pem()), file("cert.pem", &cert), file("key.pem", &key));
    let (ca, cert, key) = (text(&ca), text(&cert), text(&key));

    let ran = get(&fake.endpoint, &["--ca", ca, "--cert", cert, "--key", key]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("ATTACHED"));

    let other = file("other.pem", &theirs.pem());
    let ran = get(&fake.endpoint, &["--ca", text(&other), "--cert", cert, "--key", key]).await;
    assert_eq!(ran.code, 69, "{ran:?}");
    assert!(ran.stderr.contains("certificate"), "{ran:?}");

    let ran = get(&fake.endpoint, &["--ca", ca]).await;
    assert_eq!(ran.code, 69, "the gateway wants to know who calls: {ran:?}");

    let ran = get(&fake.endpoint, &["--ca", key]).await;
    assert_eq!(ran.code, 64, "a key is no certificate: {ran:?}");
}
