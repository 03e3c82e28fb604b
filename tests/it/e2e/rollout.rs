//! A rollout under load: replicas end and restart one after another. A client with the published
//! service configuration and a resumed watch sees no failed call and misses no end.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use eni_gateway::simulator::Action;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::gateway::{Stage, eni, eventually};
use crate::support::python::python;

const INSTANCES: usize = 200;
const PER_INSTANCE: usize = 10;
/// From one attach to the next: less than what the client's workers can do.
const PACE: Duration = Duration::from_millis(100);
/// Attaches that may be on their way: about one for each worker.
const AHEAD: u64 = 32;
/// As the chart sets it, but shorter.
const SETTINGS: [(&str, &str); 1] = [("GRPC__DRAIN_DELAY", "500ms")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_fails_no_call_and_loses_no_end() {
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i-{n}")).collect();
    let instances: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::new(&instances, INSTANCES * PER_INSTANCE).await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(stage.replica(&SETTINGS).await);
    }
    let addresses: Vec<&str> = replicas.iter().map(|replica| replica.address()).collect();
    let target = format!("ipv4:{}", addresses.join(","));

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut client = Command::new(python())
        .arg(here.join("tests/python/rollout_client.py"))
        .arg(target)
        .arg(here.join("proto/eni/gateway/v1/service_config.json"))
        .env_remove("http_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut pairs = client.stdin.take().unwrap();
    let reached = || stage.ens.journal().calls_of(Action::AttachNetworkInterface);

    let rollout = async {
        for replica in &mut replicas {
            // It has clients, and others besides it, when it receives the signal.
            let before = reached();
            eventually("the load stands still", async || reached() >= before + 30).await;
            let (_, well) = replica.terminate().await;
            assert!(well, "{}", replica.log());
            *replica = stage.spawn_on(replica.port(), &SETTINGS);
            replica.ready().await;
        }
    };
    let load = async {
        for number in 0..INSTANCES * PER_INSTANCE {
            let pair = format!("{} {}\n", names[number % INSTANCES], eni(number + 1));
            if pairs.write_all(pair.as_bytes()).await.is_err() {
                return;
            }
            tokio::time::sleep(PACE).await;
            // A client that is slow is not run away from.
            while reached() + AHEAD < number as u64 {
                tokio::time::sleep(PACE).await;
            }
        }
    };
    tokio::select! {
        () = rollout => {}
        () = load => panic!("the load ended before the rollout"),
    }
    let before = reached();
    drop(pairs);
    let output = tokio::time::timeout(Duration::from_secs(120), client.wait_with_output()).await;
    let report: Value = serde_json::from_slice(&output.unwrap().unwrap().stdout).unwrap();
    println!("{before} attaches reached ens: {report}");
    assert_eq!(report["failed"], Value::Array(Vec::new()), "{report:#}");
    assert_eq!(report["lost"], Value::Array(Vec::new()), "{report:#}");
    assert!(report["ends"].as_u64().unwrap() >= 60, "{report:#}");
    assert!(report["resumed"].as_u64().unwrap() >= 1, "no stream ever broke off: {report:#}");
}
