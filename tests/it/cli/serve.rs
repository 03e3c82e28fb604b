//! `serve` from its start to its end, where something is in the way.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use eni_gateway::simulator::WorldFile;

use super::{Ran, eni_gateway, run};
use crate::support::gateway::{Stage, eventually};
use crate::support::redis::Server;

async fn serve(arguments: &[&str]) -> Ran {
    let mut command = eni_gateway(&[&["serve"], arguments].concat());
    command
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hush");
    let ran = tokio::time::timeout(Duration::from_secs(100), command.output());
    ran.await.expect("it ends").unwrap().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_starts_without_redis_and_says_once_why_it_does_not_serve() {
    let stage = Stage::over(Server::stopped(&[]), WorldFile::simple(&["i-1"], 1)).await;
    let mut replica = stage.spawn(&[]);
    let said = |words: &str| replica.log().matches(words).count();
    eventually("it does not say why", async || {
        said("cannot connect to the ledger") > 0 && said("not serving calls") > 0
    })
    .await;
    assert_eq!(replica.admin("/livez").await.unwrap().0, 200);
    let (status, body) = replica.admin("/readyz").await.unwrap();
    assert!(status == 503 && body.contains("ledger"), "{body}");
    for words in ["cannot connect to the ledger", "not serving calls"] {
        assert_eq!(said(words), 1, "{words}: {}", replica.log());
    }
    assert!(
        replica
            .log()
            .lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
    let (took, well) = replica.terminate().await;
    assert!(well && took < Duration::from_secs(45), "{took:?}: {}", replica.log());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (grpc, admin, setting) in [
        (taken.as_str(), "127.0.0.1:0", "grpc.listen"),
        ("127.0.0.1:0", taken.as_str(), "admin.listen"),
    ] {
        let ran = serve(&["--ledger-url", "memory://", "--listen", grpc, "--admin-listen", admin]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let error = format!("error: {setting} = {taken} cannot be listened on: Address already in use");
        assert!(ran.stderr.contains(&error) && !ran.stderr.contains("hush"), "{ran:?}");
    }
}

#[rstest::rstest]
#[case("[ledger", "gateway.toml:1): unclosed table")]
#[case(
    "[ledger]\nurl = 'memory://'\nurll = 'x'",
    "ledger.urll (gateway.toml:3): no such setting"
)]
#[case(
    "[ledger]\nurl = 'memory://'\n[nope]\na = 1",
    "nope (gateway.toml:3): no such section"
)]
#[case("[ledger]\nurl = 'mysql://h'", "ledger.url (gateway.toml:2)")]
#[tokio::test]
async fn a_bad_file_is_64_and_the_line_is_named(#[case] content: &str, #[case] problem: &str) {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("gateway.toml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let ran = serve(&["--config", path.to_str().unwrap()]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    let said = ran.stderr.replace(&format!("{}/", directory.path().display()), "");
    assert!(said.contains(problem), "{said}");
}

#[tokio::test]
async fn what_to_do_without_credentials_is_said_once() {
    let mut command = eni_gateway(&["serve", "--ledger-url", "memory://"]);
    command.env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(
        ran.stderr.starts_with(
            "error: the configuration has 1 fault:\n  - ENS credentials: no source of credentials is set up; set ALIBABA_CLOUD_"
        ),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.matches("; set ").count(), 1, "{}", ran.stderr);
    for source in [
        "environment: ",
        "OIDC (RRSA): ",
        "CLI profile: ",
        "ECS role: ",
        "credentials URI: ",
    ] {
        assert_eq!(ran.stderr.matches(source).count(), 1, "{source}\n{}", ran.stderr);
    }
}

#[tokio::test]
async fn addresses_that_are_none_are_wrong_usage() {
    let ran = run(&["serve", "--ledger-url", "memory://", "--listen", "here"]).await;
    assert!(ran.code == 64 && ran.stderr.contains("--listen"), "{ran:?}");
}
