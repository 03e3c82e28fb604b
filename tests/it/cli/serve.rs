//! `serve` from start to end, with failures.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use eni_gateway::simulator::WorldFile;

use super::{Ran, eni_gateway, run};
use crate::support::gateway::{Stage, eventually};
use crate::support::redis::Server;

async fn serve(arguments: &[&str]) -> Ran {
    let mut command = eni_gateway(&[&["serve"], arguments].concat());
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", "id").env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "hush");
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
        replica.log().lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
    );
    let (took, well) = replica.terminate().await;
    assert!(well && took < Duration::from_secs(45), "{took:?}: {}", replica.log());
}

/// The message of the last line, which is an error like any other line.
fn last_error(ran: &Ran) -> String {
    let line: serde_json::Value =
        serde_json::from_str(ran.stderr.lines().last().expect("a line")).expect("JSON");
    assert_eq!(line["level"], "ERROR", "{line}");
    line["message"].as_str().expect("a message").to_owned()
}

#[tokio::test]
async fn text_can_be_asked_for() {
    let mut command = eni_gateway(&["serve", "--listen", "127.0.0.1:50051"]);
    command
        .env("ENI_GATEWAY_LOG__FORMAT", "text")
        .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let ran: Ran = command.output().await.unwrap().into();
    let begin = "error: the configuration has 2 faults:\n  - ledger.url";
    assert!(ran.code == 64 && ran.stderr.starts_with(begin), "{ran:?}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (grpc, admin, setting) in [
        (taken.as_str(), "127.0.0.1:0", "grpc.listen"),
        ("127.0.0.1:0", taken.as_str(), "admin.listen"),
    ] {
        let ran =
            serve(&["--ledger-url", "memory://", "--listen", grpc, "--admin-listen", admin]).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let error = format!("{setting} = {taken} cannot be listened on: Address already in use");
        assert!(last_error(&ran).starts_with(&error) && !ran.stderr.contains("hush"), "{ran:?}");
    }
}

#[rstest::rstest]
#[case("[ledger", "gateway.toml:1): unclosed table")]
#[case("[ledger]\nurl = 'memory://'\nurll = 'x'", "ledger.urll (gateway.toml:3): no such setting")]
#[case("[ledger]\nurl = 'memory://'\n[nope]\na = 1", "nope (gateway.toml:3): no such section")]
#[case("[ledger]\nurl = 'mysql://h'", "ledger.url (gateway.toml:2)")]
#[tokio::test]
async fn a_bad_file_is_64_and_the_line_is_named(#[case] content: &str, #[case] problem: &str) {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("gateway.toml");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
    let ran = serve(&["--config", path.to_str().unwrap()]).await;
    assert_eq!(ran.code, 64, "{ran:?}");
    let said = last_error(&ran).replace(&format!("{}/", directory.path().display()), "");
    assert!(said.contains(problem), "{said}");
}

#[tokio::test]
async fn what_to_do_without_credentials_is_said_once() {
    let mut command = eni_gateway(&["serve", "--ledger-url", "memory://"]);
    command.env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
    let ran: Ran = command.output().await.unwrap().into();
    assert_eq!(ran.code, 64, "{ran:?}");
    let said = last_error(&ran);
    assert!(
        said.starts_with(
            "the configuration has 1 fault:\n  - ENS credentials: no source of credentials is configured; set ALIBABA_CLOUD_"
        ),
        "{}",
        said
    );
    assert_eq!(said.matches("; set ").count(), 1, "{}", said);
    for source in
        ["environment: ", "OIDC (RRSA): ", "CLI profile: ", "ECS role: ", "credentials URI: "]
    {
        assert_eq!(said.matches(source).count(), 1, "{source}\n{}", said);
    }
}

#[tokio::test]
async fn addresses_that_are_none_are_wrong_usage() {
    let ran = run(&["serve", "--ledger-url", "memory://", "--listen", "here"]).await;
    assert!(ran.code == 64 && ran.stderr.contains("--listen"), "{ran:?}");
}
