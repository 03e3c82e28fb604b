//! Streams of all instances while records cannot be read, or ENIs are in doubt.

use std::time::Duration;

use eni_gateway::ledger::command::{EniObservation, ObservedStatus};
use eni_gateway::model::Reason;
use eni_gateway::watch::fleet::{FleetEvent, FleetFilter, FleetScope};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::fleet::{Seen, all, attached, attaching, filter, open, put};
use super::{Replica, here, instance, pass};

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_holds_up_no_other() {
    let replica = Replica::new();
    for number in 0..20 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    replica.store.spoil(&instance("i-7"), true);
    let began = Instant::now();
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((seen.shown().len(), seen.incomplete), (19, true));
    put(&replica.store, "i-3", "eni-2", attached()).await;
    while seen.shown().len() < 20 {
        assert!(!seen.take(messages.next().await.unwrap().unwrap()), "the change is not held up");
    }

    let others = FleetFilter { prefix: "i-1".to_owned(), ..filter() };
    let mut other = open(&replica, FleetScope { filter: others, ..all(None) }).await;
    let mut of_others = Seen::default();
    of_others.up_to_heartbeat(&mut other).await;
    assert!(!of_others.incomplete, "it is out of scope");

    let mut brief = open(&replica, FleetScope { follow: false, ..all(None) }).await;
    Seen::default().up_to_heartbeat(&mut brief).await;
    let failure = brief.next().await.unwrap().unwrap_err();
    assert_eq!(failure.reason, Reason::CoordinationUnavailable);
    assert!(failure.message.contains("i-7"), "{failure}");

    replica.store.spoil(&instance("i-7"), false);
    put(&replica.store, "i-7", "eni-2", attached()).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!((seen.shown().len(), seen.incomplete), (22, false));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_becomes_readable_is_sent_without_a_change() {
    let replica = Replica::new();
    for number in 0..20 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    replica.store.spoil(&instance("i-7"), true);
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    put(&replica.store, "i-3", "eni-2", attached()).await;
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!((seen.shown().len(), seen.incomplete), (20, true));

    // Another replica can read it, such as one of a newer version.
    let (token, shown) = (seen.token.clone(), seen.instances.clone());
    replica.store.spoil(&instance("i-7"), false);
    let other = Replica::of(replica.store.deaf_replica(), replica.ens.clone());
    let mut elsewhere = open(&other, all(token)).await;
    let mut resumed = Seen { instances: shown, ..Seen::default() };
    resumed.up_to_heartbeat(&mut elsewhere).await;
    assert_eq!((resumed.shown().len(), resumed.incomplete), (21, false));

    // So does an open stream.
    let began = Instant::now();
    while seen.shown().len() < 21 {
        seen.take(messages.next().await.unwrap().unwrap());
        assert!(seen.shown().len() == 21 || seen.incomplete, "it is still missing");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    seen.up_to_heartbeat(&mut messages).await;
    assert_eq!((seen.shown().len(), seen.incomplete, seen.resets), (21, false, 0));
    let mut again = open(&replica, all(seen.token.clone())).await;
    let first = again.next().await.unwrap().unwrap();
    assert!(matches!(first, FleetEvent::Heartbeat { .. }), "its token has everything: {first:?}");
}

#[tokio::test(start_paused = true)]
async fn without_follow_it_waits_for_the_end_of_a_doubt() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    put(&replica.store, "i-2", "eni-1", attaching()).await;
    let mut messages = open(&replica, FleetScope { follow: false, ..all(None) }).await;
    let mut seen = Seen::default();
    seen.up_to_heartbeat(&mut messages).await;
    replica.settle("eni-1", EniObservation::Missing).await;
    pass(Duration::from_secs(1)).await;
    put(&replica.store, "i-2", "eni-1", attached()).await;
    pass(Duration::from_secs(1)).await;
    while let Some(message) = messages.next().now_or_never() {
        seen.take(message.expect("i-1 is in doubt").unwrap());
    }
    assert_eq!(seen.shown(), ["i-1/eni-1 ATTACHED", "i-2/eni-1 ATTACHED"]);
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    while let Some(message) = messages.next().await {
        assert!(!seen.take(message.unwrap()), "it ends before a heartbeat is due");
    }
}
