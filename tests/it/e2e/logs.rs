//! The log of a replica whose reader is slow, or does not read at all.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::{Stage, attach, eventually, get, try_attach};

const LOST: &str = "eni_gateway_log_lines_dropped_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_not_read_stops_nothing() {
    let stage = Stage::new(&["i-1"], 2).await;
    let (mut replica, mut unread) = stage.spawn_piped(&[("RUST_LOG", "trace")]);
    replica.ready().await;
    let client = replica.client().await;
    eventually("no line is lost", async || {
        get(&client, "i-1", "eni-0002").await.expect_err("it is not attached");
        replica.metric(LOST).await > 0.0
    })
    .await;
    try_attach(&client, attach("i-1", "eni-0001")).await.expect("attached");
    assert_eq!(replica.admin("/livez").await.expect("an answer").0, 200);

    let (took, well) = replica.terminate().await;
    assert!(well && took < Duration::from_secs(45), "{took:?}");
    let mut lines = String::new();
    unread.read_to_string(&mut lines).expect("text");
    assert!(lines.contains("\"serving\""), "what was written first is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_lines_are_written_before_the_end() {
    let stage = Stage::new(&["i-1"], 1).await;
    let (mut replica, mut reader) = stage.spawn_piped(&[]);
    replica.ready().await;
    try_attach(&replica.client().await, attach("i-1", "eni-0001")).await.expect("attached");
    let (_, well) = replica.terminate().await;
    let mut lines = String::new();
    reader.read_to_string(&mut lines).expect("text");
    assert!(
        well && lines.contains("\"stopped\"") && lines.contains("eni_gateway::audit"),
        "{lines}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_lines_have_a_file_of_their_own_and_the_log_filter_changes_at_run_time() {
    let (stage, directory) = (Stage::new(&["i-1"], 1).await, TempDir::new().unwrap());
    let file = |name: &str| directory.path().join(name);
    let (audit, filter) = (file("audit"), file("filter"));
    std::fs::write(&filter, "warn\n").unwrap();
    let settings = [
        ("LOG__AUDIT", audit.to_str().unwrap()),
        ("LOG__FILTER_FILE", filter.to_str().unwrap()),
        ("RUST_LOG", "trace"),
    ];
    let replica = stage.replica(&settings).await;
    try_attach(&replica.client().await, attach("i-1", "eni-0001")).await.expect("attached");
    let lines = || {
        let text = std::fs::read_to_string(&audit).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.map(|line: Value| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("the end has no line", async || lines() == ["attach", "attach ended"]).await;
    let log = replica.log();
    assert!(!log.contains("eni_gateway::audit") && !log.contains("\"serving\""), "{log}");

    std::fs::write(&filter, "eni_gateway=loud").unwrap();
    let failing = || replica.metric("eni_gateway_reload_failing");
    eventually("the bad file is not reported", async || failing().await == 1.0).await;
    std::fs::write(&filter, "info").unwrap();
    let client = replica.client().await;
    eventually("no line of a call", async || {
        get(&client, "i-1", "eni-0001").await.expect("attached");
        replica.log().contains("GetAttachment")
    })
    .await;
    assert!(failing().await == 0.0 && !replica.log().contains("eni_gateway::audit"));
}
