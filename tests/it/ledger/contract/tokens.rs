//! The budget, with 50 attaches and 100 describes a second.

use std::time::Duration;

use eni_gateway::ledger::LedgerStore;
use eni_gateway::rate_limit::{RateClass, RateLimitDecision, RateLimitRequest};
use futures_util::future::join_all;
use tokio::time::Instant;

/// More tokens than a class can have: its burst, and what comes while so many are asked for.
const AT_ONCE: usize = 60;

async fn order(ledger: &impl LedgerStore, order: RateLimitRequest) -> RateLimitDecision {
    ledger.take(order).await.unwrap()
}

async fn is_granted(ledger: &impl LedgerStore, class: RateClass) -> bool {
    !matches!(order(ledger, RateLimitRequest::Take(class, None)).await, RateLimitDecision::Wait(_))
}

/// Takes as many at once as could come while one is on its way; how many there were.
async fn granted_at_once(ledger: &impl LedgerStore, class: RateClass) -> usize {
    let taken = join_all((0..AT_ONCE).map(|_| is_granted(ledger, class))).await;
    taken.into_iter().filter(|granted| *granted).count()
}

/// Takes all there is, and waits as answered, until the time is over.
async fn count(ledger: &impl LedgerStore, class: RateClass, until: Instant) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        match order(ledger, RateLimitRequest::Take(class, None)).await {
            RateLimitDecision::Granted | RateLimitDecision::Probe => count += 1,
            RateLimitDecision::Chunk(further) => {
                panic!("a chunk of {further} more, at fifty a second")
            }
            RateLimitDecision::Wait(wait) => {
                assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
                tokio::time::sleep_until((Instant::now() + wait).min(until)).await;
            }
        }
    }
    count
}

fn give_back(class: RateClass) -> RateLimitRequest {
    RateLimitRequest::GiveBack { class, probe: false }
}

/// Takes all there is. When the class was empty: at some time after this one.
async fn use_up(ledger: &impl LedgerStore, class: RateClass) -> Instant {
    loop {
        let began = Instant::now();
        if granted_at_once(ledger, class).await < AT_ONCE {
            return began;
        }
    }
}

/// From many askers on two replicas, measured after the burst is used up. How close it comes to its
/// rate on a quiet machine, virtual time shows (`ledger::tokens`): a busy one loses what it is too
/// late for.
pub(crate) async fn the_rate_is_one_for_all(one: &impl LedgerStore, other: &impl LedgerStore) {
    let empty = use_up(one, RateClass::Attach).await;
    let until = Instant::now() + Duration::from_secs(2);
    let counts = tokio::join!(
        count(one, RateClass::Attach, until),
        count(one, RateClass::Attach, until),
        count(other, RateClass::Attach, until),
        count(other, RateClass::Attach, until),
    );
    let all = f64::from(counts.0 + counts.1 + counts.2 + counts.3);
    let most = empty.elapsed().as_secs_f64() * 50.0 + 1.0;
    assert!(all <= most, "{all} of {most}");
    assert!(all >= 20.0, "{all} in two seconds");
}

pub(crate) async fn callers_leave_half_of_the_describes_to_the_tracker(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let empty = use_up(one, RateClass::Track).await;
    let until = Instant::now() + Duration::from_secs(2);
    let (attaches, reads, tracker) = tokio::join!(
        count(one, RateClass::Describe, until),
        count(other, RateClass::Read, until),
        count(other, RateClass::Track, until)
    );
    let (attaches, reads, tracker) = (f64::from(attaches), f64::from(reads), f64::from(tracker));
    let most = empty.elapsed().as_secs_f64() * 100.0;
    assert!(attaches <= most * 3.0 / 8.0 + 9.0, "attaches took {attaches} of {most}");
    assert!(reads <= most / 8.0 + 4.0, "reads took {reads} of {most}");
    assert!(attaches + reads + tracker <= most + 1.0, "{attaches} + {reads} + {tracker} of {most}");
    assert!(tracker >= 20.0, "the tracker took {tracker} of {most}");
}

pub(crate) async fn a_token_given_back_can_be_taken_again(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    use_up(one, RateClass::Attach).await;
    assert_eq!(order(one, give_back(RateClass::Attach)).await, RateLimitDecision::Granted);
    assert!(is_granted(other, RateClass::Attach).await);
    for _ in 0..100 {
        order(one, give_back(RateClass::Attach)).await;
    }
    let began = Instant::now();
    let saved_up = granted_at_once(other, RateClass::Attach).await;
    let came = (began.elapsed().as_secs_f64() * 50.0) as usize + 1;
    assert!(
        (10..=10 + came).contains(&saved_up),
        "never more than a burst of 10, and {came} that came meanwhile: {saved_up}"
    );
}

pub(crate) async fn a_throttling_stops_everybody_and_one_probe_opens_again(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let pause = Duration::from_secs(5);
    order(one, RateLimitRequest::Trip(RateClass::Attach, pause)).await;
    let RateLimitDecision::Wait(wait) =
        order(other, RateLimitRequest::Take(RateClass::Attach, None)).await
    else {
        panic!("not stopped")
    };
    assert!(wait <= pause && wait > pause / 2, "{wait:?}");
    assert!(is_granted(other, RateClass::Describe).await, "describes were not throttled");
    order(other, RateLimitRequest::Close(RateClass::Attach)).await;
    assert!(!is_granted(other, RateClass::Attach).await, "that one was sent before the throttling");

    tokio::time::sleep(wait).await;
    assert!(is_granted(other, RateClass::Attach).await, "the probe");
    let RateLimitDecision::Wait(wait) =
        order(one, RateLimitRequest::Take(RateClass::Attach, None)).await
    else {
        panic!("a second probe")
    };
    assert!(wait <= Duration::from_millis(250), "worth asking again soon: {wait:?}");
    order(other, RateLimitRequest::Close(RateClass::Attach)).await;
    assert!(is_granted(one, RateClass::Attach).await && is_granted(one, RateClass::Attach).await);
}
