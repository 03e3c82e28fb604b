//! The documentation's client examples, run against a real gateway whose streams end long before an
//! attach does.

mod fleet;
mod proxies;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, EniStatus, Fault, Placement};

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::gateway::{Replica, Stage, eni, eventually};
use crate::support::python::python;

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(100);

#[expect(unreachable_pub, reason = "readers copy it into modules of their own")]
mod printed {
    use eni_gateway::grpc::proto as eni;

    include!("printed.rs");
}

const PRINTED: &str = include_str!("../../../docs/clients.md");

/// The blocks of code in one language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let begun = PRINTED.split(fence.as_str()).skip(1);
    begun.filter_map(|rest| rest.split("```").next()).collect()
}

async fn stage() -> (Stage, Replica) {
    let stage = Stage::new(&["i-stopped-1", "i-2"], 2).await;
    for number in [1, 2] {
        // Until it is forced.
        let slow = Effect::AttachTime { takes: Duration::from_secs(3600) };
        stage.ens.fault(Fault::next(Action::AttachNetworkInterface, slow).eni(eni(number)));
    }
    let replica = stage.replica(&[("WATCH__MAX_AGE", "1500ms"), ("WATCH__HEARTBEAT", "1s")]).await;
    (stage, replica)
}

/// Once a stream has ended because it was too old, the ENI is attached.
async fn attached_after_a_stream(stage: &Stage, replica: &Replica, instance: &str, eni: &str) {
    let ended = |line: &str| {
        line.starts_with("rpc_server_call_duration_seconds_count")
            && line.contains("STREAM_TOO_OLD")
    };
    eventually("no stream grows too old", async || {
        let page = replica.admin("/metrics").await;
        page.is_some_and(|(_, page)| page.lines().any(ended))
    })
    .await;
    stage.ens.world(|world, now| {
        let here = Placement::on(EniStatus::InUse, instance);
        world.force(eni, here, now).unwrap();
    });
}

/// Python's messages, generated from the proto.
async fn generated() -> TempDir {
    let generated = tempfile::tempdir().unwrap();
    let out = generated.path().display();
    let protoc = Command::new(python())
        .args(["-m", "grpc_tools.protoc", "-I", "proto"])
        .args([format!("--python_out={out}"), format!("--grpc_python_out={out}")])
        .arg("eni/gateway/v1/attachment_service.proto")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .status();
    assert!(protoc.await.unwrap().success());
    generated
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_attaches_and_watches_over_several_streams() {
    let (stage, replica) = stage().await;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = generated().await;
    let program = blocks("python").join("\n").replace("127.0.0.1:50051", replica.address());
    let ran = Command::new(python())
        .args(["-c", &program])
        .env("PYTHONPATH", generated.path())
        .env_remove("http_proxy")
        .current_dir(here)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(LONG, ran);
    let (ran, ()) =
        tokio::join!(ran, attached_after_a_stream(&stage, &replica, "i-stopped-1", "eni-0001"));
    let ran = ran.unwrap().unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines.first().is_some_and(|line| line.starts_with("accepted: ")), "{ran:?}");
    let end = ["STATE_ATTACHED", "free slots: 9", "eni-0001 OK", "eni-0002 OK"];
    assert!(lines.ends_with(&end), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_attaches_and_watches_over_several_streams() {
    let (stage, replica) = stage().await;
    let mut client = replica.channel().await;
    let request_id = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c12";
    let accepted = printed::attach(&mut client, "i-2", &eni(2), request_id).await;
    let accepted = accepted.unwrap();
    let mut seen = Vec::new();
    let eni = eni(2);
    let (watched, ()) = tokio::join!(
        printed::watch(&mut client, "i-2", &eni, |attachment| seen.push(attachment)),
        attached_after_a_stream(&stage, &replica, "i-2", &eni)
    );
    watched.unwrap();
    let last = seen.last().unwrap();
    assert_eq!((&last.uid, last.state().as_str_name()), (&accepted.uid, "STATE_ATTACHED"));
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision));
}

#[test]
fn the_rust_client_is_printed_as_it_runs() {
    assert_eq!(blocks("rust"), [include_str!("printed.rs")]);
}

/// gRPC's own C core, which grpcio, Ruby, PHP and C++ share, and what it makes of the published
/// configuration.
#[tokio::test]
async fn the_service_configuration_waits_repeats_as_configured_and_bounds_a_read() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(python())
        .arg(here.join("tests/python/service_config.py"))
        .arg(here.join("proto/eni/gateway/v1/service_config.json"))
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(LONG, ran).await.unwrap().unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
    for rpc in ["AttachNetworkInterface", "GetAttachment", "ListAttachments"] {
        assert_eq!(printed[rpc]["code"], "OK", "{printed}");
        let pauses = printed[rpc]["pauses_ms"].as_array().unwrap();
        // No sooner than the server asked for: 700 ms, where the configuration alone would wait for
        // 100.
        assert!(pauses.len() == 1 && pauses[0].as_u64() >= Some(690), "{printed}");
    }
    assert_eq!(printed["WatchAttachment"]["code"], "UNAVAILABLE", "{printed}");
    assert_eq!(printed["WatchAttachment"]["pauses_ms"], serde_json::json!([]), "{printed}");
    assert_eq!(printed["hangs"], "DEADLINE_EXCEEDED", "{printed}");
}
