//! When a stream ends by itself, and when it continues.

use std::time::Duration;

use eni_gateway::ledger::command::{ObservedStatus, SendResult};
use eni_gateway::model::{Code, Reason, State};
use futures_util::StreamExt;

use super::{
    Replica, at_once, attachment, end, eni, following, heartbeat, here, instance, pass, pending,
    scope, whole,
};

#[tokio::test(start_paused = true)]
async fn what_has_ended_is_sent_once_and_ends_the_stream() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    for scope in [scope("eni-1"), whole()] {
        let mut messages = replica.watch(scope).await;
        assert_eq!(at_once(&mut messages).await.state, State::Attached);
        heartbeat(&mut messages).await;
        assert!(messages.next().await.is_none());
        assert!(messages.next().await.is_none(), "and stays so");
    }
}

#[tokio::test(start_paused = true)]
async fn a_detach_under_way_is_no_end() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    pass(Duration::from_secs(11)).await;
    replica.settle("eni-1", here(ObservedStatus::Detaching, "Detaching")).await;
    let mut messages = replica.watch(scope("eni-1")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Detaching);
    heartbeat(&mut messages).await;
    assert!(pending(&mut messages).is_none());
    replica.detach("eni-1").await;
    let (seen, ended) = end(&mut messages).await;
    assert_eq!((seen.last().unwrap().state, ended), (State::Detached, None));
}

#[tokio::test(start_paused = true)]
async fn a_follower_continues_through_every_end() {
    let replica = Replica::new();
    let mut messages = replica.watch(following(scope("eni-1"))).await;
    heartbeat(&mut messages).await;
    replica.attach("eni-1").await;
    let first = attachment(&mut messages).await;
    assert_eq!(first.state, State::Attached);
    replica.detach("eni-1").await;
    assert_eq!(attachment(&mut messages).await.state, State::Detached);
    replica.attach("eni-1").await;
    let second = attachment(&mut messages).await;
    assert_eq!(second.state, State::Attached);
    assert_ne!(first.uid, second.uid, "another attempt");
}

#[tokio::test(start_paused = true)]
async fn after_a_loss_a_whole_instance_ends_well_only_when_described_after_the_recovery() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    replica.store.hold_down(Duration::from_secs(10));
    for _ in 0..2 {
        let (seen, failure) = end(&mut replica.watch(whole()).await).await;
        let failure = failure.expect("an attach that was lost may be in flight");
        assert_eq!((seen.len(), failure.reason), (1, Reason::CoordinationRecovering));
        assert!(failure.retry_after.is_some_and(|delay| delay <= Duration::from_secs(10)));
    }
    assert_eq!(end(&mut replica.watch(scope("eni-1")).await).await.1, None, "its end is known");
    // The describe is young, but before the end of the hold-down.
    pass(Duration::from_secs(10)).await;
    let describes = replica.describes();
    for _ in 0..2 {
        let (seen, failure) = end(&mut replica.watch(whole()).await).await;
        assert_eq!((seen.len(), failure), (1, None));
    }
    assert_eq!(replica.describes(), describes + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_unknown_is_not_found_unless_it_is_waited_for() {
    let replica = Replica::new();
    let failure = replica.refused(scope("eni-1")).await;
    assert_eq!((failure.reason, failure.code), (Reason::AttachmentNotFound, Code::NotFound));
    assert_eq!(failure.metadata["networkInterfaceId"], "eni-1");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let got =
        replica.hub.get(&super::instance("i-1"), &super::eni("eni-1"), super::by(deadline)).await;
    assert_eq!(got.unwrap_err().reason, Reason::AttachmentNotFound);

    let mut messages = replica.watch(following(scope("eni-1"))).await;
    heartbeat(&mut messages).await;
    replica.begin("eni-1").await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending);
}

#[tokio::test(start_paused = true)]
async fn an_empty_instance_has_nothing_to_wait_for() {
    let replica = Replica::new();
    let mut messages = replica.watch(whole()).await;
    heartbeat(&mut messages).await;
    assert!(messages.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_withdrawn_was_never_sent() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let mut once = replica.watch(scope("eni-1")).await;
    let mut all = replica.watch(whole()).await;
    let mut follower = replica.watch(following(scope("eni-1"))).await;
    for messages in [&mut once, &mut all, &mut follower] {
        at_once(messages).await;
        heartbeat(messages).await;
    }
    replica.answer(&begun, SendResult::NoEffect).await;

    let (seen, ended) = end(&mut once).await;
    let failure = ended.unwrap();
    assert_eq!((seen.len(), failure.reason), (0, Reason::AttachmentNotFound));
    assert!(failure.message.contains("withdrawn before it was sent"), "{failure}");
    assert_eq!(end(&mut all).await, (Vec::new(), None), "nothing is left to wait for");

    replica.begin("eni-1").await;
    assert_eq!(attachment(&mut follower).await.state, State::Pending);
}

#[tokio::test(start_paused = true)]
async fn a_former_end_comes_back_when_its_successor_is_withdrawn() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    replica.detach("eni-1").await;
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(scope("eni-1")).await;
    let pending = at_once(&mut messages).await;
    replica.answer(&begun, SendResult::NoEffect).await;
    let (seen, ended) = end(&mut messages).await;
    let last = seen.last().unwrap();
    assert_eq!((last.state, ended), (State::Detached, None));
    assert!(last.revision > pending.revision);
    assert_ne!(last.uid, pending.uid);
}
