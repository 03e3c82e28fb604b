//! The printed watch loops behind real proxies, whose replica dies in the middle of a stream.

use std::path::Path;
use std::process::Stdio;

use eni_gateway::simulator::{Action, Effect, EniStatus, Fault, Placement};
use rstest::rstest;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::{LONG, blocks, generated, printed};
use crate::support::front::Front;
use crate::support::gateway::{Replica, Stage, eventually};
use crate::support::python::python;
use crate::support::redis::free_port;

const SETTINGS: [(&str, &str); 1] = [("WATCH__HEARTBEAT", "1s")];

/// A replica behind a proxy. An attach of `eni-0001` takes until it is forced.
struct Behind {
    stage: Stage,
    port: u16,
    replica: Replica,
    front: Front,
}

impl Behind {
    async fn start(program: &str) -> Self {
        let stage = Stage::new(&["i-stopped-1"], 2).await;
        let slow = Effect::AttachTime { takes: std::time::Duration::from_secs(3600) };
        stage.ens.fault(Fault::next(Action::AttachNetworkInterface, slow).eni("eni-0001"));
        let port = free_port();
        let replica = stage.spawn_on(port, &SETTINGS);
        replica.ready().await;
        Self { front: Front::start(program, port).await, stage, port, replica }
    }

    /// Waits for an open stream, kills the replica, and attaches the ENI while another one starts.
    async fn replace_replica(&mut self) {
        let streams = async || self.replica.metric("eni_gateway_watch_streams").await == 1.0;
        eventually("no watch is open", streams).await;
        self.replica.kill();
        let here = Placement::on(EniStatus::InUse, "i-stopped-1");
        self.stage.ens.world(|world, now| world.force("eni-0001", here, now).unwrap());
        self.replica = self.stage.spawn_on(self.port, &SETTINGS);
        self.replica.ready().await;
    }
}

#[rstest]
#[case("nginx")]
#[case("haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_watch_goes_through_the_death_of_a_replica_behind(#[case] program: &str) {
    let mut behind = Behind::start(program).await;
    let generated = generated().await;
    let printed = blocks("python").join("\n");
    let code = printed.replace("127.0.0.1:50051", &behind.front.address());
    let mut client = Command::new(python())
        .args(["-u", "-c", &code])
        .env("PYTHONPATH", generated.path())
        .env_remove("http_proxy")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut shown = Vec::new();
    let watched = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            shown.push(line);
        }
    };
    let both = async { tokio::join!(watched, behind.replace_replica()) };
    tokio::time::timeout(LONG, both).await.expect("the watch does not end");
    assert!(shown.iter().any(|line| line == "STATE_ATTACHED"), "{shown:?}");
    assert!(client.wait().await.unwrap().success(), "{shown:?}");
}

#[rstest]
#[case("nginx")]
#[case("haproxy")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_watch_goes_through_the_death_of_a_replica_behind(#[case] program: &str) {
    let mut behind = Behind::start(program).await;
    let endpoint = format!("http://{}", behind.front.address());
    let mut client = printed::Client::connect(endpoint).await.unwrap();
    let request_id = "6ad1b2f4-6bb4-4f5b-8f4d-2f6d2a1b7c12";
    printed::attach(&mut client, "i-stopped-1", "eni-0001", request_id).await.unwrap();
    let mut seen = Vec::new();
    let both = async {
        tokio::join!(
            printed::watch(&mut client, "i-stopped-1", "eni-0001", |change| seen.push(change)),
            behind.replace_replica()
        )
    };
    let (watched, ()) = tokio::time::timeout(LONG, both).await.expect("the watch does not end");
    watched.unwrap();
    assert_eq!(seen.last().unwrap().state().as_str_name(), "STATE_ATTACHED");
    assert!(seen.windows(2).all(|pair| pair[0].revision < pair[1].revision));
}
