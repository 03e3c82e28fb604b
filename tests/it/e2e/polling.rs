//! The cost of waiting: describes are batched, and watchers cost no calls.

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, DurationRange, EniStatus, Placement, WorldFile};
use futures_util::future::join_all;
use rstest::rstest;
use std::time::Duration;
use tokio::time::Instant;

use crate::support::gateway::{Replica, Stage, attach, eni, eventually, try_attach, watch, within};
use crate::support::redis::Server;

const PATIENT: Duration = Duration::from_secs(120);
const DESCRIBE: Action = Action::DescribeNetworkInterfaces;
const INSTANCES: usize = 20;
/// How often a replica reads what is due, at most: every half second, less a fifth.
const TICK: Duration = Duration::from_millis(400);

#[rstest]
#[case::no_watchers(0)]
#[case::a_thousand_watch(1000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_attaches_are_asked_for_fifty_at_a_time_with_any_watchers(
    #[case] watchers: usize,
) {
    let names: Vec<String> = (0..INSTANCES).map(|n| format!("i-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stage = Stage::over(Server::start().await, WorldFile::simple(&names, 10 * INSTANCES)).await;
    // Until they are forced.
    stage.ens.world(|world, _| {
        let rules = world.rules().clone();
        let attach_time = DurationRange::fixed(Duration::from_secs(3600));
        world.set_rules(eni_gateway::simulator::WorldRules { attach_time, ..rules });
    });
    // A comparison would be a describe too.
    let settings = [("TRACKER__RECONCILE_AFTER", "1h")];
    let replicas = [stage.replica(&settings).await, stage.replica(&settings).await];
    let clients = [replicas[0].client().await, replicas[1].client().await];
    let pairs: Vec<(&str, String)> =
        (0..10 * INSTANCES).map(|n| (names[n % INSTANCES], eni(n + 1))).collect();
    let calls = pairs.iter().enumerate().map(|(n, (instance, eni))| {
        try_attach(&clients[n % 2], within(PATIENT, attach(instance, eni)))
    });
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let (accepted, began) = (stage.ens.journal().calls.len(), Instant::now());

    let watching = join_all((0..watchers).map(|n| {
        let (instance, eni) = &pairs[n % pairs.len()];
        watch(&clients[n % 2], instance, eni, 0)
    }));
    let polls = || -> Vec<usize> {
        let journal = stage.ens.journal();
        journal.calls.range(accepted..).map(|call| call.enis.len()).collect()
    };
    let rounds = async {
        eventually("they do not watch", async || {
            let streams =
                async |replica: &Replica| replica.metric("eni_gateway_watch_streams").await;
            streams(&replicas[0]).await + streams(&replicas[1]).await >= watchers as f64
        })
        .await;
        eventually("they are not asked for", async || polls().iter().sum::<usize>() >= 600).await;
        stage.ens.world(|world, now| {
            for (instance, eni) in &pairs {
                world.force(eni, Placement::on(EniStatus::InUse, *instance), now).unwrap();
            }
        });
    };
    let (watched, ()) = tokio::join!(watching, rounds);
    for seen in watched {
        assert_eq!(seen.unwrap().last().unwrap().state(), State::Attached);
    }
    let ended = async |replica: &Replica| replica.metric("eni_gateway_attempts_total").await;
    eventually("not all end", async || {
        ended(&replicas[0]).await + ended(&replicas[1]).await >= 200.0
    })
    .await;
    let ticks = replicas.len() * (1 + began.elapsed().div_duration_f64(TICK) as usize);
    assert!(
        stage.ens.journal().calls.range(accepted..).all(|call| call.instance.is_none()),
        "no watcher asks for an instance"
    );
    let polls = polls();
    let asked: usize = polls.iter().sum();
    // Each tick asks for all that is due in batches of fifty, of which the last one need not be
    // full.
    assert!(
        polls.len() <= asked / 50 + ticks,
        "{} calls for {asked} describes in {ticks} ticks: {polls:?}",
        polls.len()
    );

    // Once all have ended there is nothing to ask for: at most a describe that was on its way.
    eventually("it still polls", async || {
        let before = stage.ens.journal().calls_of(DESCRIBE);
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.ens.journal().calls_of(DESCRIBE) == before
    })
    .await;
    eventually("streams stay open", async || {
        replicas[0].metric("eni_gateway_watch_streams").await == 0.0
    })
    .await;
}
