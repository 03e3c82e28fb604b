//! Streams of all instances while records cannot be read.

use std::time::Duration;

use eni_gateway::model::Reason;
use eni_gateway::watch::fleet::{FleetFilter, FleetScope};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::fleet::{Seen, all, attached, filter, open, put};
use super::{Replica, instance};

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
