//! Replicas that share a ledger show the same; a watcher may change replicas.

use std::time::Duration;

use eni_gateway::drain::Phase;
use eni_gateway::ledger::command::ObservedStatus;
use eni_gateway::model::State;
use eni_gateway::watch::Scope;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::{Replica, at_once, attachment, end, following, heartbeat, here, scope, states, whole};

#[tokio::test(start_paused = true)]
async fn what_one_does_watchers_of_the_other_see_at_once() {
    let one = Replica::new();
    let other = Replica::of(one.store.replica(), one.ens.clone());
    let begun = one.begin("eni-1").await;
    let mut messages = other.watch(scope("eni-1")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending);
    heartbeat(&mut messages).await;
    one.accept(&begun).await;
    let done = Instant::now();
    assert_eq!(at_once(&mut messages).await.state, State::Attaching);
    assert_eq!(done.elapsed(), Duration::ZERO);
    other.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Attached);
    assert!(messages.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_hints_it_takes_five_seconds_at_most() {
    let one = Replica::new();
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    let mut messages = other.watch(following(whole())).await;
    heartbeat(&mut messages).await;
    for _ in 0..10 {
        one.attach("eni-1").await;
        let done = Instant::now();
        while attachment(&mut messages).await.state != State::Attached {}
        assert!(done.elapsed() <= Duration::from_secs(5), "{:?}", done.elapsed());
        one.detach("eni-1").await;
        while attachment(&mut messages).await.state != State::Detached {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_comes_back_elsewhere_sees_the_end_once() {
    let one = Replica::new();
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    let begun = one.begin("eni-1").await;
    // Somebody watches there already: what its reader knows is seconds old when the watcher comes.
    let mut before = other.watch(following(scope("eni-1"))).await;
    at_once(&mut before).await;
    let mut messages = one.watch(scope("eni-1")).await;
    let seen = at_once(&mut messages).await;
    one.accept(&begun).await;
    one.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    one.drain.enter(Phase::Draining);
    assert!(end(&mut messages).await.1.is_some());

    let mut messages = other.watch(Scope { after: seen.revision, ..scope("eni-1") }).await;
    let (seen, ended) = end(&mut messages).await;
    assert_eq!((seen.len(), ended), (1, None));
    assert_eq!(states(&seen[0]), [State::Pending, State::Attaching, State::Attached]);
}

#[tokio::test(start_paused = true)]
async fn an_old_end_is_not_taken_for_the_end_of_what_has_just_begun() {
    let one = Replica::new();
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    one.attach("eni-1").await;
    one.detach("eni-1").await;
    let mut before = other.watch(following(scope("eni-1"))).await;
    assert_eq!(at_once(&mut before).await.state, State::Detached);
    one.begin("eni-1").await;
    let mut messages = other.watch(scope("eni-1")).await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending);
}
