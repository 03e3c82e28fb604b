//! Watches behind real proxies whose replica dies. Each proxy reports that in its own way.

use eni_gateway::grpc::proto::attachment::State;
use rstest::rstest;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::ChildStdout;

use super::eni_gateway;
use crate::support::front::Front;
use crate::support::gateway::{Stage, attach, try_attach};
use crate::support::redis::free_port;

/// Reads until this ENI is shown as attached.
async fn shows(lines: &mut Lines<BufReader<ChildStdout>>, eni: &str) {
    let shown = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the watch has ended");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["networkInterfaceId"] == eni && line["state"] == State::Attached.as_str_name() {
                break;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(100), shown).await.expect("never shown");
}

#[rstest]
#[case("nginx")]
#[case("haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_through_the_death_of_a_replica_behind(#[case] program: &str) {
    let stage = Stage::new(&["i-1"], 2).await;
    let port = free_port();
    let settings = [("WATCH__HEARTBEAT", "1s")];
    let mut replica = stage.spawn_on(port, &settings);
    replica.ready().await;
    let proxy = Front::start(program, port).await;
    let endpoint = format!("http://{}", proxy.address());
    let mut watch =
        eni_gateway(&["watch", "i-1", "--follow", "-o", "json", "--endpoint", &endpoint])
            .spawn()
            .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    try_attach(&replica.client().await, attach("i-1", "eni-0001")).await.unwrap();
    shows(&mut lines, "eni-0001").await;

    replica.kill();
    drop(replica);
    let replica = stage.spawn_on(port, &settings);
    replica.ready().await;
    try_attach(&replica.client().await, attach("i-1", "eni-0002")).await.unwrap();
    shows(&mut lines, "eni-0002").await;
    watch.kill().await.unwrap();
}
