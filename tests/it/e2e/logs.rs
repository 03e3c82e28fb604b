//! The log of a replica whose reader is slow, or does not read at all.

use std::io::Read as _;
use std::time::Duration;

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
