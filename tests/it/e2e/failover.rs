//! Redis' primary is killed during a thousand attaches. Nothing is lost, and no instance exceeds
//! its limit. The time until service resumes depends on `sync_replicas`.

use std::collections::BTreeMap;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, EniKind, EniStatus};
use futures_util::StreamExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::support::gateway::{
    Client, Replica, Stage, attach, eni, eventually, reason, try_attach, watch, within,
};
use crate::support::redis::cluster::Cluster;
use crate::support::redis::sentinels::Watched;

const INSTANCES: usize = 84;
/// Two more for each instance than it takes.
const PER_INSTANCE: usize = 12;
const LIMIT: usize = 10;

struct Reported {
    at: Instant,
    /// OK, or the reason.
    what: String,
}

/// Calls until the answer is one that stays.
async fn attach_for_good(
    clients: &[Client],
    instance: &str,
    eni: &str,
    reported: &Mutex<Vec<Reported>>,
) -> String {
    for client in clients.iter().cycle() {
        let answer =
            try_attach(client, within(Duration::from_secs(5), attach(instance, eni))).await;
        let what = match &answer {
            Ok(_) => "OK".to_owned(),
            Err(failure) => reason(failure),
        };
        let at = Instant::now();
        reported.lock().await.push(Reported { at, what: what.clone() });
        match what.as_str() {
            "OK" | "ENI_LIMIT_EXCEEDED" => return what,
            "COORDINATION_UNAVAILABLE"
            | "COORDINATION_RECOVERING"
            | "OUTCOME_UNKNOWN"
            | "LOCK_WAIT"
            | "NOT_APPLIED"
            // The budget is kept where the ledger is.
            | "ENS_THROTTLED" => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => panic!("{other}: {answer:?}"),
        }
    }
    unreachable!("the clients never come to an end")
}

/// What came of a thousand attaches.
struct Ran {
    /// When the failover began.
    began: Instant,
    /// When it was over.
    over: Instant,
    /// When an attach was sent after it.
    again: Instant,
    reported: Vec<Reported>,
}

/// A thousand attaches, in the middle of which `fail_over` runs.
async fn a_thousand_attaches(
    stage: &Stage,
    replicas: &[Replica],
    fail_over: impl AsyncFnOnce(),
) -> Ran {
    let mut clients = Vec::new();
    for replica in replicas {
        clients.push(replica.client().await);
    }
    let reported = Mutex::new(Vec::new());
    let reached = || stage.ens.journal().calls_of(Action::AttachNetworkInterface);
    let calls = (0..INSTANCES * PER_INSTANCE).map(|number| {
        let (clients, reported) = (&clients, &reported);
        async move {
            let instance = format!("i-{}", number % INSTANCES);
            let mut clients = clients.clone();
            let count = clients.len();
            clients.rotate_left(number % count);
            attach_for_good(&clients, &instance, &eni(number + 1), reported).await
        }
    });
    let calls = futures_util::stream::iter(calls).buffer_unordered(60).collect::<Vec<_>>();
    let failing = async {
        eventually("no attach goes through", async || reported.lock().await.len() >= 150).await;
        let began = Instant::now();
        fail_over().await;
        let (over, sent) = (Instant::now(), reached());
        eventually("no attach is sent again", async || reached() > sent).await;
        (began, over, Instant::now())
    };
    let (answers, (began, over, again)) = tokio::join!(calls, failing);
    let accepted = answers.iter().filter(|answer| *answer == "OK").count();
    assert_eq!(accepted, INSTANCES * LIMIT, "exactly what there is room for");

    for number in 0..INSTANCES {
        let instance = format!("i-{number}");
        let all = watch(&clients[0], &instance, "", 0).await.unwrap();
        let attached = all.iter().filter(|attachment| attachment.state() == State::Attached);
        assert_eq!(attached.count(), LIMIT, "{instance}: {all:#?}");
        let most = stage.ens.journal().instance(&instance).max_occupied;
        assert!(most <= LIMIT, "{instance} held {most}");
    }
    let world = stage.ens.world(|world, _| world.snapshot());
    let secondary = world.enis.iter().filter(|spec| spec.kind != EniKind::Primary);
    let here = secondary.filter(|spec| spec.placement.status == EniStatus::InUse);
    assert_eq!(here.count(), INSTANCES * LIMIT);
    for replica in replicas {
        assert_eq!(replica.metric("eni_gateway_invariant_violations_total").await, 0.0);
    }
    Ran { began, over, again, reported: reported.into_inner() }
}

fn counts(reported: &[Reported]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for reported in reported {
        *counts.entry(reported.what.as_str()).or_default() += 1;
    }
    counts
}

async fn stage(ledger: String) -> Stage {
    let names: Vec<String> = (0..INSTANCES).map(|number| format!("i-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Stage::over_many(ledger, &names, INSTANCES * PER_INSTANCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_replicas_that_are_waited_for_it_continues_at_once() {
    let mut watched = Watched::start().await;
    let stage = stage(watched.url()).await;
    // A hold-down would be far longer than all of it takes on a busy machine.
    let settings = [
        ("LEDGER__SYNC_REPLICAS", "1"),
        ("LEDGER__FAILOVER_WINDOW", "60s"),
        ("GRPC__MAX_IN_FLIGHT", "4096"),
    ];
    let replicas = [stage.replica(&settings).await, stage.replica(&settings).await];
    let ran = a_thousand_attaches(&stage, &replicas, async || {
        let took = watched.fail_over().await;
        println!("the new primary was there after {took:?}");
    })
    .await;
    let again = ran.again - ran.over;
    println!("attaching again {again:?} later; callers heard {:?}", counts(&ran.reported));
    assert!(again < Duration::from_secs(30), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_them_it_continues_after_the_hold_down() {
    let mut watched = Watched::start().await;
    let stage = stage(watched.url()).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let ran = a_thousand_attaches(&stage, &replicas, async || {
        watched.fail_over().await;
        // What was on its way to ENS has arrived by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
    })
    .await;
    // Failover window, lease, request validity and visibility lag of these replicas.
    let hold_down = Duration::from_secs(1 + 5 + 2 + 1);
    let (since_kill, since_over) = (ran.again - ran.began, ran.again - ran.over);
    println!(
        "attaching again {since_kill:?} after the kill; callers heard {:?}",
        counts(&ran.reported)
    );
    assert!(since_kill > hold_down, "{since_kill:?}");
    assert!(since_over < hold_down + Duration::from_secs(30), "{since_over:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_the_other_primaries_go_on_meanwhile() {
    let mut cluster = Cluster::start().await;
    let stage = stage(cluster.url()).await;
    let replicas = [stage.replica(&[]).await, stage.replica(&[]).await];
    let ran = a_thousand_attaches(&stage, &replicas, async || {
        cluster.fail_over(0).await;
    })
    .await;
    let meanwhile = ran.reported.iter().filter(|reported| {
        reported.what == "OK" && reported.at > ran.began && reported.at < ran.over
    });
    println!(
        "{} attached while one primary was away; callers heard {:?}",
        meanwhile.clone().count(),
        counts(&ran.reported)
    );
    assert!(meanwhile.count() > 0);
}
