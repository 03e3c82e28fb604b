//! An unreachable ledger, and one that lost everything.

use std::time::Duration;

use eni_gateway::ledger::command::ObservedStatus;
use eni_gateway::model::{Code, Reason, State};
use eni_gateway::watch::Scope;
use tokio::time::Instant;

use super::{
    Replica, at_once, attachment, end, eni, following, heartbeat, here, instance, pass, scope,
    whole,
};

#[tokio::test(start_paused = true)]
async fn streams_outlast_a_ledger_out_of_reach() {
    let one = Replica::new();
    let other = Replica::of(one.store.replica(), one.ens.clone());
    let begun = one.begin("eni-1").await;
    let mut messages = other.watch(scope("eni-1")).await;
    let pending = at_once(&mut messages).await;
    heartbeat(&mut messages).await;

    other.store.down(true);
    one.accept(&begun).await;
    for _ in 0..4 {
        assert_eq!(heartbeat(&mut messages).await, pending.revision, "no more than what was sent");
    }
    let failure = other.refused(whole()).await;
    assert_eq!(
        (failure.reason, failure.code),
        (Reason::CoordinationUnavailable, Code::Unavailable)
    );
    let deadline = Instant::now() + Duration::from_secs(1);
    let listed = other.hub.list(&instance("i-1"), super::by(deadline)).await;
    assert_eq!(listed.unwrap_err().reason, Reason::CoordinationUnavailable);

    other.store.down(false);
    let back = Instant::now();
    assert_eq!(attachment(&mut messages).await.state, State::Attaching);
    assert!(back.elapsed() <= Duration::from_secs(5));
    one.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    let (seen, ended) = end(&mut messages).await;
    assert_eq!((seen.last().unwrap().state, ended), (State::Attached, None));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_slow_to_come_back_is_asked_less_and_less() {
    let replica = Replica::new();
    let _messages = replica.watch(following(whole())).await;
    replica.store.down(true);
    let before = replica.store.reads();
    pass(Duration::from_secs(60)).await;
    let reads = replica.store.reads() - before;
    assert!((12..=25).contains(&reads), "{reads} reads in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_loss_ends_the_streams_and_a_resume_receives_what_there_is() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    replica.accept(&begun).await;
    let (mut one, mut all) =
        (replica.watch(scope("eni-1")).await, replica.watch(following(whole())).await);
    let seen = at_once(&mut one).await;
    heartbeat(&mut one).await;
    at_once(&mut all).await;
    heartbeat(&mut all).await;

    replica.store.wipe();
    for messages in [&mut one, &mut all] {
        let (seen, ended) = end(messages).await;
        assert_eq!((seen.len(), ended.unwrap().reason), (0, Reason::CoordinationRecovering));
    }
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    for scope in [scope("eni-1"), whole()] {
        let mut messages = replica.watch(Scope { after: seen.revision, ..scope }).await;
        let shown = at_once(&mut messages).await;
        assert_eq!(shown.state, State::Attached, "as ens shows it");
        assert!(shown.revision > seen.revision, "revisions rise through the loss");
    }
}
