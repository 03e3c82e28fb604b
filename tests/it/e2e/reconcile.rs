//! Reconciliation finds what the queue of due attempts cannot, and corrects the record. It detaches
//! and deletes nothing.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::ledger::keys::{Keys, PartitionId, due_member};
use eni_gateway::simulator::{
    Action, DurationRange, Effect, EniStatus, Fault, Placement, WorldRules,
};

use crate::support::gateway::{Replica, Stage, attach, eni, eventually, get, try_attach, watch};

const SOON: [(&str, &str); 1] = [("TRACKER__RECONCILE_AFTER", "1s")];

/// Far longer than anything takes here.
const LONG: Duration = Duration::from_secs(120);

fn keys() -> Keys {
    Keys::new("eni-gateway:").unwrap()
}

/// Takes an attempt's place in the queue away, as if Redis had lost it.
async fn lose_place(stage: &Stage, instance: &str, eni: &str) {
    let (instance, eni) = (instance.parse().unwrap(), eni.parse().unwrap());
    let (queue, member) = (keys().due(PartitionId::of(&instance)), due_member(&instance, &eni));
    let removed: u64 = stage.redis.ask(&["ZREM", &queue, &member]).await;
    assert_eq!(removed, 1, "it was under way");
    // A describe that was on its way puts it back.
    eventually("it does not stay away", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stage.redis.ask::<u64>(&["ZREM", &queue, &member]).await == 0
    })
    .await;
}

async fn differences(replicas: &[Replica], kind: &str) -> f64 {
    let mut sum = 0.0;
    for replica in replicas {
        let (_, page) = replica.admin("/metrics").await.unwrap();
        let line = format!("eni_gateway_reconcile_drift_total{{kind=\"{kind}\"}} ");
        let value = page.lines().find_map(|text| text.strip_prefix(&line)).unwrap();
        sum += value.parse::<f64>().unwrap();
    }
    sum
}

/// Attaches, and waits until it is attached.
async fn attached(replica: &Replica, instance: &str, eni: &str) {
    let client = replica.client().await;
    try_attach(&client, attach(instance, eni)).await.unwrap();
    let seen = watch(&client, instance, eni, 0).await.unwrap();
    assert_eq!(seen.last().unwrap().state(), State::Attached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_lost_its_place_in_the_queue_is_driven_on() {
    let stage = Stage::new(&["i-1"], 2).await;
    stage.ens.world(|world, _| {
        let rules = world.rules().clone();
        let attach_time = DurationRange::fixed(Duration::from_secs(8));
        world.set_rules(WorldRules { attach_time, ..rules });
    });
    let replicas = [stage.replica(&SOON).await];
    let client = replicas[0].client().await;
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    lose_place(&stage, "i-1", "eni-0001").await;
    let seen = tokio::time::timeout(LONG, watch(&client, "i-1", "eni-0001", 0)).await;
    assert_eq!(seen.unwrap().unwrap().last().unwrap().state(), State::Attached);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ens_does_not_show_either_is_put_back_and_settled_as_usual() {
    let stage = Stage::new(&["i-1"], 2).await;
    // Not settled before its place is lost.
    let settings = [("TRACKER__RECONCILE_AFTER", "4s"), ("ENS__VISIBILITY_LAG", "10s")];
    let replicas = [stage.replica(&settings).await];
    let client = replicas[0].client().await;
    stage.ens.fault(Fault::next(Action::AttachNetworkInterface, Effect::AcceptThenForget));
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    lose_place(&stage, "i-1", "eni-0001").await;
    let seen = tokio::time::timeout(LONG, watch(&client, "i-1", "eni-0001", 0)).await;
    let seen = seen.unwrap().unwrap();
    let last = seen.last().unwrap();
    assert_eq!(
        (last.state(), last.error.as_ref().unwrap().reason.as_str()),
        (State::Failed, "ATTACH_FAILED")
    );
    assert_eq!(differences(&replicas, "requeued").await, 1.0);
    let log = replicas[0].log();
    assert!(log.contains("the record differed from ens"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_changed_is_found_without_watchers_and_nothing_is_undone() {
    let stage = Stage::new(&["i-1"], 4).await;
    let replicas = [stage.replica(&SOON).await, stage.replica(&SOON).await];
    for n in [1, 2] {
        attached(&replicas[n - 1], "i-1", &eni(n)).await;
    }
    stage.ens.world(|world, now| {
        let free = Placement { status: EniStatus::Available, instance: None };
        world.force("eni-0001", free, now).unwrap();
        world.force("eni-0003", Placement::on(EniStatus::InUse, "i-1"), now).unwrap();
    });
    eventually("the detach is not found", async || differences(&replicas, "detached").await == 1.0)
        .await;
    eventually("the attach is not found", async || differences(&replicas, "adopted").await == 1.0)
        .await;
    let client = replicas[0].client().await;
    for (n, state) in [(1, State::Detached), (2, State::Attached), (3, State::Attached)] {
        assert_eq!(get(&client, "i-1", &eni(n)).await.unwrap().state(), state, "{n}");
    }
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_lost_is_written_again() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replicas = [stage.replica(&SOON).await];
    attached(&replicas[0], "i-1", "eni-0001").await;
    let record = keys().record(&"i-1".parse().unwrap());
    assert_eq!(stage.redis.ask::<u64>(&["DEL", &record]).await, 1);
    eventually("it is not found", async || differences(&replicas, "adopted").await == 1.0).await;
    let text: String = stage.redis.ask(&["GET", &record]).await;
    assert!(text.contains("eni-0001"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_replica_compares_and_what_agrees_is_left_in_peace() {
    let stage = Stage::new(&["i-1"], 2).await;
    let replicas =
        [stage.replica(&SOON).await, stage.replica(&SOON).await, stage.replica(&SOON).await];
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        stage.ens.journal().calls.is_empty(),
        "nothing happened: {:?}",
        stage.ens.journal().calls
    );
    attached(&replicas[0], "i-1", "eni-0001").await;
    let before = stage.ens.journal().calls.len();
    // One and five seconds after the last change; the third time is half a minute after it.
    eventually("nothing is compared", async || stage.ens.journal().calls.len() > before).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let calls = stage.ens.journal().calls.split_off(before);
    assert!((1..=2).contains(&calls.len()), "{calls:?}");
    for kind in ["adopted", "detached", "requeued"] {
        assert_eq!(differences(&replicas, kind).await, 0.0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_called_stuck_and_no_more_once_it_has_ended() {
    let stage = Stage::new(&["i-1"], 2).await;
    let settings = [("TRACKER__STUCK_AFTER", "4s"), ("TRACKER__RECONCILE_AFTER", "3s")];
    let replica = stage.replica(&settings).await;
    let client = replica.client().await;
    // Until it is forced.
    let slow = Effect::AttachTime { takes: Duration::from_secs(3600) };
    stage.ens.fault(Fault::next(Action::AttachNetworkInterface, slow));
    try_attach(&client, attach("i-1", "eni-0001")).await.unwrap();
    eventually("it is not reported", async || {
        replica.metric("eni_gateway_attempts_stuck").await == 1.0
            && get(&client, "i-1", "eni-0001").await.unwrap().stuck
    })
    .await;
    stage.ens.world(|world, now| {
        let here = Placement::on(EniStatus::InUse, "i-1");
        world.force("eni-0001", here, now).unwrap();
    });
    let seen = tokio::time::timeout(LONG, watch(&client, "i-1", "eni-0001", 0)).await;
    let seen = seen.unwrap().unwrap();
    let last = seen.last().unwrap();
    assert_eq!((last.state(), last.stuck), (State::Attached, false));
    eventually("it is still counted", async || {
        replica.metric("eni_gateway_attempts_stuck").await == 0.0
    })
    .await;
}
