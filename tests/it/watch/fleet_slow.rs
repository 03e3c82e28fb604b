//! Streams of all instances that are read slowly, or not at all.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::State;
use eni_gateway::watch::fleet::FleetEvent;
use futures_util::StreamExt as _;

use super::fleet::{Seen, all, attached, attaching, open, put};
use super::{Replica, pass};

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_keeps_no_old_states() {
    let replica = Replica::new();
    for number in 0..100 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attaching()).await;
    }
    let mut stalled = open(&replica, all(None)).await;
    assert!(matches!(stalled.next().await, Some(Ok(FleetEvent::Instance { .. }))));
    let mut messages = open(&replica, all(None)).await;
    let mut old = Vec::new();
    loop {
        match messages.next().await.unwrap().unwrap() {
            FleetEvent::Instance { attachments, .. } => old.push(Arc::downgrade(&attachments[0])),
            FleetEvent::Heartbeat { .. } => break,
            FleetEvent::Reset(_) => panic!("nothing was lost"),
        }
    }
    for number in 0..100 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
    }
    let mut seen = Seen::default();
    while seen.shown().len() < 100 {
        seen.take(messages.next().await.unwrap().unwrap());
    }
    let kept = old.iter().filter(|state| state.strong_count() > 0).count();
    assert_eq!((old.len(), kept), (100, 0), "kept by the stream that is not read");
    // It receives the last state of each, though some change all the time.
    let mut late = Seen::default();
    late.up_to_heartbeat(&mut stalled).await;
    assert!(late.instances.values().all(|(_, states)| states[0].1 == State::Attached));
}

#[tokio::test(start_paused = true)]
async fn instances_that_change_all_the_time_do_not_hold_up_the_others() {
    let replica = Replica::new();
    for number in 0..200 {
        put(&replica.store, &format!("i-{number}"), "eni-1", attaching()).await;
    }
    let (mut messages, mut seen) = (open(&replica, all(None)).await, Seen::default());
    seen.up_to_heartbeat(&mut messages).await;
    seen.instances.clear();
    // A slow reader: everything changes before each message.
    for _ in 0..220 {
        for number in 0..200 {
            put(&replica.store, &format!("i-{number}"), "eni-1", attached()).await;
        }
        pass(Duration::from_millis(200)).await;
        seen.take(messages.next().await.unwrap().unwrap());
    }
    assert!(seen.instances.len() >= 190, "only {} were sent", seen.instances.len());
}
