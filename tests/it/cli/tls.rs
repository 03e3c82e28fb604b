//! TLS, both ways.

use std::path::{Path, PathBuf};

use eni_gateway::grpc::proto::attachment::State;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::fake::{Fake, Script, attachment};
use super::{Ran, run};

/// An authority, and what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            issuer,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

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
    let (cert, key) = ours.sign("localhost");
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(cert, key))
        .client_ca_root(Certificate::from_pem(ours.issuer.pem()));
    let script = Script {
        get: [Ok(attachment("eni-1", State::Attached, 7))].into(),
        ..Script::default()
    };
    let fake = Fake::serve_with(Server::builder().tls_config(tls).unwrap(), "https", script).await;

    let (cert, key) = ours.sign("caller");
    let (ca, cert, key) = (
        ours.file("ca.pem", &ours.issuer.pem()),
        ours.file("cert.pem", &cert),
        ours.file("key.pem", &key),
    );
    let (ca, cert, key) = (text(&ca), text(&cert), text(&key));

    let ran = get(&fake.endpoint, &["--ca", ca, "--cert", cert, "--key", key]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("ATTACHED"));

    let other = theirs.file("ca.pem", &theirs.issuer.pem());
    let ran = get(&fake.endpoint, &["--ca", text(&other), "--cert", cert, "--key", key]).await;
    assert_eq!(ran.code, 69, "{ran:?}");
    assert!(ran.stderr.contains("certificate"), "{ran:?}");

    let ran = get(&fake.endpoint, &["--ca", ca]).await;
    assert_eq!(ran.code, 69, "the gateway wants to know who calls: {ran:?}");

    let ran = get(&fake.endpoint, &["--ca", key]).await;
    assert_eq!(ran.code, 64, "a key is no certificate: {ran:?}");
}
