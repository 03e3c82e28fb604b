//! Batches: one place in the queue, shared lock and describes, and an answer for each ENI.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::admission::Peer;
use eni_gateway::attach::{Attacher, BatchRequest};
use eni_gateway::ens::{EnsRefusal, Outcome};
use eni_gateway::ledger::{LedgerStore as _, Snapshot};
use eni_gateway::model::{Attachment, Caller, Failure, Reason, RequestId};
use eni_gateway::rate_limit::Rates;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::replicas::{Replica, accepted, replicas, seconds};
use crate::support::ens::{Call, FakeEns};
use crate::support::ledger::Faulty;

type Answers = Vec<Result<Attachment, Failure>>;

fn fast() -> Rates {
    Rates::new(1000.0, 1000.0).unwrap()
}

/// A batch of the ENIs with these numbers.
fn batch(enis: impl IntoIterator<Item = usize>, deadline: Duration) -> BatchRequest {
    BatchRequest {
        instance: "i-1".parse().unwrap(),
        enis: enis.into_iter().map(|n| format!("eni-{n}").parse().unwrap()).collect(),
        request_id: None,
        caller: Caller::anonymous(),
        peer: Peer::LOCAL,
        deadline: Instant::now() + deadline,
    }
}

/// `OK`, or the reason, of each ENI.
fn outcomes(answers: &Answers) -> Vec<&'static str> {
    let outcome = |answer: &Result<Attachment, Failure>| {
        answer.as_ref().map_or_else(|failure| failure.reason.name(), |_| "OK")
    };
    answers.iter().map(outcome).collect()
}

fn refused(code: &str) -> Outcome {
    Outcome::Refused(EnsRefusal { code: code.to_owned(), ..EnsRefusal::default() })
}

async fn attach(attacher: &Arc<Attacher<Faulty, FakeEns>>, batch: &BatchRequest) -> Answers {
    attacher.attach_batch(batch).await
}

#[tokio::test(start_paused = true)]
async fn one_describe_and_one_grant_serve_a_batch_in_its_order() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let enis = [7, 3, 9, 1, 5, 2];
    let answers = attach(&replica.attacher, &batch(enis, seconds(30.0))).await;
    assert_eq!(outcomes(&answers), ["OK"; 6]);
    let calls = ens.calls();
    let of = |n: &usize| Call::Attach("i-1".parse().unwrap(), format!("eni-{n}").parse().unwrap());
    assert_eq!(calls[0], Call::InterfacesOf("i-1".parse().unwrap()));
    assert_eq!(calls[1..], enis.iter().map(of).collect::<Vec<_>>());
    // A query, a reservation, a result, and the permit of each.
    let trips = replica.store.calls();
    assert!(trips <= 4 + 4 * 6, "{trips} trips");
}

#[tokio::test(start_paused = true)]
async fn an_eni_without_an_answer_delays_no_other() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    attach(&replica.attacher, &batch([9], seconds(30.0))).await;
    ens.answer(Duration::ZERO, accepted());
    ens.answer(seconds(1.0), Outcome::Unanswered { why: "lost".to_owned(), refusal: None });
    let began = Instant::now();
    let answers = attach(&replica.attacher, &batch(1..=4, seconds(5.0))).await;
    assert_eq!(outcomes(&answers), ["OK", "OUTCOME_UNKNOWN", "OK", "OK"]);
    assert!(began.elapsed() <= seconds(5.0), "{:?}", began.elapsed());
    assert_eq!(ens.attaches(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_middle_says_of_each_eni_what_became_of_it() {
    let ens = FakeEns::default();
    ens.accept();
    ens.answer(seconds(1.0), accepted());
    ens.answer(seconds(4.0), accepted());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let answers = attach(&replica.attacher, &batch(1..=4, seconds(3.0))).await;
    assert_eq!(outcomes(&answers), ["OK", "OUTCOME_UNKNOWN", "LOCK_WAIT", "LOCK_WAIT"]);
    for (answer, number) in answers.iter().zip(1..) {
        let eni = match answer {
            Ok(attachment) => attachment.eni.as_str(),
            Err(failure) => &failure.metadata["networkInterfaceId"],
        };
        assert_eq!(eni, format!("eni-{number}"));
    }
    sleep(seconds(30.0)).await;
    assert_eq!(ens.attaches(), 2, "nothing is sent for what was reported as not sent");
    // A repeat joins, and sends the rest.
    let answers = attach(&replica.attacher, &batch(1..=4, seconds(10.0))).await;
    assert_eq!((outcomes(&answers), ens.attaches()), (vec!["OK"; 4], 4));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_stops_what_was_not_sent() {
    let ens = FakeEns::default();
    ens.accept();
    ens.answer(seconds(1.0), accepted());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let leaver = batch(1..=4, seconds(30.0));
    let left = tokio::time::timeout(seconds(0.5), attach(&replica.attacher, &leaver)).await;
    assert!(left.is_err());
    sleep(seconds(5.0)).await;
    assert_eq!(ens.attaches(), 1);
    // The place is free at once.
    let began = Instant::now();
    attach(&replica.attacher, &batch([5], seconds(30.0))).await.remove(0).unwrap();
    assert!(began.elapsed() < seconds(0.1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_ledger_ends_the_wait_of_the_whole_batch() {
    let ens = FakeEns::default();
    ens.accept();
    ens.answer(seconds(1.0), accepted());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let (request, began) = (batch(1..=4, seconds(60.0)), Instant::now());
    let (answers, ()) = tokio::join!(attach(&replica.attacher, &request), async {
        sleep(seconds(0.5)).await;
        replica.store.down(true);
    });
    let unreached = "COORDINATION_UNAVAILABLE";
    assert_eq!(outcomes(&answers), ["OK", unreached, unreached, unreached]);
    assert!(began.elapsed() < seconds(7.0), "{:?}", began.elapsed());
    assert_eq!(ens.attaches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_one_eni_is_its_own_and_one_of_the_instance_is_that_of_all_behind() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    attach(&replica.attacher, &batch([3], seconds(30.0))).await.remove(0).unwrap();
    ens.answer(Duration::ZERO, refused("InvalidParameter.EniServiceManaged"));
    ens.answer(Duration::ZERO, refused("InvalidOperation.InvalidEnsStatus"));
    let answers = attach(&replica.attacher, &batch(1..=5, seconds(30.0))).await;
    let expected = [
        "ENI_SERVICE_MANAGED",
        "INSTANCE_NOT_STOPPED",
        "OK",
        "INSTANCE_NOT_STOPPED",
        "INSTANCE_NOT_STOPPED",
    ];
    assert_eq!(outcomes(&answers), expected);
    assert_eq!(answers[4].as_ref().unwrap_err().metadata["networkInterfaceId"], "eni-5");
    assert_eq!(ens.attaches(), 3, "the one before, and one for each refusal");
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_slot_is_refused_and_all_or_nothing_sends_nothing() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let eleven = batch(1..=11, seconds(30.0));
    let refused = replica.attacher.ensure_capacity(&eleven).await.unwrap_err();
    assert_eq!((refused.reason, ens.attaches()), (Reason::EniLimitExceeded, 0));
    assert_eq!(refused.metadata["limit"], "10");
    assert!(refused.message.contains("10 free slots for the 11 enis"), "{}", refused.message);
    replica.attacher.ensure_capacity(&batch(1..=10, seconds(30.0))).await.unwrap();
    let describes = ens.calls().len();
    assert_eq!(describes, 2, "the second check and the attaches use the first one's describe");

    let answers = attach(&replica.attacher, &eleven).await;
    assert_eq!(outcomes(&answers)[..10], ["OK"; 10]);
    assert_eq!(outcomes(&answers)[10], "ENI_LIMIT_EXCEEDED");
    assert_eq!(ens.attaches(), 10);
    // Those that have a slot need no other one.
    replica.attacher.ensure_capacity(&batch(1..=10, seconds(30.0))).await.unwrap();
    assert!(replica.attacher.ensure_capacity(&batch(10..=11, seconds(30.0))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn the_known_capacity_is_no_guess() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    replica.store.hold_down(seconds(20.0));
    let batch_of_two = || batch(1..=2, seconds(5.0));
    let recovering = replica.attacher.ensure_capacity(&batch_of_two()).await.unwrap_err();
    assert_eq!(recovering.reason, Reason::CoordinationRecovering);
    sleep(seconds(21.0)).await;
    replica.store.down(true);
    let unreached = replica.attacher.ensure_capacity(&batch_of_two()).await.unwrap_err();
    assert_eq!(unreached.reason, Reason::CoordinationUnavailable);
    replica.store.down(false);
    ens.take(seconds(9.0));
    let silent = replica.attacher.ensure_capacity(&batch_of_two()).await.unwrap_err();
    assert_eq!(silent.reason, Reason::NotApplied);
    assert_eq!(ens.attaches(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_or_nothing_on_an_instance_that_does_not_exist_writes_nothing() {
    let ens = FakeEns::default();
    ens.accept();
    ens.forget(&"i-1".parse().unwrap());
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let refused = replica.attacher.ensure_capacity(&batch(1..=2, seconds(5.0))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InstanceNotFound);
    assert_eq!(refused.metadata["instanceId"], "i-1");
    let validated = replica.attacher.validate_batch(&batch(1..=2, seconds(5.0))).await;
    assert!(validated.iter().all(|it| it.as_ref().unwrap_err().reason == Reason::InstanceNotFound));
    let known = replica.store.read_since(&"i-1".parse().unwrap(), None, &Snapshot::default()).await;
    assert_eq!(known.unwrap().version, 0);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_a_batch_sends_nothing_and_asks_once_for_all() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica, other]: [Replica; 2] = replicas(fast(), &ens);
    replica.track();
    let keyed = |enis: std::ops::RangeInclusive<usize>| BatchRequest {
        request_id: Some(RequestId(Uuid::from_u128(7))),
        ..batch(enis, seconds(30.0))
    };
    let first = attach(&replica.attacher, &keyed(1..=5)).await;
    sleep(seconds(30.0)).await;
    let before = ens.calls().len();
    // Another batch with the same id has ENIs of its own.
    let again = attach(&other.attacher, &keyed(2..=6)).await;
    let uids = |answers: &[Result<Attachment, Failure>]| {
        answers.iter().map(|answer| answer.as_ref().unwrap().uid).collect::<Vec<_>>()
    };
    assert_eq!(uids(&first)[1..], uids(&again)[..4]);
    assert_eq!(ens.attaches(), 6);
    let calls = ens.calls();
    let of_enis = calls[before..].iter().filter(|call| matches!(call, Call::Interfaces(_)));
    assert_eq!(of_enis.count(), 0, "{:?}", &calls[before..]);
    let describes = calls[before..].iter().filter(|call| matches!(call, Call::InterfacesOf(_)));
    assert!(describes.count() <= 2, "{:?}", &calls[before..]);

    // Without an id, each ENI is confirmed, by one describe.
    let before = ens.calls().len();
    attach(&replica.attacher, &batch(1..=6, seconds(30.0))).await;
    assert_eq!(ens.calls()[before..], [Call::InterfacesOf("i-1".parse().unwrap())]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_one_caller_in_the_queue_of_its_replica_and_of_all() {
    let ens = FakeEns::default();
    ens.accept();
    ens.take(seconds(1.0));
    let [replica, other]: [Replica; 2] = replicas(fast(), &ens);
    let before = replica.attach("i-1", "eni-0", seconds(60.0));
    sleep(seconds(0.1)).await;
    let attacher = replica.attacher.clone();
    let request = batch(1..=4, seconds(60.0));
    let batch = tokio_util::task::TaskTracker::new().spawn(async move {
        let answers = attach(&attacher, &request).await;
        (Instant::now(), answers)
    });
    sleep(seconds(0.1)).await;
    let behind = replica.attach("i-1", "eni-5", seconds(60.0));
    let elsewhere = other.attach("i-1", "eni-6", seconds(60.0));
    let (first, answer) = before.await.unwrap();
    answer.unwrap();
    let (second, answers) = batch.await.unwrap();
    assert_eq!(outcomes(&answers), ["OK"; 4]);
    let (third, answer) = behind.await.unwrap();
    answer.unwrap();
    let (served, answer) = elsewhere.await.unwrap();
    answer.unwrap();
    assert!(first < second && second < third, "first come, first served");
    // The lock passes to the other replica with the grant's end at the latest.
    assert!(served <= third + seconds(3.0), "{:?}", served - first);
}

#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_permits_without_the_lock() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica, other]: [Replica; 2] = replicas(Rates::new(2.0, 100.0).unwrap(), &ens);
    let attacher = replica.attacher.clone();
    let request = batch(1..=8, seconds(60.0));
    let began = Instant::now();
    let batch = tokio_util::task::TaskTracker::new()
        .spawn(async move { attach(&attacher, &request).await });
    sleep(seconds(1.0)).await;
    let (served, answer) = other.attach("i-1", "eni-9", seconds(60.0)).await.unwrap();
    answer.unwrap();
    assert!(served - began < seconds(3.0), "{:?}", served - began);
    assert_eq!(outcomes(&batch.await.unwrap()), ["OK"; 8]);
    let took = began.elapsed();
    assert!(took >= seconds(3.0) && took < seconds(7.0), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn validation_shares_its_describes_and_counts_the_slots_for_all() {
    let ens = FakeEns::default();
    ens.accept();
    let [replica]: [Replica; 1] = replicas(fast(), &ens);
    let instance = "i-1".parse().unwrap();
    for n in 0..8 {
        ens.show(&instance, &format!("eni-old-{n}").parse().unwrap(), "InUse");
    }
    for n in [1, 2, 4] {
        ens.show(&instance, &format!("eni-{n}").parse().unwrap(), "Available");
    }
    let validated = replica.attacher.validate_batch(&batch(1..=4, seconds(30.0))).await;
    let reasons: Vec<_> = validated
        .iter()
        .map(|checks| checks.as_ref().map_or_else(|failure| failure.reason.name(), |_| "OK"))
        .collect();
    assert_eq!(reasons, ["OK", "OK", "ENI_LIMIT_EXCEEDED", "ENI_LIMIT_EXCEEDED"]);
    assert_eq!((ens.calls().len(), ens.attaches()), (3, 0), "{:?}", ens.calls());
    let unknown = replica.attacher.validate_batch(&batch([2, 3], seconds(30.0))).await;
    assert!(unknown[0].is_ok());
    assert_eq!(unknown[1].as_ref().unwrap_err().reason, Reason::EniNotFound);
    let one = batch([4], seconds(30.0)).requests().next().unwrap();
    assert!(replica.attacher.validate(one).await.is_ok());
}
