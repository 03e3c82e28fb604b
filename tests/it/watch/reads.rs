//! Reads while ENS is unreachable: the ledger's state with its age, or a reason; never "none".

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::admission::{Holder, Peer};
use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::ledger::LedgerStore;
use eni_gateway::ledger::command::ObservedStatus;
use eni_gateway::model::{Code, Failure, Outage, Reason, Revision, State};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimiter};
use eni_gateway::watch::{Coverage, ReadCall, Scope};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::support::ens::FakeEns;
use crate::support::ledger::Faulty;

use super::{
    Replica, at_once, attachment, beat, by, end, eni, following, heartbeat, here, instance, pass,
    pending, scope, unlimited, whole,
};

const MINUTE: Duration = Duration::from_secs(60);

fn soon() -> ReadCall {
    by(Instant::now() + Duration::from_secs(20))
}

fn refusal(code: &str) -> EnsRefusal {
    EnsRefusal {
        code: code.to_owned(),
        message: "as ens says.".to_owned(),
        request_id: "ENS-1".to_owned(),
    }
}

/// Every way in which ENS may not be asked, and the reason that a read has for it.
fn faults() -> Vec<(DescribeError, Reason)> {
    let refused = |code| DescribeError::Refused(refusal(code));
    let throttled =
        |retry_after| DescribeError::Throttled { refusal: refusal("Throttling.User"), retry_after };
    let no_key = Failure::new(Reason::EnsCredentialsRejected, "no ens credentials");
    vec![
        (DescribeError::Unavailable("it is down".to_owned()), Reason::EnsUnavailable),
        (DescribeError::Incomplete, Reason::EnsUnavailable),
        (throttled(None), Reason::EnsThrottled),
        (throttled(Some(Duration::from_secs(3))), Reason::EnsThrottled),
        (refused("InvalidAccessKeyId.NotFound"), Reason::EnsCredentialsRejected),
        (refused("SignatureDoesNotMatch"), Reason::EnsCredentialsRejected),
        (refused("NoPermission"), Reason::EnsPermissionDenied),
        (DescribeError::NotReady(no_key), Reason::EnsCredentialsRejected),
        (refused("InstanceNotFound"), Reason::InstanceNotFound),
        (refused("InvalidParameter.InstanceId"), Reason::EnsInvalidParameter),
        (refused("SomethingNew"), Reason::EnsError),
        // Codes of attaches say nothing about a read.
        (refused("EniPerInstanceLimitExceeded"), Reason::EnsError),
        (refused("InvalidOperation.InvalidEniStatus"), Reason::EnsError),
        (DescribeError::UnknownId(refusal("InvalidEniId.NotFound")), Reason::EnsError),
    ]
}

/// A read's failure: with its reason, with a delay where calling again helps, and without a word on
/// attaches.
fn is_of_a_read(failure: &Failure, reason: Reason) {
    assert_eq!(failure.reason, reason, "{failure}");
    assert_eq!(failure.metadata["instanceId"], "i-1", "{failure}");
    for word in ["nothing was", "was sent", "was applied", "attach again"] {
        assert!(!failure.message.contains(word), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_neither_the_ledger_nor_ens_answers_fails_with_a_reads_reason() {
    for (fault, reason) in faults() {
        let replica = Replica::new();
        replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
        replica.ens.fail(Some(fault));
        let listed = replica.hub.list(&instance("i-1"), soon()).await;
        is_of_a_read(&listed.unwrap_err(), reason);
        let got = replica.hub.get(&instance("i-1"), &eni("eni-1"), soon()).await.unwrap_err();
        is_of_a_read(&got, reason);
        assert_eq!(got.metadata["networkInterfaceId"], "eni-1");
        for scope in [whole(), scope("eni-1"), following(scope("eni-1"))] {
            is_of_a_read(&replica.refused(scope).await, reason);
        }
        replica.ens.fail(None);
        let listed = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
        assert_eq!((listed.attachments.len(), listed.coverage.incomplete), (1, false));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_knows_is_shown_with_its_age() {
    for (fault, reason) in faults() {
        let replica = Replica::new();
        let asked_at = replica.store.now(&instance("i-1"));
        replica.attach("eni-1").await;
        replica.ens.show(&instance("i-1"), &eni("eni-2"), "InUse");
        replica.ens.fail(Some(fault));
        let fresh = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
        assert!(!fresh.coverage.incomplete, "it was asked just now");

        pass(MINUTE * 2).await;
        let old = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
        assert_eq!((old.attachments.len(), old.coverage.incomplete), (1, true));
        assert!(old.coverage.observed_at.unwrap().since(asked_at) < Duration::from_secs(1));
        let got = replica.hub.get(&instance("i-1"), &eni("eni-1"), soon()).await.unwrap();
        assert_eq!(got.state, State::Attached);

        let mut messages = replica.watch(whole()).await;
        assert_eq!(at_once(&mut messages).await.eni.as_str(), "eni-1");
        let (_, coverage) = beat(&mut messages).await;
        assert_eq!(coverage, old.coverage);
        let (seen, ended) = end(&mut messages).await;
        assert!(seen.is_empty());
        is_of_a_read(&ended.expect("it must not end well"), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_empty_a_while_ago_is_not_called_empty() {
    let replica = Replica::new();
    let empty = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert!(empty.attachments.is_empty() && !empty.coverage.incomplete);
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    replica.ens.fail(Some(DescribeError::Incomplete));
    pass(MINUTE * 2).await;
    let old = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert!(old.attachments.is_empty() && old.coverage.incomplete);
    assert_eq!(old.coverage.observed_at, empty.coverage.observed_at);
    let mut messages = replica.watch(whole()).await;
    assert!(beat(&mut messages).await.1.incomplete);
    assert_eq!(end(&mut messages).await.1.unwrap().reason, Reason::EnsUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_lost_writes_does_not_claim_what_it_observed_before() {
    let replica = Replica::new();
    let mut messages = replica.watch(following(whole())).await;
    assert!(!beat(&mut messages).await.1.incomplete);
    replica.store.wipe();
    replica.ens.fail(Some(DescribeError::Incomplete));
    let listed = replica.hub.list(&instance("i-1"), soon()).await;
    assert_eq!(listed.unwrap_err().reason, Reason::EnsUnavailable);
    let mut messages = replica.watch(following(whole())).await;
    assert!(beat(&mut messages).await.1.incomplete);
}

#[tokio::test(start_paused = true)]
async fn a_follower_receives_that_something_may_be_missing_and_when_it_no_longer_is() {
    let replica = Replica::new();
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    replica.ens.fail(Some(DescribeError::Unavailable("it is down".to_owned())));
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut messages = replica.watch(following(whole())).await;
        let unknown = Coverage { observed_at: None, incomplete: true };
        assert_eq!(beat(&mut messages).await, (Revision(0), unknown));
        streams.push(messages);
    }
    let asked = replica.describes();
    pass(MINUTE * 10).await;
    let tries = replica.describes() - asked;
    assert!((30..=120).contains(&tries), "{tries} in ten minutes, for all of them");
    assert!(beat(&mut streams[0]).await.1.incomplete, "and still");

    replica.ens.fail(None);
    let back = Instant::now();
    for messages in &mut streams {
        assert_eq!(attachment(messages).await.eni.as_str(), "eni-1");
        let (_, coverage) = beat(messages).await;
        assert!(coverage.observed_at.is_some() && !coverage.incomplete, "{coverage:?}");
    }
    assert!(back.elapsed() <= Duration::from_secs(20), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_follower_sees_does_not_grow_old() {
    let replica = Replica::new();
    let mut all = replica.watch(following(whole())).await;
    let mut absent = replica.watch(following(scope("eni-2"))).await;
    for messages in [&mut all, &mut absent] {
        assert!(!beat(messages).await.1.incomplete);
    }
    let asked = replica.describes();
    for beats in 0..40 {
        for messages in [&mut all, &mut absent] {
            let (_, coverage) = beat(messages).await;
            let now = replica.store.now(&instance("i-1"));
            assert!(!coverage.incomplete, "after {beats} heartbeats");
            assert!(now.since(coverage.observed_at.unwrap()) <= MINUTE);
        }
    }
    let tries = replica.describes() - asked;
    assert!((8..=16).contains(&tries), "{tries} in ten minutes, for both");

    // What others attach, and detach, is seen within a minute.
    let began = Instant::now();
    for name in ["eni-1", "eni-2"] {
        replica.ens.show(&instance("i-1"), &eni(name), "InUse");
    }
    assert_eq!(attachment(&mut all).await.state, State::Attached);
    assert_eq!(attachment(&mut absent).await.eni.as_str(), "eni-2");
    assert!(began.elapsed() <= MINUTE, "{:?}", began.elapsed());
    let (_, coverage) = beat(&mut absent).await;
    assert_eq!(
        coverage,
        Coverage::default(),
        "from now on the attachment itself says how old it is"
    );
    pass(Duration::from_secs(11)).await;
    let began = Instant::now();
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "Available");
    while attachment(&mut all).await.state != State::Detached {}
    assert!(began.elapsed() <= MINUTE, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_what_can_no_longer_be_asked_ends_within_a_minute() {
    let replica = Replica::new();
    replica.attach("eni-1").await;
    let mut messages = replica.watch(following(whole())).await;
    at_once(&mut messages).await;
    assert!(!beat(&mut messages).await.1.incomplete);
    replica.ens.fail(Some(DescribeError::Refused(refusal("NoPermission"))));
    let began = Instant::now();
    while !beat(&mut messages).await.1.incomplete {}
    assert!(began.elapsed() <= MINUTE + Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_was_complete_once_ends_well() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    replica.accept(&begun).await;
    let mut messages = replica.watch(whole()).await;
    at_once(&mut messages).await;
    assert!(!beat(&mut messages).await.1.incomplete);
    replica.ens.fail(Some(DescribeError::Incomplete));
    pass(MINUTE * 5).await;
    assert!(beat(&mut messages).await.1.incomplete, "its age is not hidden");
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;
    assert_eq!(end(&mut messages).await.1, None, "what it began with has ended");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_could_not_ask_ends_well_once_somebody_else_did() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    replica.accept(&begun).await;
    pass(MINUTE * 2).await;
    replica.ens.fail(Some(DescribeError::Incomplete));
    let mut messages = replica.watch(whole()).await;
    at_once(&mut messages).await;
    assert!(beat(&mut messages).await.1.incomplete);
    replica.ens.fail(None);
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    replica.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert_eq!(attachment(&mut messages).await.state, State::Attached);
    assert!(!beat(&mut messages).await.1.incomplete);
    assert_eq!(end(&mut messages).await.1, None);
}

/// A budget with one token each `every`, all of which others take.
fn exhausted(every: Duration) -> RateLimiter {
    RateLimiter::new(Arc::new(move |request| {
        async move {
            Ok(match request {
                RateLimitRequest::Take(..) => RateLimitDecision::Wait(every),
                _ => RateLimitDecision::Granted,
            })
        }
        .boxed()
    }))
}

#[tokio::test(start_paused = true)]
async fn reads_do_not_queue_for_a_budget_that_others_take() {
    for every in [Duration::from_millis(700), Duration::from_secs(5)] {
        let replica = Replica::within(exhausted(every), Faulty::new(), FakeEns::default());
        let known = Replica::of(replica.store.replica(), replica.ens.clone());
        known.attach("eni-1").await;
        pass(MINUTE * 2).await;
        let began = Instant::now();
        let names: Vec<_> = (1..=50).map(|n| instance(&format!("i-{n}"))).collect();
        let lists = join_all(names.iter().map(|name| replica.hub.list(name, soon()))).await;
        assert!(began.elapsed() <= Duration::from_millis(1500), "{:?}", began.elapsed());
        for (name, listed) in names.iter().zip(lists) {
            match listed {
                Ok(listed) => assert!(name.as_str() == "i-1" && listed.coverage.incomplete),
                Err(failure) => {
                    assert_eq!(
                        (failure.reason, failure.code),
                        (Reason::EnsThrottled, Code::Unavailable)
                    );
                    assert!(failure.retry_after.is_some(), "{failure}");
                }
            }
        }
        // A drain that moves the watches of many instances.
        let began = Instant::now();
        let scopes =
            names.iter().map(|name| Scope { instance: name.clone(), ..following(whole()) });
        let watches = join_all(scopes.map(|scope| replica.watch(scope))).await;
        assert!(began.elapsed() <= Duration::from_millis(1500), "{:?}", began.elapsed());
        for mut messages in watches {
            while let Some(message) = pending(&mut messages) {
                message.expect("it follows").expect("no failure");
            }
        }
        let got = replica.hub.get(&instance("i-2"), &eni("eni-9"), soon()).await;
        assert_eq!(got.unwrap_err().reason, Reason::EnsThrottled);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_leaves_describes_to_the_others() {
    let replica = Replica::sharing(unlimited(), 2.0, Faulty::new(), FakeEns::default());
    let peer = |connection| Peer { holder: Holder::Caller([connection; 16]), ..Peer::LOCAL };
    let (busy, other) = (peer(1), peer(2));
    let list = async |peer, number: usize| {
        let read = ReadCall { peer, ..soon() };
        replica.hub.list(&instance(&format!("i-{number}")), read).await
    };
    for number in 0..10 {
        let listed = list(busy, number).await;
        assert_eq!(listed.is_ok(), number < 2, "{number}: {listed:?}");
    }
    let refused = list(busy, 10).await.unwrap_err();
    assert_eq!(refused.reason, Reason::EnsThrottled);
    list(other, 11).await.expect("it has its own share");
    list(busy, 0).await.expect("it was observed lately");
    pass(refused.retry_after.unwrap()).await;
    list(busy, 12).await.expect("the advice was right");
}

#[tokio::test(start_paused = true)]
async fn a_counter_that_cannot_be_reached_is_reported() {
    let down = RateLimiter::new(Arc::new(|_| {
        async {
            Err(Outage { why: "the store cannot be reached".to_owned(), down_for: Duration::ZERO })
        }
        .boxed()
    }));
    let replica = Replica::within(down, Faulty::new(), FakeEns::default());
    let failure = replica.hub.list(&instance("i-1"), soon()).await.unwrap_err();
    assert_eq!(failure.reason, Reason::CoordinationUnavailable);
    assert!(!failure.message.contains("was sent"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn replicas_share_what_one_of_them_could_ask() {
    let one = Replica::within(exhausted(Duration::from_secs(5)), Faulty::new(), FakeEns::default());
    let other = Replica::of(one.store.deaf_replica(), one.ens.clone());
    one.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    let mut messages = one.watch(following(whole())).await;
    assert!(beat(&mut messages).await.1.incomplete);
    other.hub.list(&instance("i-1"), soon()).await.unwrap();
    let listed = one.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert_eq!((listed.attachments.len(), listed.coverage.incomplete), (1, false));
    assert_eq!(attachment(&mut messages).await.eni.as_str(), "eni-1");
    assert!(!beat(&mut messages).await.1.incomplete);
    heartbeat(&mut messages).await;
}
