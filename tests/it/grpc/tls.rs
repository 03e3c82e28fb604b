//! TLS with certificates made here: renewal while it runs, and callers' certificates.

use std::path::Path;
use std::sync::Arc;

use eni_gateway::grpc::Tls;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::tls::{Files, TlsError};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, transport};

use super::gateway::{Gateway, Options, attach};

/// An authority that signs for localhost.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate and its key, PEM.
    fn sign(&self) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        (
            params.signed_by(&key, &self.0).expect("a certificate").pem(),
            key.serialize_pem(),
        )
    }
}

fn write(directory: &Path, (cert, key): &(String, String)) -> Files {
    let files = Files {
        cert: directory.join("tls.crt"),
        key: directory.join("tls.key"),
        client_ca: None,
    };
    std::fs::write(&files.cert, cert).expect("written");
    std::fs::write(&files.key, key).expect("written");
    files
}

async fn serve(files: Files) -> (Gateway, Arc<Tls>) {
    let tls = Arc::new(Tls::load(files).await.expect("good files"));
    (
        Gateway::with(Options {
            tls: Some(Arc::clone(&tls)),
            ..Options::default()
        })
        .await,
        tls,
    )
}

async fn connect(gateway: &Gateway, tls: ClientTlsConfig) -> Result<Channel, transport::Error> {
    let port = gateway.address.port();
    let tls = tls.domain_name("localhost");
    Endpoint::from_shared(format!("https://127.0.0.1:{port}"))
        .expect("an endpoint")
        .tls_config(tls)?
        .connect()
        .await
}

fn trusting(authority: &Authority) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()))
}

async fn answers(channel: Channel) -> bool {
    let refused = AttachmentServiceClient::new(channel)
        .attach_network_interface(attach("", ""))
        .await;
    refused.expect_err("bad fields").code() == Code::InvalidArgument
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
    let directory = TempDir::new().expect("a directory");
    let (old, new) = (Authority::new(), Authority::new());
    let (gateway, tls) = serve(write(directory.path(), &old.sign())).await;
    let before = connect(&gateway, trusting(&old)).await.expect("trusted");
    assert!(answers(before.clone()).await);
    assert!(!tls.reload().await.expect("unchanged"));

    std::fs::write(directory.path().join("tls.key"), new.sign().1).expect("written");
    assert!(
        matches!(tls.reload().await, Err(TlsError::Identity(_))),
        "the key is another certificate's"
    );
    assert!(answers(connect(&gateway, trusting(&old)).await.expect("the old one stays")).await);

    write(directory.path(), &new.sign());
    assert!(tls.reload().await.expect("good files"));
    assert!(answers(connect(&gateway, trusting(&new)).await.expect("the new one")).await);
    connect(&gateway, trusting(&old))
        .await
        .expect_err("the old authority did not sign it");
    assert!(answers(before).await, "open connections go on");
}

#[tokio::test]
async fn callers_show_a_certificate_where_an_authority_is_named() {
    let directory = TempDir::new().expect("a directory");
    let (servers, callers, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let client_ca = directory.path().join("ca.crt");
    std::fs::write(&client_ca, callers.pem()).expect("written");
    let files = Files {
        client_ca: Some(client_ca),
        ..write(directory.path(), &servers.sign())
    };
    let (gateway, _tls) = serve(files).await;

    let identity = |authority: &Authority| {
        let (cert, key) = authority.sign();
        trusting(&servers).identity(Identity::from_pem(cert, key))
    };
    assert!(answers(connect(&gateway, identity(&callers)).await.expect("known")).await);
    for stranger in [identity(&strangers), trusting(&servers)] {
        // TLS 1.3: the client may be done before the server refuses it, and then learns it with the first call.
        if let Ok(channel) = connect(&gateway, stranger).await {
            let refused = AttachmentServiceClient::new(channel)
                .attach_network_interface(attach("", ""))
                .await;
            assert_ne!(refused.expect_err("not let in").code(), Code::InvalidArgument);
        }
    }
}

#[tokio::test]
async fn plaintext_is_not_answered() {
    let directory = TempDir::new().expect("a directory");
    let (gateway, _tls) = serve(write(directory.path(), &Authority::new().sign())).await;
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.address)).expect("an endpoint");
    if let Ok(channel) = endpoint.connect().await {
        let refused = AttachmentServiceClient::new(channel)
            .attach_network_interface(attach("", ""))
            .await;
        assert_ne!(refused.expect_err("no http/2 there").code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_bad_file_is_named() {
    let directory = TempDir::new().expect("a directory");
    let files = write(directory.path(), &("no certificate".to_owned(), "no key".to_owned()));
    let error = Tls::load(files.clone()).await.expect_err("no certificate");
    assert!(error.to_string().contains("tls.crt"), "{error}");
    std::fs::remove_file(&files.cert).expect("removed");
    assert!(matches!(Tls::load(files).await, Err(TlsError::Read { .. })));
}
