//! The messages of a stream, their order, and what it skips.

use std::time::Duration;

use eni_gateway::ledger::command::{ObservedStatus, SendResult};
use eni_gateway::model::{Reason, Revision, State};
use futures_util::StreamExt;

use super::{
    Replica, at_once, attachment, end, following, heartbeat, here, pass, pending, scope, states,
    whole,
};

#[tokio::test(start_paused = true)]
async fn first_what_is_there_in_the_order_of_its_revisions_then_a_heartbeat_then_what_changes() {
    let replica = Replica::new();
    replica.attach("eni-2").await;
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(whole()).await;

    let (first, second) = (at_once(&mut messages).await, at_once(&mut messages).await);
    assert_eq!((first.eni.as_str(), first.state), ("eni-2", State::Attached));
    assert_eq!((second.eni.as_str(), second.state), ("eni-1", State::Pending));
    assert_eq!(heartbeat(&mut messages).await, second.revision, "everything up to here was sent");

    replica.accept(&begun).await;
    assert_eq!(at_once(&mut messages).await.state, State::Attaching);
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    let last = at_once(&mut messages).await;
    assert_eq!(states(&last), [State::Pending, State::Attaching, State::Attached]);
    assert!(messages.next().await.is_none(), "everything has ended");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_resumed_sends_only_what_is_newer() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(scope("eni-1")).await;
    let seen = at_once(&mut messages).await.revision;
    drop(messages);

    let resumed = |after| eni_gateway::watch::Scope { after, ..scope("eni-1") };
    let mut messages = replica.watch(resumed(seen)).await;
    assert_eq!(heartbeat(&mut messages).await, seen);
    drop(messages);

    replica.accept(&begun).await;
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    let mut messages = replica.watch(resumed(seen)).await;
    let last = at_once(&mut messages).await;
    assert_eq!(last.state, State::Attached);
    assert_eq!(heartbeat(&mut messages).await, last.revision);
    assert!(messages.next().await.is_none());

    let mut messages = replica.watch(resumed(last.revision)).await;
    assert_eq!(
        end(&mut messages).await,
        (Vec::new(), None),
        "the end was sent, and is not sent twice"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_starts_from_a_record_in_memory_only_where_nothing_newer_could_change_its_answer()
{
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let begun = replica.begin("eni-2").await;
    let first = replica.watch(following(whole())).await;
    pass(Duration::from_millis(1)).await;
    let reads = replica.store.reads();
    for scope in [following(scope("eni-1")), scope("eni-2"), whole()] {
        let mut messages = replica.watch(scope.clone()).await;
        let shown = at_once(&mut messages).await;
        let resumed = eni_gateway::watch::Scope { after: shown.revision, ..scope };
        drop(replica.watch(resumed).await);
    }
    assert_eq!(replica.store.reads(), reads, "a trip for each watcher");

    // A replica that receives no notification of the changes.
    let deaf = Replica::of(replica.store.deaf_replica(), replica.ens.clone());
    let _open = deaf.watch(following(whole())).await;
    replica.accept(&begun).await;
    replica.settle("eni-2", here(ObservedStatus::InUse, "InUse")).await;
    let newest = replica.revision().await;
    let resumed = eni_gateway::watch::Scope { after: newest, ..following(scope("eni-2")) };
    let mut messages = deaf.watch(resumed).await;
    assert_eq!(heartbeat(&mut messages).await, newest, "it is not sent again");

    let again = replica.begin("eni-3").await;
    let mut messages = deaf.watch(scope("eni-3")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending, "it was not in memory");
    replica.accept(&again).await;
    replica.settle("eni-3", here(ObservedStatus::InUse, "InUse")).await;
    let mut messages = deaf.watch(whole()).await;
    let seen = [at_once(&mut messages).await, at_once(&mut messages).await];
    assert_eq!(seen.map(|shown| shown.eni.to_string()), ["eni-1", "eni-2"]);
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn one_who_knows_more_than_there_is_gets_everything() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let ahead = Revision(replica.revision().await.0 + 1);
    let mut messages =
        replica.watch(eni_gateway::watch::Scope { after: ahead, ..scope("eni-1") }).await;
    let shown = at_once(&mut messages).await;
    assert!(shown.revision < ahead);
    assert_eq!(heartbeat(&mut messages).await, shown.revision);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_misses_states_between_and_never_the_last() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(scope("eni-1")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending);

    replica.answer(&begun, SendResult::NoResponse).await;
    replica.accept(&begun).await;
    replica.settle("eni-1", here(ObservedStatus::Attaching, "Attaching")).await;
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;

    let last = at_once(&mut messages).await;
    assert_eq!(last.state, State::Attached);
    let history = [State::Pending, State::Verifying, State::Attaching, State::Attached];
    assert_eq!(states(&last), history, "the history is still whole");
    assert_eq!(end(&mut messages).await, (Vec::new(), None));
}

#[tokio::test(start_paused = true)]
async fn several_that_change_behind_a_slow_reader_come_in_the_order_of_their_last_changes() {
    let replica = Replica::new();
    let mut messages = replica.watch(following(whole())).await;
    heartbeat(&mut messages).await;
    let (first, second) = (replica.begin("eni-1").await, {
        pass(Duration::from_secs(16)).await;
        replica.begin("eni-2").await
    });
    replica.accept(&second).await;
    replica.accept(&first).await;
    let (second, first) = (attachment(&mut messages).await, at_once(&mut messages).await);
    assert_eq!((second.eni.as_str(), second.state), ("eni-2", State::Attaching));
    assert_eq!((first.eni.as_str(), first.state), ("eni-1", State::Attaching));
    assert!(first.revision > second.revision);
    assert!(pending(&mut messages).is_none(), "nothing else has changed");
}

#[tokio::test(start_paused = true)]
async fn a_stream_for_one_eni_says_nothing_of_others() {
    let replica = Replica::new();
    let mut messages = replica.watch(following(scope("eni-1"))).await;
    heartbeat(&mut messages).await;
    replica.attach("eni-2").await;
    let revision = replica.revision().await;
    assert_eq!(
        heartbeat(&mut messages).await,
        revision,
        "what there was to say up to here was said"
    );
    replica.begin("eni-1").await;
    assert_eq!(at_once(&mut messages).await.eni.as_str(), "eni-1");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_sent_with_its_reason() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(scope("eni-1")).await;
    at_once(&mut messages).await;
    let refusal = eni_gateway::model::Failure::new(Reason::InstanceNotStopped, "stop it");
    replica.answer(&begun, SendResult::Refused(refusal.clone())).await;
    let (seen, ended) = end(&mut messages).await;
    assert_eq!(
        (seen.last().unwrap().state, seen.last().unwrap().error.as_ref()),
        (State::Failed, Some(&refusal))
    );
    assert_eq!(ended, None, "the stream did its work");
}

#[tokio::test(start_paused = true)]
async fn streams_and_the_age_of_what_they_tell_are_counted() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let mut messages = replica.watch(scope("eni-1")).await;
    let line =
        |line: &str| replica.metrics.exposition().unwrap().lines().any(|other| other == line);
    assert!(line("eni_gateway_watch_streams 1"));
    at_once(&mut messages).await;
    heartbeat(&mut messages).await;
    assert!(!line("eni_gateway_watch_lag_seconds_count 1"), "what was there before is not late");
    replica.accept(&begun).await;
    pass(Duration::from_secs(2)).await;
    at_once(&mut messages).await;
    assert!(line("eni_gateway_watch_lag_seconds_count 1"));
    drop(messages);
    assert!(line("eni_gateway_watch_streams 0"));
    replica.tasks.close();
    replica.tasks.wait().await;
}
