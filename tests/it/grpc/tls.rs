//! TLS with test certificates: renewal at run time, and callers' certificates.

use std::path::Path;
use std::sync::Arc;

use eni_gateway::grpc::Tls;
use eni_gateway::grpc::proto::attachment_service_client::AttachmentServiceClient;
use eni_gateway::grpc::tls::{Files, TlsError};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, transport};

use super::gateway::{Gateway, Options, attach, watch};
use crate::support::authority::Authority;

/// Longer than any wait of these tests.
const LONG: std::time::Duration = std::time::Duration::from_secs(60);

fn write(directory: &Path, (cert, key): &(String, String)) -> Files {
    let files = Files {
        cert: directory.join("tls.crt"),
        key: directory.join("tls.key"),
        client_ca: None,
        client_crl: None,
    };
    std::fs::write(&files.cert, cert).expect("written");
    std::fs::write(&files.key, key).expect("written");
    files
}

async fn serve(files: Files) -> (Gateway, Arc<Tls>) {
    let tls = Arc::new(Tls::load(files).await.expect("good files"));
    (Gateway::with(Options { tls: Some(Arc::clone(&tls)), ..Options::default() }).await, tls)
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
    let refused =
        AttachmentServiceClient::new(channel).attach_network_interface(attach("", "")).await;
    refused.expect_err("bad fields").code() == Code::InvalidArgument
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_and_a_bad_one_is_not() {
    let directory = TempDir::new().expect("a directory");
    let (old, new) = (Authority::new(), Authority::new());
    let (gateway, tls) = serve(write(directory.path(), &old.issue("localhost"))).await;
    let before = connect(&gateway, trusting(&old)).await.expect("trusted");
    assert!(answers(before.clone()).await);
    assert!(!tls.reload().await.expect("unchanged"));

    std::fs::write(directory.path().join("tls.key"), new.issue("localhost").1).expect("written");
    assert!(
        matches!(tls.reload().await, Err(TlsError::Identity(_))),
        "the key is another certificate's"
    );
    assert!(answers(connect(&gateway, trusting(&old)).await.expect("the old one stays")).await);

    write(directory.path(), &new.issue("localhost"));
    assert!(tls.reload().await.expect("good files"));
    assert!(answers(connect(&gateway, trusting(&new)).await.expect("the new one")).await);
    connect(&gateway, trusting(&old)).await.expect_err("the old authority did not sign it");
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
        ..write(directory.path(), &servers.issue("localhost"))
    };
    let (gateway, _tls) = serve(files).await;

    let identity = |authority: &Authority| {
        let (cert, key) = authority.issue("localhost");
        trusting(&servers).identity(Identity::from_pem(cert, key))
    };
    assert!(answers(connect(&gateway, identity(&callers)).await.expect("known")).await);
    for stranger in [identity(&strangers), trusting(&servers)] {
        // TLS 1.3: the client may be done before the server refuses it, and then learns it with the
        // first call.
        if let Ok(channel) = connect(&gateway, stranger).await {
            let refused = AttachmentServiceClient::new(channel)
                .attach_network_interface(attach("", ""))
                .await;
            assert_ne!(refused.expect_err("not let in").code(), Code::InvalidArgument);
        }
    }
}

/// A caller's certificate with this serial number and these purposes.
fn caller(authority: &Authority, serial: u64, purposes: &[ExtendedKeyUsagePurpose]) -> Identity {
    let mut params = CertificateParams::new(["caller".to_owned()]).expect("a name");
    params.serial_number = Some(serial.into());
    params.extended_key_usages = purposes.to_vec();
    let (cert, key) = authority.sign(params);
    Identity::from_pem(cert, key)
}

/// Whether a caller that is not let in notices it, at the handshake or with its first call.
async fn is_shut_out(gateway: &Gateway, tls: ClientTlsConfig) -> bool {
    let Ok(channel) = connect(gateway, tls).await else { return true };
    let mut client = AttachmentServiceClient::new(channel);
    let refused = client.attach_network_interface(attach("", "")).await;
    refused.expect_err("bad fields").code() != Code::InvalidArgument
}

#[tokio::test]
async fn a_certificate_for_servers_is_no_callers() {
    let directory = TempDir::new().expect("a directory");
    let (servers, callers) = (Authority::new(), Authority::new());
    let client_ca = directory.path().join("ca.crt");
    std::fs::write(&client_ca, callers.pem()).expect("written");
    let files = Files {
        client_ca: Some(client_ca),
        ..write(directory.path(), &servers.issue("localhost"))
    };
    let (gateway, _tls) = serve(files).await;
    for purposes in [&[][..], &[ExtendedKeyUsagePurpose::ServerAuth][..]] {
        let tls = trusting(&servers).identity(caller(&callers, 1, purposes));
        assert!(is_shut_out(&gateway, tls).await, "{purposes:?}");
    }
}

#[rstest::rstest]
#[case::authority(false)]
#[case::revocation_list(true)]
#[tokio::test]
async fn the_open_connections_of_a_withdrawn_caller_are_closed(#[case] by_list: bool) {
    let directory = TempDir::new().expect("a directory");
    let (servers, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let (ca, crl) = (directory.path().join("ca.crt"), directory.path().join("ca.crl"));
    std::fs::write(&ca, old.pem() + &new.pem()).expect("written");
    std::fs::write(&crl, old.revoke(&[]) + &new.revoke(&[])).expect("written");
    let files = Files {
        client_ca: Some(ca.clone()),
        client_crl: Some(crl.clone()),
        ..write(directory.path(), &servers.issue("localhost"))
    };
    let (gateway, tls) = serve(files).await;
    let purposes = [ExtendedKeyUsagePurpose::ClientAuth];
    let withdrawn = trusting(&servers).identity(caller(&old, 7, &purposes));
    let kept = trusting(&servers).identity(caller(&new, 7, &purposes));
    let channel = connect(&gateway, withdrawn.clone()).await.expect("accepted");
    let watching = |channel: &Channel| {
        let mut client = AttachmentServiceClient::new(channel.clone());
        async move { client.watch_attachment(watch("i-1", "eni-1", true)).await }
    };
    let mut ending = watching(&channel).await.expect("a stream").into_inner();
    let channel = connect(&gateway, kept).await.expect("accepted");
    let mut staying = watching(&channel).await.expect("a stream").into_inner();
    ending.message().await.expect("the first heartbeat");
    staying.message().await.expect("the first heartbeat");

    if by_list {
        std::fs::write(&crl, old.revoke(&[7]) + &new.revoke(&[])).expect("written");
    } else {
        std::fs::write(&ca, new.pem()).expect("written");
    }
    assert!(tls.reload().await.expect("good files"));
    let end = async { while ending.message().await.is_ok_and(|message| message.is_some()) {} };
    tokio::time::timeout(LONG, end).await.expect("the stream ends");
    assert!(is_shut_out(&gateway, withdrawn).await);
    assert!(answers(channel).await, "the other caller's connection stays");
    drop(staying);
}

#[tokio::test]
async fn plaintext_is_not_answered() {
    let directory = TempDir::new().expect("a directory");
    let (gateway, _tls) =
        serve(write(directory.path(), &Authority::new().issue("localhost"))).await;
    let endpoint =
        Endpoint::from_shared(format!("http://{}", gateway.address)).expect("an endpoint");
    if let Ok(channel) = endpoint.connect().await {
        let refused =
            AttachmentServiceClient::new(channel).attach_network_interface(attach("", "")).await;
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
