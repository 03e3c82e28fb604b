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

/// A failure with this cause and this remedy.
fn said(ran: &Ran, cause: &str, remedy: &str) {
    assert_eq!(ran.code, 69, "{ran:?}");
    let (found, advice) = ran.stderr.split_once("what to do: ").unwrap();
    assert!(found.contains(cause) && advice.contains(remedy), "{ran:?}");
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
    let attached = || Ok(attachment("eni-1", State::Attached, 7));
    let script = Script { get: [attached(), attached(), attached()].into(), ..Script::default() };
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
    said(&ran, "from an authority that is not trusted", "--ca");

    let ran = get(&fake.endpoint, &["--ca", ca]).await;
    said(&ran, "it requires a client certificate", "--cert and --key");
    let (stranger, stranger_key) = theirs.issue("caller");
    let (stranger, stranger_key) =
        (file("stranger.pem", &stranger), file("stranger-key.pem", &stranger_key));
    let ran =
        get(&fake.endpoint, &["--ca", ca, "--cert", text(&stranger), "--key", text(&stranger_key)])
            .await;
    said(&ran, "it refuses the client certificate", "--cert and --key");

    let by_address = fake.endpoint.replace("localhost", "127.0.0.1");
    let ran = get(&by_address, &["--ca", ca, "--cert", cert, "--key", key]).await;
    said(&ran, "its certificate is for localhost, not for 127.0.0.1", "--server-name");
    let named = ["--ca", ca, "--cert", cert, "--key", key, "--server-name", "localhost"];
    let ran = get(&by_address, &named).await;
    assert_eq!(ran.code, 0, "{ran:?}");

    let plain = fake.endpoint.replace("https://", "http://");
    let ran = get(&plain, &[]).await;
    said(&ran, "the server there uses TLS", "https://");

    for (mistake, said) in [
        (&["--ca", key][..], "key.pem has no certificates in PEM form"),
        (&["--ca", ca, "--cert", key, "--key", key], "key.pem has no certificates in PEM form"),
        (&["--ca", ca, "--cert", cert, "--key", cert], "cert.pem has no private key in PEM form"),
        (
            &["--ca", ca, "--cert", cert, "--key", text(&stranger_key)],
            "--key is not the private key of --cert",
        ),
    ] {
        let ran = get(&fake.endpoint, mistake).await;
        assert!(ran.code == 64 && ran.stderr.contains(said), "{ran:?}");
    }

    // Everything by variables, as a person on call exports it once.
    let mut command = super::eni_gateway(&["get", "i-1", "eni-1"]);
    command
        .env("ENI_GATEWAY_CLIENT_ENDPOINT", &by_address)
        .env("ENI_GATEWAY_CLIENT_SERVER_NAME", "localhost")
        .env("ENI_GATEWAY_CLIENT_CA", ca)
        .env("ENI_GATEWAY_CLIENT_CERT", cert)
        .env("ENI_GATEWAY_CLIENT_KEY", key)
        .env("ENI_GATEWAY_CLIENT_OUTPUT", "json")
        .env("ENI_GATEWAY_CLIENT_SERVERNAME", "gateway");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!((ran.code, ran.json().len()), (0, 1), "{ran:?}");
    let said = "ENI_GATEWAY_CLIENT_SERVERNAME has no effect: did you mean \
        ENI_GATEWAY_CLIENT_SERVER_NAME?";
    assert!(ran.stderr.contains(said), "{ran:?}");
}

#[tokio::test]
async fn tls_to_a_plain_port_is_named() {
    let fake = Fake::serve(Script::default()).await;
    let ran = get(&fake.endpoint.replace("http://", "https://"), &[]).await;
    said(&ran, "the server there does not use TLS", "http://");
}
