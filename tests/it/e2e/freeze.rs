//! A freeze under load, over a cluster and through a rollout.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault};
use futures_util::future::join_all;
use tokio::process::Command;

use crate::support::gateway::{
    Replica, SLOW_ENS, Stage, attach, eni, eventually, get, reason, try_attach, watch, within,
};
use crate::support::python::{PythonClient, attach as python_attach};
use crate::support::redis::cluster::Cluster;

const INSTANCES: usize = 200;
/// Callers that attach one ENI after another.
const CALLERS: usize = 8;
/// From one attach of a caller to its next.
const PACE: Duration = Duration::from_millis(100);

/// Runs a command of the program about the ledger. Returns its output.
async fn ledger(stage: &Stage, url: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(&stage.program);
    let ran = command.args(arguments).args(["--ledger-url", url]).output().await.unwrap();
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).unwrap()
}

async fn is_frozen(replica: &Replica, partitions: f64) {
    let shows = async || replica.metric("eni_gateway_partitions_frozen").await == partitions;
    eventually("the metric does not follow", shows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attach_begins_through_load_and_a_rollout_and_those_in_flight_end() {
    let cluster = Cluster::start().await;
    let url = cluster.url();
    let names: Vec<String> = (0..INSTANCES).map(|number| format!("i-{number}")).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over_many(url.clone(), &known, 10 * INSTANCES).await;
    let mut replicas = [stage.replica(&SLOW_ENS).await, stage.replica(&SLOW_ENS).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];

    let (next, ends) = (AtomicUsize::new(1), AtomicBool::new(false));
    let caller = async |number: usize| {
        while !ends.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let request = attach(&names[at % INSTANCES], &eni(at));
            if let Err(failure) = try_attach(&clients[number % 2], request).await {
                assert_eq!(reason(&failure), "FROZEN");
            }
            tokio::time::sleep(PACE).await;
        }
    };
    let frozen = async {
        let reached = || stage.ens.journal().calls_of(Action::AttachNetworkInterface);
        eventually("there is no load", async || reached() > 50).await;
        // One is on its way to ENS for long.
        let slow = Fault::next(Action::AttachNetworkInterface, Effect::None);
        stage.ens.fault(slow.delay(Duration::from_secs(3)).eni("eni-1999"));
        let patient = within(Duration::from_secs(60), attach("i-0", "eni-1999"));
        let in_flight = try_attach(&clients[0], patient);
        let freeze = async {
            eventually("it is not sent", async || {
                stage.ens.journal().instance("i-0").attach_processing > 0
            })
            .await;
            ledger(&stage, &url, &["ledger", "freeze", "--reason", "moving"]).await;
            next.load(Ordering::Relaxed)
        };
        let (in_flight, first) = tokio::join!(in_flight, freeze);
        in_flight.expect("it was in flight");
        // The calls of each caller that began after the freeze.
        let last = first + 4 * CALLERS;
        eventually("the load stands still", async || next.load(Ordering::Relaxed) > last).await;
        ends.store(true, Ordering::Relaxed);
        first
    };
    let (first, _) = tokio::join!(frozen, join_all((0..CALLERS).map(caller)));
    let last = next.load(Ordering::Relaxed);
    let journal = stage.ens.journal();
    for number in first..last {
        assert_eq!(
            journal.pair(&names[number % INSTANCES], &eni(number)).attach_calls,
            0,
            "{number}"
        );
    }
    let seen = watch(&clients[1], "i-0", "eni-1999", 0).await.unwrap();
    assert_eq!(seen.last().unwrap().state(), State::Attached, "watches continue");

    // It holds in replicas that come later, and each shows it.
    for replica in &mut replicas {
        replica.terminate().await;
        *replica = stage.replica(&SLOW_ENS).await;
        is_frozen(replica, 64.0).await;
        let client = replica.client().await;
        let refused = try_attach(&client, attach("i-1", "eni-1998")).await.unwrap_err();
        assert_eq!(reason(&refused), "FROZEN");
        assert!(refused.1.retry_info().is_some() && refused.0.message().contains("moving"));
        get(&client, "i-0", "eni-1999").await.expect("reads are answered");
        let (status, ready) = replica.admin("/readyz").await.unwrap();
        assert!(status == 200 && ready.contains("(moving): no attach begins"), "{ready}");
    }
    let mut python_client = PythonClient::start();
    let call = python_attach(replicas[0].address(), "i-1", "eni-1998");
    let refused = python_client.call_one(call.clone()).await;
    assert_eq!([&refused["code"], &refused["reason"]], ["UNAVAILABLE", "FROZEN"], "{refused:#}");
    assert!(refused["details"]["RetryInfo"].is_object(), "{refused:#}");
    let explained = ledger(&stage, &url, &["explain", "i-1"]).await;
    assert!(explained.contains("An operator stopped new attaches"), "{explained}");

    ledger(&stage, &url, &["ledger", "unfreeze"]).await;
    let answer = python_client.call_one(call).await;
    assert_eq!(answer["code"], "OK", "{answer:#}");
    for replica in &replicas {
        is_frozen(replica, 0.0).await;
    }
}
