//! The clients that the documentation prints: what is printed is what runs here, against a real gateway whose streams grow old
//! long before an attach is through.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use eni_gateway::simulator::{Action, Effect, Fault};

use tokio::process::Command;

use crate::support::gateway::{Replica, Stage, eni};
use crate::support::python::python;

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
        let slow = Effect::AttachTime {
            takes: Duration::from_secs(4),
        };
        stage
            .ens
            .fault(Fault::next(Action::AttachNetworkInterface, slow).eni(eni(number)));
    }
    let replica = stage
        .replica(&[("WATCH__MAX_AGE", "1500ms"), ("WATCH__HEARTBEAT", "1s")])
        .await;
    (stage, replica)
}

/// Streams that ended because they were too old.
async fn resumed(replica: &Replica) -> usize {
    let (_, page) = replica.admin("/metrics").await.unwrap();
    let ended =
        |line: &&str| line.starts_with("rpc_server_call_duration_seconds_count") && line.contains("STREAM_TOO_OLD");
    page.lines().filter(ended).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_client_attaches_and_watches_over_several_streams() {
    let (_stage, replica) = stage().await;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = tempfile::tempdir().unwrap();
    let out = generated.path().display();
    let protoc = Command::new(python())
        .args(["-m", "grpc_tools.protoc", "-I", "proto"])
        .args([format!("--python_out={out}"), format!("--grpc_python_out={out}")])
        .arg("eni/gateway/v1/attachment_service.proto")
        .current_dir(here)
        .status();
    assert!(protoc.await.unwrap().success());
    let program = blocks("python")
        .join("\n")
        .replace("127.0.0.1:50051", replica.address());
    let ran = Command::new(python())
        .args(["-c", &program])
        .env("PYTHONPATH", generated.path())
        .env_remove("http_proxy")
        .current_dir(here)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(Duration::from_secs(30), ran)
        .await
        .unwrap()
        .unwrap();
    let printed = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(
        lines.first().is_some_and(|line| line.starts_with("accepted: ")) && lines.last() == Some(&"STATE_ATTACHED"),
        "{ran:?}"
    );
    assert!(resumed(&replica).await > 0, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_client_attaches_and_watches_over_several_streams() {
    let (_stage, replica) = stage().await;
    let mut client = replica.client().await;
    let request_id = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c12";
    let accepted = printed::attach(&mut client, "i-2", &eni(2), request_id).await;
    let accepted = accepted.unwrap();
    let mut seen = Vec::new();
    printed::watch(&mut client, "i-2", &eni(2), |attachment| seen.push(attachment))
        .await
        .unwrap();
    let last = seen.last().unwrap();
    assert_eq!(
        (&last.uid, last.state().as_str_name()),
        (&accepted.uid, "STATE_ATTACHED")
    );
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision));
    assert!(resumed(&replica).await > 0, "{seen:?}");
}

#[test]
fn the_rust_client_is_printed_as_it_runs() {
    assert_eq!(blocks("rust"), [include_str!("printed.rs")]);
}

/// gRPC's own C core, which grpcio, Ruby, PHP and C++ share, and what it makes of the published configuration.
#[tokio::test]
async fn the_service_configuration_waits_repeats_as_told_and_bounds_a_read() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ran = Command::new(python())
        .arg(here.join("tests/python/service_config.py"))
        .arg(here.join("proto/eni/gateway/v1/service_config.json"))
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let ran = tokio::time::timeout(Duration::from_secs(40), ran)
        .await
        .unwrap()
        .unwrap();
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
    for rpc in ["AttachNetworkInterface", "GetAttachment", "ListAttachments"] {
        assert_eq!(told[rpc]["code"], "OK", "{told}");
        let pauses = told[rpc]["pauses_ms"].as_array().unwrap();
        // No sooner than the server asked for: 700 ms, where the configuration alone would wait for 100.
        assert!(pauses.len() == 1 && pauses[0].as_u64() >= Some(690), "{told}");
    }
    assert_eq!(told["WatchAttachment"]["code"], "UNAVAILABLE", "{told}");
    assert_eq!(told["WatchAttachment"]["pauses_ms"], serde_json::json!([]), "{told}");
    assert_eq!(told["hangs"], "DEADLINE_EXCEEDED", "{told}");
}
