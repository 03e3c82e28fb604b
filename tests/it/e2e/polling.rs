//! What waiting costs: describes go by batches, and watchers cost nothing.

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Spread, WorldFile};
use futures_util::future::join_all;
use rstest::rstest;
use std::time::Duration;

use crate::support::gateway::{Replica, Stage, attach, eni, eventually, try_attach, watch};
use crate::support::redis::Server;

const DESCRIBE: Action = Action::DescribeNetworkInterfaces;
const INSTANCES: usize = 20;

#[rstest]
#[case::nobody_watches(0)]
#[case::a_thousand_watch(1000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_attaches_are_asked_for_fifty_at_a_time_whoever_watches(#[case] watchers: usize) {
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over(Server::start().await, WorldFile::simple(&names, 10 * INSTANCES)).await;
    // Long enough for a few rounds after the last one was accepted.
    stage.ens.world(|world, _| {
        let rules = world.rules().clone();
        let attach_time = Spread::fixed(Duration::from_secs(8));
        world.set_rules(eni_gateway::simulator::Rules { attach_time, ..rules });
    });
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    let pairs: Vec<(&str, String)> = (0..10 * INSTANCES)
        .map(|n| (names[n % INSTANCES], eni(n + 1)))
        .collect();
    let calls = pairs
        .iter()
        .enumerate()
        .map(|(n, (instance, eni))| try_attach(&clients[n % 2], attach(instance, eni)));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let accepted = stage.ens.books().calls.len();

    let watchers = (0..watchers).map(|n| {
        let (instance, eni) = &pairs[n % pairs.len()];
        watch(&clients[n % 2], instance, eni, 0)
    });
    for seen in join_all(watchers).await {
        assert_eq!(seen.unwrap().last().unwrap().state(), State::Attached);
    }
    let ended = async |replica: &Replica| replica.metric("eni_gateway_attempts_total").await;
    eventually("not all end", async || {
        ended(&replicas[0]).await + ended(&replicas[1]).await >= 200.0
    })
    .await;
    let books = stage.ens.books();
    let polls: Vec<usize> = books.calls.range(accepted..).map(|call| call.enis.len()).collect();
    assert!(
        books.calls.range(accepted..).all(|call| call.instance.is_none()),
        "no watcher asks for an instance"
    );
    let asked: usize = polls.iter().sum();
    assert!(asked >= 200, "{polls:?}");
    // Whole batches need asked / 50 calls; two replicas that share them seldom fill the last ones.
    assert!(
        polls.len() <= asked / 50 * 2 + 4,
        "{} calls for {asked} looks: {polls:?}",
        polls.len()
    );

    // Once all have ended there is nothing to ask for.
    let before = stage.ens.books().calls_of(DESCRIBE);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.ens.books().calls_of(DESCRIBE), before);
    eventually("streams stay open", async || {
        replicas[0].metric("eni_gateway_watch_streams").await == 0.0
    })
    .await;
}
