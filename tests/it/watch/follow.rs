//! The cost of a watch: none. The cost of following: about one describe a minute for each followed
//! instance, and for each batch of followed ENIs.

use std::time::Duration;

use eni_gateway::ens::MAX_IDS;
use eni_gateway::ledger::LedgerStore;
use eni_gateway::ledger::command::{Command, EniObservation, ObservedEni, ObservedStatus};
use eni_gateway::model::State;

use crate::support::ens::Call;

use super::{Replica, attachment, eni, following, heartbeat, instance, pass, scope, whole};

const MINUTE: Duration = Duration::from_secs(60);

/// The ids of each describe by id.
fn reread(replica: &Replica) -> Vec<usize> {
    let calls = replica.ens.calls();
    let sizes = calls.iter().filter_map(|call| match call {
        Call::Interfaces(ids) => Some(ids.len()),
        _ => None,
    });
    sizes.collect()
}

#[tokio::test(start_paused = true)]
async fn a_follower_learns_of_a_detach_outside_the_gateway() {
    let replica = Replica::new();
    let mut messages = replica.watch(following(scope("eni-1"))).await;
    replica.attach("eni-1").await;
    assert_eq!(attachment(&mut messages).await.state, State::Attached);
    pass(Duration::from_secs(30)).await;
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "Available");
    let began = replica.store.now(&instance("i-1"));
    let last = attachment(&mut messages).await;
    assert_eq!((last.state, last.ens_status.as_str()), (State::Detached, "Available"));
    assert!(
        last.updated_at.since(began) < Duration::from_secs(37),
        "{:?}",
        last.updated_at.since(began)
    );
    pass(MINUTE * 5).await;
    assert_eq!(reread(&replica), [1], "what is detached is not asked for");
}

#[tokio::test(start_paused = true)]
async fn without_a_follower_nothing_is_asked() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let begun = replica.begin("eni-2").await;
    let mut streams = Vec::new();
    for _ in 0..500 {
        streams.push(replica.watch(whole()).await);
        streams.push(replica.watch(scope("eni-2")).await);
    }
    let reads = replica.store.reads();
    pass(MINUTE * 10).await;
    assert!(
        replica.store.reads() - reads < 160,
        "one reader for all: {}",
        replica.store.reads() - reads
    );
    replica.accept(&begun).await;
    for messages in &mut streams {
        while attachment(messages).await.state != State::Attaching {}
    }
    assert!(reread(&replica).is_empty(), "{:?}", reread(&replica));
    assert_eq!(replica.describes(), 0);
    drop(streams);

    let followed =
        (replica.watch(following(whole())).await, replica.watch(following(scope("eni-1"))).await);
    pass(MINUTE * 2).await;
    assert!(replica.describes() > 1, "{:?}", replica.ens.calls());
    drop(followed);
    let asked = replica.ens.calls().len();
    pass(MINUTE * 10).await;
    assert_eq!(replica.ens.calls().len(), asked, "the last follower has gone");
    replica.tasks.close();
    replica.tasks.wait().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_followed_is_asked_for_in_batches_over_all_instances() {
    let replica = Replica::new();
    for (i, name) in ["i-1", "i-2", "i-3"].into_iter().enumerate() {
        let sight = |n: usize| {
            let id = eni(&format!("eni-{i}-{n}"));
            replica.ens.show(&instance(name), &id, "InUse");
            ObservedEni {
                eni: id,
                status: ObservedStatus::InUse,
                text: "InUse".to_owned(),
                primary: false,
            }
        };
        let rows = (0..20).map(sight).collect();
        let observe =
            Command::Observe { sent_at: replica.store.now(&instance("i-1")), rows, then: None };
        replica.ledger.execute(&instance(name), &observe).await.unwrap();
        // Those that follow in time still fall due together.
        pass(Duration::from_secs(4)).await;
    }
    let mut streams = Vec::new();
    let followed = [("i-1", 0, 20), ("i-2", 1, 20), ("i-3", 2, 1)];
    for (name, i, enis) in followed {
        for n in (0..enis).chain(0..enis) {
            let one = super::Scope {
                instance: instance(name),
                ..following(scope(&format!("eni-{i}-{n}")))
            };
            streams.push(replica.watch(one).await);
        }
    }
    pass(Duration::from_secs(70)).await;
    assert_eq!(reread(&replica), [41], "one describe; of i-3 only what is followed");
    assert_eq!(replica.describes(), 0, "no stream follows the whole instance");
    pass(MINUTE * 9).await;
    let asked = reread(&replica);
    assert!((9..=11).contains(&asked.len()), "{asked:?}");
    assert!(asked.iter().all(|ids| *ids == 41 && *ids <= MAX_IDS), "they stay together: {asked:?}");
    drop(streams);
}

#[tokio::test(start_paused = true)]
async fn replicas_that_follow_the_same_do_not_ask_twice() {
    let one = Replica::new();
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    one.attach("eni-1").await;
    let streams =
        (one.watch(following(whole())).await, other.watch(following(scope("eni-1"))).await);
    pass(MINUTE * 10).await;
    let asked = one.describes() + reread(&one).len();
    assert!((8..=16).contains(&asked), "{asked} describes in ten minutes");
    drop(streams);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_lately_is_left_out() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let mut messages = replica.watch(following(whole())).await;
    attachment(&mut messages).await;
    heartbeat(&mut messages).await;
    for _ in 0..20 {
        pass(Duration::from_secs(30)).await;
        replica.settle("eni-1", super::here(ObservedStatus::InUse, "InUse")).await;
    }
    assert!(reread(&replica).is_empty(), "{:?}", reread(&replica));
}

#[tokio::test(start_paused = true)]
async fn an_ens_that_fails_is_not_asked_more_often() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let _messages = replica.watch(following(scope("eni-1"))).await;
    replica.ens.fail(Some(eni_gateway::ens::DescribeError::Unavailable("it is down".to_owned())));
    pass(MINUTE * 10).await;
    let asked = reread(&replica).len();
    assert!((8..=14).contains(&asked), "{asked} describes in ten minutes");
    replica.settle("eni-1", EniObservation::Unclear { text: String::new() }).await;
    assert_eq!(replica.ledger.read(&instance("i-1")).await.unwrap().record.attempts.len(), 1);
}
