//! Certificates, keys and policies that do not fit, and what `serve` and `check` say of them.

use std::time::Duration;

use rstest::rstest;

use super::{Ran, eni_gateway};
use crate::support::authority::Authority;
use crate::support::gateway::Stage;
use crate::support::proxy::Proxy;

/// Bad certificates are reported with all other faults, before anything listens.
#[rstest]
#[case::callers(
    "GRPC__TLS_CERT_FILE",
    "GRPC__TLS_KEY_FILE",
    "redis://127.0.0.1:1",
    "grpc.tls_cert_file"
)]
#[case::redis("LEDGER__CERT_FILE", "LEDGER__KEY_FILE", "rediss://127.0.0.1:1", "ledger.key_file")]
#[tokio::test]
async fn bad_certificates_are_wrong_configuration(
    #[case] cert: &str,
    #[case] key: &str,
    #[case] url: &str,
    #[case] part: &str,
) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "-----BEGIN NOTHING-----").unwrap();
    for arguments in [&["serve"][..], &["check", "--offline"]] {
        let mut command = eni_gateway(arguments);
        command
            .env("ENI_GATEWAY_LEDGER__URL", url)
            .env(format!("ENI_GATEWAY_{cert}"), file.path())
            .env(format!("ENI_GATEWAY_{key}"), file.path())
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
        let ran: Ran = command.output().await.unwrap().into();
        assert_eq!(ran.code, 64, "{ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!said.contains("listening"), "{said}");
        assert!(said.contains(part) && said.contains("in PEM form"), "{said}");
        assert!(arguments != ["serve"] || said.contains("ENS credentials"), "{said}");
    }
}

/// Callers refuse it, and the gateway does not see them do so.
#[tokio::test]
async fn check_reports_a_certificate_that_expires() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    let soon = std::time::SystemTime::now() + Duration::from_secs(3 * 24 * 3600);
    for (not_after, code, said) in [
        (rcgen::date_time_ymd(2021, 1, 2), 1, "expired at 2021-01-02T00:00:00Z"),
        (soon.into(), 0, "the gateway's certificate expires at 2"),
        (rcgen::date_time_ymd(4000, 1, 1), 0, "certificate and key match"),
    ] {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = not_after;
        let (cert, key) = Authority::new().sign(params);
        std::fs::write(file("cert"), cert).unwrap();
        std::fs::write(file("key"), key).unwrap();
        let mut command = eni_gateway(&["check", "--offline"]);
        command
            .env("ENI_GATEWAY_LEDGER__URL", "memory://")
            .env("ENI_GATEWAY_GRPC__TLS_CERT_FILE", file("cert"))
            .env("ENI_GATEWAY_GRPC__TLS_KEY_FILE", file("key"));
        let ran: Ran = command.output().await.unwrap().into();
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stdout.contains(said), "{ran:?}");
    }
}

/// They are named beside a fault of another setting, too.
#[tokio::test]
async fn files_that_do_not_fit_are_named_beside_other_faults() {
    let authority = Authority::new();
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name);
    std::fs::write(file("cert"), authority.issue("localhost").0).unwrap();
    std::fs::write(file("key"), authority.issue("localhost").1).unwrap();
    std::fs::write(file("policy"), "version").unwrap();
    std::fs::write(file("filter"), "eni_gateway=loud").unwrap();
    let names = ["ledger.lease", "ens.attach_per_second", "tls: ", "ledger: ", "policy: ", "log: "];
    for arguments in [&["serve"][..], &["check"], &["check", "--offline"]] {
        for (fault, value) in [("ENS__ATTACH_PER_SECOND", "0"), ("LEDGER__LEASE", "1s")] {
            let mut command = eni_gateway(arguments);
            for (setting, name) in [
                ("GRPC__TLS_CERT_FILE", "cert"),
                ("GRPC__TLS_KEY_FILE", "key"),
                ("LEDGER__CERT_FILE", "cert"),
                ("LEDGER__KEY_FILE", "key"),
                ("IDENTITY__POLICY_FILE", "policy"),
                ("LOG__FILTER_FILE", "filter"),
            ] {
                command.env(format!("ENI_GATEWAY_{setting}"), file(name));
            }
            command
                .env("ENI_GATEWAY_LEDGER__URL", "rediss://127.0.0.1:1")
                .env(format!("ENI_GATEWAY_{fault}"), value)
                .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
            let ran: Ran = command.output().await.unwrap().into();
            assert_eq!(ran.code, 64, "{ran:?}");
            let is_named = |name: &&str| ran.stderr.contains(name);
            // A fault of the ledger's settings hides that of its files.
            let expected = if value == "0" { &names[1..] } else { &["ledger.lease", "tls: "] };
            assert!(expected.iter().all(is_named), "{ran:?}");
        }
    }
}

/// So is a bad policy.
#[tokio::test]
async fn a_bad_policy_is_wrong_configuration() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "version").unwrap();
    let mut command = eni_gateway(&["serve"]);
    command
        .env("ENI_GATEWAY_LEDGER__URL", "memory://")
        .env("ENI_GATEWAY_IDENTITY__POLICY_FILE", file.path())
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, 64, "{ran:?}");
    for part in ["policy: ", "identity.policy_file", "ENS credentials"] {
        assert!(ran.stderr.contains(part), "{ran:?}");
    }
    assert!(!ran.stderr.contains("listening"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ens_endpoint_without_tls_for_a_server_with_tls_is_named() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = Authority::new();
    let stage = Stage::new(&["i-1"], 1).await;
    let proxy = Proxy::tls(&stage.ens.endpoint(), &authority).await;
    let mut command = eni_gateway(&["check"]);
    command
        .env("ENI_GATEWAY_LEDGER__URL", "memory://")
        .env("ENI_GATEWAY_ENS__ENDPOINT", proxy.url.replace("https:", "http:"))
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "simulator")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "simulator");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, 69, "{ran:?}");
    let said = "the server there uses TLS\n         what to do:  begin ens.endpoint with https://";
    assert!(ran.stdout.contains(said), "{ran:?}");
}

/// Each fault of a certificate has its remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_names_what_is_wrong_with_the_certificate_of_ens() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (authority, stage) = (Authority::new(), Stage::new(&["i-1"], 1).await);
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bundle.path(), authority.pem()).unwrap();
    let signed = |change: fn(&mut rcgen::CertificateParams)| {
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        change(&mut params);
        authority.sign(params)
    };
    for (identity, problem, remedy) in [
        (Authority::new().issue("127.0.0.1"), "is not trusted", "set SSL_CERT_FILE to a CA bundle"),
        (authority.issue("elsewhere"), "is for elsewhere", "use a name of the certificate"),
        (
            signed(|it| it.not_after = rcgen::date_time_ymd(2021, 1, 1)),
            "has expired",
            "renew the server's certificate",
        ),
        (
            signed(|it| it.not_before = rcgen::date_time_ymd(3000, 1, 1)),
            "is not valid yet",
            "compare the clocks",
        ),
        (
            signed(|it| it.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            "CA:TRUE",
            "give the server a certificate with CA:FALSE",
        ),
        (
            signed(|it| {
                it.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            }),
            "is not for a server",
            "give the server another certificate",
        ),
    ] {
        let proxy = Proxy::tls_of(&stage.ens.endpoint(), identity).await;
        let mut command = eni_gateway(&["check"]);
        command
            .env("ENI_GATEWAY_LEDGER__URL", "memory://")
            .env("ENI_GATEWAY_ENS__ENDPOINT", &proxy.url)
            .env("SSL_CERT_FILE", bundle.path())
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "simulator")
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "simulator");
        let ran: Ran = command.output().await.unwrap().into();
        assert_eq!(ran.code, 69, "{ran:?}");
        let problem_at = ran.stdout.find(problem).expect(&ran.stdout);
        let advice = ran.stdout[problem_at..].lines().nth(1).unwrap_or_default();
        assert!(advice.contains(&format!("what to do:  {remedy}")), "{ran:?}");
    }
}
