//! Heartbeats, ages and the end of a replica.

use std::time::Duration;

use eni_gateway::drain::Phase;
use eni_gateway::ledger::command::ObservedStatus;
use eni_gateway::model::{Code, Reason};
use eni_gateway::watch::{Coverage, Event, Scope};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{Replica, at_once, end, following, heartbeat, here, pass, scope, whole};

const HEARTBEAT: Duration = Duration::from_secs(15);

#[tokio::test(start_paused = true)]
async fn each_stream_has_its_heartbeat_after_its_own_last_message() {
    let replica = Replica::new();
    let mut quiet = replica.watch(following(scope("eni-1"))).await;
    heartbeat(&mut quiet).await;
    let since = Instant::now();
    let beats = replica.tasks.spawn(async move {
        let mut beats = Vec::new();
        for _ in 0..3 {
            heartbeat(&mut quiet).await;
            beats.push(since.elapsed());
        }
        beats
    });
    // Beside it, one that receives a change every ten seconds.
    let mut busy = replica.watch(following(scope("eni-2"))).await;
    heartbeat(&mut busy).await;
    replica.begin("eni-2").await;
    at_once(&mut busy).await;
    for text in ["A", "B", "C", "D"] {
        pass(Duration::from_secs(10)).await;
        replica.settle("eni-2", here(ObservedStatus::Other, text)).await;
        assert_eq!(at_once(&mut busy).await.ens_status, text, "no heartbeat between");
    }
    let changed_at = Instant::now();
    let beat = busy.next().await.unwrap().unwrap();
    let revision = replica.revision().await;
    assert_eq!(
        (beat, changed_at.elapsed()),
        (
            Event::Heartbeat { revision, interval: HEARTBEAT, coverage: Coverage::default() },
            HEARTBEAT
        )
    );
    assert_eq!(beats.await.unwrap(), [HEARTBEAT, HEARTBEAT * 2, HEARTBEAT * 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_grows_old_give_or_take_a_tenth() {
    let replica = Replica::new();
    let began = Instant::now();
    let mut messages = replica.watch(following(whole())).await;
    let (_, ended) = end(&mut messages).await;
    let failure = ended.unwrap();
    assert_eq!((failure.reason, failure.code), (Reason::StreamTooOld, Code::Unavailable));
    let (least, most) = (Duration::from_secs(54 * 60), Duration::from_secs(66 * 60));
    assert!((least..=most).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_deadline_ends_the_stream() {
    let replica = Replica::new();
    let until = Instant::now() + Duration::from_secs(20);
    let mut messages = replica.watch(Scope { until: Some(until), ..following(whole()) }).await;
    let (_, ended) = end(&mut messages).await;
    assert_eq!(ended.unwrap().code, Code::DeadlineExceeded);
    assert_eq!(Instant::now(), until);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_goes_away_ends_every_stream_and_opens_no_other() {
    let replica = Replica::new();
    replica.begin("eni-1").await;
    let mut streams = Vec::new();
    for scope in [scope("eni-1"), whole(), following(whole()), following(scope("eni-2"))] {
        streams.push(replica.watch(scope).await);
    }
    for messages in &mut streams {
        while !matches!(messages.next().await, Some(Ok(Event::Heartbeat { .. }))) {}
    }
    let stopped = Instant::now();
    replica.drain.enter(Phase::Draining);
    for messages in &mut streams {
        let (seen, ended) = end(messages).await;
        assert_eq!((seen.len(), ended.unwrap().reason), (0, Reason::Draining));
    }
    assert_eq!(replica.refused(whole()).await.reason, Reason::Draining);
    drop(streams);
    replica.tasks.close();
    replica.tasks.wait().await;
    assert!(
        stopped.elapsed() < Duration::from_millis(1),
        "nothing is left that would hold a drain up"
    );
}
