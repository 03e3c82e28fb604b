//! The reason of a call that was not served in time, and how soon it comes.

use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal, Outcome};
use eni_gateway::ledger::LedgerStore;
use eni_gateway::model::{Code, Failure, Reason};
use eni_gateway::rate_limit::{PermitError, RateClass, Rates};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::replicas::{Replica, accepted, replicas, seconds};
use crate::support::ens::{Call, FakeEns};

fn fast() -> Rates {
    Rates::new(1000.0, 1000.0).unwrap()
}

fn recovers_for(failure: &Failure) -> Duration {
    assert_eq!(failure.reason, Reason::CoordinationRecovering, "{failure:?}");
    failure.retry_after.unwrap()
}

#[tokio::test(start_paused = true)]
async fn in_a_hold_down_each_caller_receives_how_long_it_lasts() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    replica.store.hold_down(seconds(70.0));
    let callers: Vec<_> = (0..5)
        .map(|number| replica.attach("i-1", &format!("eni-{number}"), seconds(2.0)))
        .collect();
    for caller in callers {
        let (_, answer) = caller.await.unwrap();
        let left = recovers_for(&answer.unwrap_err());
        assert!(left > seconds(67.0) && left <= seconds(70.0), "{left:?}");
    }
    assert_eq!(ens.attaches(), 0);
}

#[tokio::test(start_paused = true)]
async fn in_a_hold_down_no_caller_takes_permits_or_asks_often() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(Rates::new(1.0, 20.0).unwrap(), &ens);
    replica.store.hold_down(seconds(70.0));
    let callers: Vec<_> = (0..20)
        .map(|number| replica.attach(&format!("i-{number}"), "eni-1", seconds(30.0)))
        .collect();
    sleep(seconds(10.0)).await;
    assert!(replica.limiter.try_permit(RateClass::Attach).await.is_ok());
    let before = replica.store.calls();
    sleep(seconds(10.0)).await;
    let calls = replica.store.calls() - before;
    assert!(calls <= 20 * 11, "{calls} calls in ten seconds, of twenty that poll once a second");
    for caller in callers {
        recovers_for(&caller.await.unwrap().1.unwrap_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_down_that_begins_while_callers_wait_in_the_queue_reaches_all_of_them() {
    let ens = FakeEns::default();
    ens.accept();
    ens.answer(seconds(3.0), accepted());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let sends = replica.attach("i-1", "eni-0", seconds(60.0));
    sleep(seconds(0.5)).await;
    let callers: Vec<_> = (1..5)
        .map(|number| replica.attach("i-1", &format!("eni-{number}"), seconds(8.0)))
        .collect();
    sleep(seconds(1.0)).await;
    replica.store.hold_down(seconds(20.0));
    sends.await.unwrap().1.unwrap();
    // One that outlasts the hold-down, and no longer receives it as the reason.
    let patient = replica.attach("i-1", "eni-5", seconds(60.0));
    for caller in callers {
        let (_, answer) = caller.await.unwrap();
        let left = recovers_for(&answer.unwrap_err());
        assert!(left > seconds(12.0), "{left:?}");
    }
    patient.await.unwrap().1.unwrap();
    assert_eq!(ens.attaches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_away_is_waited_for_briefly_and_then_refused_at_once() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica, other]: [Replica; 2] = replicas(fast(), &ens);
    // A blip is waited out.
    replica.store.down(true);
    let patient = replica.attach("i-1", "eni-1", seconds(30.0));
    sleep(seconds(2.0)).await;
    replica.store.down(false);
    patient.await.unwrap().1.unwrap();

    let (began, crowd) = (Instant::now(), 50);
    replica.store.down(true);
    let waiting: Vec<_> = (0..crowd)
        .map(|number| replica.attach(&format!("i-{}", number % 3), "eni-2", seconds(30.0)))
        .collect();
    for answer in join_all(waiting).await {
        let (answered, answer) = answer.unwrap();
        let failure = answer.unwrap_err();
        assert_eq!(failure.reason, Reason::CoordinationUnavailable, "{failure:?}");
        assert!(failure.retry_after.is_some(), "{failure:?}");
        let waited = answered - began;
        assert!(waited >= seconds(2.0) && waited < seconds(4.0), "{waited:?}");
    }
    for number in 0..3 {
        let began = Instant::now();
        let (answered, answer) =
            replica.attach("i-1", &format!("eni-{number}"), seconds(30.0)).await.unwrap();
        assert_eq!(answer.unwrap_err().reason, Reason::CoordinationUnavailable);
        assert!(answered - began < seconds(0.1), "{:?}", answered - began);
    }
    // It is the connection that counts, not the ledger.
    other.attach("i-9", "eni-9", seconds(30.0)).await.unwrap().1.unwrap();
    replica.store.down(false);
    replica.attach("i-8", "eni-8", seconds(30.0)).await.unwrap().1.unwrap();
}

/// The first in line cannot write down what ENS answered, and the others cannot ask the ledger.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_goes_away_during_a_send_is_waited_for_briefly_by_all() {
    let lost = Outcome::Unanswered { why: "no answer".to_owned(), refusal: None };
    for (outcome, reason) in [(accepted(), None), (lost, Some(Reason::OutcomeUnknown))] {
        let ens = FakeEns::default();
        ens.accept();
        ens.answer(seconds(3.0), outcome);
        let [replica]: [Replica; 1] = replicas(fast(), &ens);
        let began = Instant::now();
        let first = replica.attach("i-1", "eni-0", seconds(60.0));
        sleep(seconds(0.5)).await;
        let callers: Vec<_> = (1..5)
            .map(|number| replica.attach("i-1", &format!("eni-{number}"), seconds(60.0)))
            .collect();
        sleep(seconds(1.0)).await;
        replica.store.down(true);
        for answer in join_all(callers).await {
            let (answered, answer) = answer.unwrap();
            let failure = answer.unwrap_err();
            assert_eq!(failure.reason, Reason::CoordinationUnavailable, "{failure:?}");
            assert!(failure.retry_after.is_some(), "{failure:?}");
            assert!(answered - began < seconds(8.0), "{:?}", answered - began);
        }
        let (answered, answer) = first.await.unwrap();
        assert_eq!(answer.as_ref().err().map(|failure| failure.reason), reason, "{answer:?}");
        assert!(answered - began < seconds(8.0), "{:?}", answered - began);
        // What ENS answered is written once the ledger is back, and the queue continues.
        replica.store.down(false);
        let (_, answer) = replica.attach("i-1", "eni-6", seconds(60.0)).await.unwrap();
        answer.unwrap();
        let record = replica.store.read(&"i-1".parse().unwrap(), None).await.unwrap().record;
        assert!(record.attempts.contains_key(&"eni-0".parse().unwrap()), "{record:?}");
    }
}

/// Whether the slot is reserved is unknown, so no caller may receive that nothing will be sent.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_goes_away_during_a_reservation_is_waited_for_briefly_by_all() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    replica.store.down_after_commit();
    let began = Instant::now();
    let first = replica.attach("i-1", "eni-0", seconds(60.0));
    sleep(seconds(0.5)).await;
    let callers: Vec<_> = (1..4)
        .map(|number| replica.attach("i-1", &format!("eni-{number}"), seconds(60.0)))
        .collect();
    let (answered, answer) = first.await.unwrap();
    let failure = answer.unwrap_err();
    assert_eq!((failure.reason, failure.code), (Reason::OutcomeUnknown, Code::Unavailable));
    assert!(failure.retry_after.is_some(), "{failure:?}");
    assert!(answered - began < seconds(8.0), "{:?}", answered - began);
    for answer in join_all(callers).await {
        let (answered, answer) = answer.unwrap();
        assert_eq!(answer.unwrap_err().reason, Reason::CoordinationUnavailable);
        assert!(answered - began < seconds(8.0), "{:?}", answered - began);
    }
    // The attempt ended with its caller: the next call is served, and nothing more is sent.
    replica.store.down(false);
    replica.attach("i-1", "eni-5", seconds(60.0)).await.unwrap().1.unwrap();
    assert_eq!(ens.attaches(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_in_line_hear_that_the_ledger_is_away() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    replica.store.down(true);
    let callers: Vec<_> = (0..3)
        .map(|number| replica.attach("i-1", &format!("eni-{number}"), seconds(2.0)))
        .collect();
    for caller in callers {
        let failure = caller.await.unwrap().1.unwrap_err();
        assert_eq!(failure.reason, Reason::CoordinationUnavailable, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_before_anything_is_reserved_says_that_nothing_was_sent() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica, other]: [Replica; 2] = replicas(fast(), &ens);
    // The ledger knows the instance, by an observation that is too old for a send.
    replica.attach("i-1", "eni-0", seconds(2.0)).await.unwrap().1.unwrap();
    sleep(seconds(3.0)).await;
    ens.take(seconds(4.0));
    // During the describe of the instance.
    let described = replica.attach("i-1", "eni-1", seconds(2.0));
    sleep(seconds(0.5)).await;
    // While another replica holds the lock.
    let queued = other.attach("i-1", "eni-2", seconds(2.0));
    let failure = described.await.unwrap().1.unwrap_err();
    assert_eq!(failure.reason, Reason::NotApplied, "{failure:?}");
    let failure = queued.await.unwrap().1.unwrap_err();
    assert_eq!(failure.reason, Reason::LockWait, "{failure:?}");
    sleep(seconds(60.0)).await;
    assert_eq!(ens.attaches(), 1, "{:?}", ens.calls());
    let record = replica.store.read(&"i-1".parse().unwrap(), None).await.unwrap().record;
    assert!(record.attempts.len() == 1 && record.lock.is_none(), "{record:?}");

    // And one that is sent is unknown at its deadline.
    let sent = replica.attach("i-2", "eni-3", seconds(6.0));
    let failure = sent.await.unwrap().1.unwrap_err();
    assert_eq!(failure.reason, Reason::OutcomeUnknown, "{failure:?}");
}

/// Such a caller is first in line, and nothing is known of others.
#[tokio::test(start_paused = true)]
async fn a_deadline_too_short_for_a_send_claims_no_attaches_ahead() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    for deadline in [0.0, 0.0005, 0.1] {
        let (_, answer) = replica.attach("i-1", "eni-1", seconds(deadline)).await.unwrap();
        let failure = answer.unwrap_err();
        assert_eq!(failure.reason, Reason::LockWait, "{failure:?}");
        assert!(!failure.message.contains("ahead"), "{failure:?}");
    }
    assert_eq!(ens.attaches(), 0);
}

/// A wait that was over is no reason for callers behind.
#[tokio::test(start_paused = true)]
async fn callers_behind_a_send_do_not_receive_its_wait_for_a_permit() {
    let ens = FakeEns::default();
    ens.accept();
    ens.answer(seconds(6.0), accepted());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let permit = replica.limiter.try_permit(RateClass::Attach).await.unwrap();
    replica.limiter.record_throttled(&permit, Some(seconds(2.0))).await;
    let sends = replica.attach("i-1", "eni-1", seconds(60.0));
    sleep(seconds(0.1)).await;
    let throttled = replica.attach("i-1", "eni-2", seconds(0.5));
    let behind = replica.attach("i-1", "eni-3", seconds(6.0));
    let reason = |answer: Result<_, Failure>| answer.map(drop).unwrap_err().reason;
    assert_eq!(reason(throttled.await.unwrap().1), Reason::EnsThrottled);
    assert_eq!(reason(behind.await.unwrap().1), Reason::LockWait);
    sends.await.unwrap().1.unwrap();
}

/// An earlier call may have brought it about: that ENS cannot be asked now does not prove that
/// nothing was applied.
#[tokio::test(start_paused = true)]
async fn an_attached_eni_that_ens_cannot_affirm_is_not_called_unapplied() {
    let faults = [
        Some(DescribeError::Unavailable("no answer".to_owned())),
        Some(DescribeError::Incomplete),
        Some(DescribeError::Refused(EnsRefusal {
            code: "NoPermission".to_owned(),
            ..EnsRefusal::default()
        })),
        None,
    ];
    for fault in faults {
        let ens = FakeEns::default();
        ens.accept();
        let [replica]: [Replica; 1] = replicas(fast(), &ens);
        replica.track();
        replica.attach("i-1", "eni-1", seconds(30.0)).await.unwrap().1.unwrap();
        sleep(seconds(60.0)).await;
        match &fault {
            Some(_) => ens.fail(fault.clone()),
            None => ens.take(seconds(10.0)),
        }
        for _ in 0..3 {
            let (_, answer) = replica.attach("i-1", "eni-1", seconds(1.0)).await.unwrap();
            let failure = answer.unwrap_err();
            assert_eq!(failure.reason, Reason::OutcomeUnknown, "{fault:?}: {failure:?}");
        }
        assert_eq!(ens.attaches(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_while_the_instance_is_described_is_not_attached_later() {
    let ens = FakeEns::default();
    ens.accept();
    ens.take(seconds(4.0));
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let leaver = replica.attach("i-1", "eni-1", seconds(60.0));
    sleep(seconds(1.0)).await;
    leaver.abort();
    sleep(seconds(60.0)).await;
    assert_eq!(ens.calls(), [Call::InterfacesOf("i-1".parse().unwrap())]);
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_are_refreshed_once_and_then_refused() {
    for code in [
        "InvalidSecurityToken.Expired",
        "InvalidSecurityToken.Malformed",
        "InvalidAccessKeyId.NotFound",
    ] {
        let rejected = || {
            let code = code.to_owned();
            Outcome::Refused(EnsRefusal { code, ..EnsRefusal::default() })
        };
        let ens = FakeEns::default();
        ens.accept();
        let [replica]: [Replica; 1] = replicas(fast(), &ens);
        replica.track();
        ens.answer(Duration::ZERO, rejected());
        replica.attach("i-1", "eni-1", seconds(30.0)).await.unwrap().1.unwrap();
        assert_eq!(ens.attaches(), 2, "{code}");

        (0..50).for_each(|_| ens.answer(Duration::ZERO, rejected()));
        let failure = replica.attach("i-1", "eni-2", seconds(30.0)).await.unwrap().1.unwrap_err();
        assert_eq!(failure.reason, Reason::EnsCredentialsRejected, "{failure:?}");
        sleep(seconds(120.0)).await;
        assert_eq!(ens.attaches(), 4, "{code}");
    }
}

/// A describe of many pages takes many permits. While it waits for them, others use the lock.
#[tokio::test(start_paused = true)]
async fn the_further_permits_of_a_describe_are_awaited_without_the_lock() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica, other]: [Replica; 2] = replicas(Rates::new(1000.0, 8.0).unwrap(), &ens);
    let missing = PermitError::DeadlineExceeded { wait: seconds(0.1) };
    ens.fail(Some(DescribeError::NoPermit { missing, calls: 40 }));
    let waits = replica.attach("i-1", "eni-1", seconds(60.0));
    sleep(seconds(1.0)).await;
    ens.fail(None);
    let began = Instant::now();
    let (served, answer) = other.attach("i-1", "eni-2", seconds(30.0)).await.unwrap();
    answer.unwrap();
    assert!(served - began < seconds(2.0), "{:?}", served - began);
    let (last, answer) = waits.await.unwrap();
    answer.unwrap();
    assert!(last - began > seconds(5.0), "it waited for forty permits: {:?}", last - began);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_before_the_next_describe_permit_is_answered_at_once() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(Rates::default(), &ens);
    let permit =
        replica.limiter.permit(RateClass::Track, Instant::now() + seconds(1.0)).await.unwrap();
    replica.limiter.record_throttled(&permit, Some(seconds(60.0))).await;
    let began = Instant::now();
    let (answered, answer) = replica.attach("i-1", "eni-1", seconds(30.0)).await.unwrap();
    let failure = answer.unwrap_err();
    assert_eq!(failure.reason, Reason::EnsThrottled, "{failure:?}");
    assert!(failure.retry_after > Some(seconds(30.0)), "{failure:?}");
    assert!(answered - began < seconds(1.0), "{:?}", answered - began);
}
