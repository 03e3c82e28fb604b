//! A replica that is killed or paused exactly between the reservation and the send.

use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::simulator::{Action, Effect, Fault, Placement, World};

use futures_util::future::join_all;
use tonic::Code;

use crate::support::gateway::{
    Replica, Stage, attach, eni, eventually, get, reason, try_attach, watch, within,
};
use crate::support::link::{Link, Mode};

/// Two replicas, the first of which reaches Redis over the link.
async fn stage() -> (Stage, Link, Replica, Replica) {
    let stage = Stage::new(&["i-1"], 2).await;
    let link = Link::to(stage.redis.port()).await;
    let first = stage.replica(&[("LEDGER__URL", &link.url())]).await;
    let other = stage.replica(&[]).await;
    (stage, link, first, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_replica_reserved_and_did_not_send_another_one_sends() {
    let (stage, link, mut first, other) = stage().await;
    let client = first.client().await;
    let reserved = link.arm("eni-0001", Mode::Deaf);
    let (answer, ()) = tokio::join!(try_attach(&client, attach("i-1", "eni-0001")), async {
        reserved.await.unwrap();
        first.kill();
        link.set(Mode::Open);
    });
    assert!(answer.is_err());
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 0);
    let end = watch(&other.client().await, "i-1", "eni-0001", 0).await.unwrap().pop().unwrap();
    assert_eq!(end.state(), State::Attached, "sent after it was seen to have come to nothing");
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stood_still_past_its_lease_does_not_send_what_it_reserved() {
    let (stage, link, first, other) = stage().await;
    let client = first.client().await;
    let reserved = link.arm("eni-0001", Mode::Deaf);
    let call = within(Duration::from_secs(5), attach("i-1", "eni-0001"));
    let (answer, ()) = tokio::join!(try_attach(&client, call), async {
        reserved.await.unwrap();
        first.stop().await;
        link.set(Mode::Open);
        // The lease is 5 s.
        tokio::time::sleep(Duration::from_millis(5500)).await;
        first.signal("CONT");
    });
    assert!(answer.is_err());
    let sent = match watch(&other.client().await, "i-1", "eni-0001", 0).await {
        // It did not hear of its reservation in time. A tracker found that nothing had come of it,
        // and sent it.
        Ok(seen) => {
            let states: Vec<_> =
                seen.last().unwrap().transitions.iter().map(|to| to.state()).collect();
            let by_tracker = [State::Pending, State::Verifying, State::Attaching, State::Attached];
            assert_eq!(states, by_tracker);
            1
        }
        // It heard of it, and took it back.
        Err(none) => {
            assert_eq!(none.code(), Code::NotFound, "{none:?}");
            0
        }
    };
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_reported_unknown_and_then_no_free_slot_is_not_attached_later() {
    let settings = [("LIMIT__ENIS_PER_INSTANCE", "1")];
    let stage = Stage::new(&["i-1"], 2).await;
    let link = Link::to(stage.redis.port()).await;
    let first = stage.replica(&[settings[0], ("LEDGER__URL", &link.url())]).await;
    let second = stage.replica(&settings).await;
    let other = second.client().await;
    // The reservation is lost on the way, and no replica can know that.
    let lost = link.arm("eni-0001", Mode::Cut);
    let call = within(Duration::from_secs(4), attach("i-1", "eni-0001"));
    let client = first.client().await;
    let (answer, lost) = tokio::join!(try_attach(&client, call), lost);
    lost.unwrap();
    assert_eq!(reason(&answer.unwrap_err()), "OUTCOME_UNKNOWN");

    try_attach(&other, attach("i-1", "eni-0002")).await.unwrap();
    let full = try_attach(&other, attach("i-1", "eni-0001")).await;
    assert_eq!(reason(&full.unwrap_err()), "ENI_LIMIT_EXCEEDED");

    // Now there is room, and the first replica reaches the ledger.
    let free = |world: &mut World, now| world.force("eni-0002", Placement::default(), now);
    stage.ens.world(free).unwrap();
    link.set(Mode::Open);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stage.ens.journal().applied_to("eni-0001"), 0);
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 1);
}

/// Number of attach calls in a log, in which a line may stand for several.
fn logged_calls(log: &str) -> usize {
    let calls = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.get("calls").map_or(1, |calls| usize::try_from(calls.as_u64().unwrap()).unwrap())
    };
    log.lines().filter(|line| line.contains("AttachNetworkInterface")).map(calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stood_still_begins_nothing_for_those_who_left_meanwhile() {
    // With more than twenty calls that were given up unseen h2 ends the connection.
    const CONNECTIONS: usize = 10;
    const CALLS: usize = 15;
    let instances: Vec<String> =
        (0..CONNECTIONS * CALLS).map(|number| format!("i-{number}")).collect();
    let instances: Vec<&str> = instances.iter().map(String::as_str).collect();
    let stage = Stage::new(&instances, CONNECTIONS * CALLS + 1).await;
    let replica = stage.replica(&[]).await;
    let clients = join_all((0..CONNECTIONS).map(|_| replica.client())).await;
    // Served once, the connections are open.
    for client in &clients {
        get(client, "i-0", "eni-0001").await.unwrap_err();
    }
    replica.stop().await;
    let calls = instances.iter().enumerate().map(|(number, instance)| {
        let call = try_attach(&clients[number % CONNECTIONS], attach(instance, &eni(number + 1)));
        // Long enough for it to be sent, so that it is a call that was given up.
        tokio::time::timeout(Duration::from_secs(2), call)
    });
    assert!(join_all(calls).await.iter().all(Result::is_err));
    // Nothing can be seen of what the sockets hold: that the callers left is there long before.
    tokio::time::sleep(Duration::from_secs(2)).await;
    replica.signal("CONT");
    // An answer to a later call on a connection: the earlier ones were seen.
    for client in &clients {
        get(client, "i-0", "eni-0001").await.unwrap_err();
    }
    // A busy client may give up some calls before it sends them.
    let seen = async || logged_calls(&replica.log()) > CONNECTIONS * CALLS / 2;
    eventually("the calls are not seen", seen).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 0);
    try_attach(&clients[0], attach("i-0", &eni(CONNECTIONS * CALLS + 1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stood_still_past_a_deadline_begins_nothing_then() {
    let stage = Stage::new(&["i-1"], 1).await;
    let replica =
        stage.replica(&[("ENS__DESCRIBE_TIMEOUT", "60s"), ("LEDGER__LEASE", "90s")]).await;
    let held = Fault::next(Action::DescribeNetworkInterfaces, Effect::None)
        .delay_answer(Duration::from_secs(4));
    stage.ens.fault(held);
    let client = replica.client().await;
    let deadline = Duration::from_secs(6);
    let call = within(deadline, attach("i-1", "eni-0001"));
    let (answer, ()) = tokio::join!(try_attach(&client, call), async {
        let asked = async || stage.ens.journal().calls_of(Action::DescribeNetworkInterfaces) == 1;
        eventually("the instance is not described", asked).await;
        replica.stop().await;
        // Past the deadline, and not past the time that the describe may take.
        tokio::time::sleep(deadline + Duration::from_millis(500)).await;
        replica.signal("CONT");
    });
    assert!(answer.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.ens.journal().calls_of(Action::AttachNetworkInterface), 0);
    let none = get(&client, "i-1", "eni-0001").await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound, "{none:?}");
}
