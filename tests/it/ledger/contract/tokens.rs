//! The budget. Made with 50 attaches and 100 describes a second.

use std::time::Duration;

use eni_gateway::ledger::{Bucket, Ledger, TokenOrder, TokenReply};
use tokio::time::Instant;

async fn order(ledger: &impl Ledger, order: TokenOrder) -> TokenReply {
    ledger.take(order).await.unwrap()
}

async fn is_granted(ledger: &impl Ledger, bucket: Bucket) -> bool {
    !matches!(order(ledger, TokenOrder::Take(bucket, None)).await, TokenReply::Wait(_))
}

/// Takes all there is, and waits as told, until the time is over.
async fn count(ledger: &impl Ledger, bucket: Bucket, until: Instant) -> u32 {
    let mut count = 0;
    while Instant::now() < until {
        match order(ledger, TokenOrder::Take(bucket, None)).await {
            TokenReply::Granted | TokenReply::Probe => count += 1,
            TokenReply::Chunk(further) => panic!("a chunk of {further} more, at fifty a second"),
            TokenReply::Wait(wait) => {
                assert!(wait > Duration::ZERO && wait <= Duration::from_millis(100), "{wait:?}");
                tokio::time::sleep_until((Instant::now() + wait).min(until)).await;
            }
        }
    }
    count
}

fn give_back(bucket: Bucket) -> TokenOrder {
    TokenOrder::GiveBack { bucket, probe: false }
}

async fn use_up(ledger: &impl Ledger, bucket: Bucket) {
    while is_granted(ledger, bucket).await {}
}

/// From many askers on two replicas, measured after the burst is used up.
pub(crate) async fn the_rate_is_one_for_all(one: &impl Ledger, other: &impl Ledger) {
    use_up(one, Bucket::Attach).await;
    let began = Instant::now();
    let until = began + Duration::from_secs(2);
    let counts = tokio::join!(
        count(one, Bucket::Attach, until),
        count(one, Bucket::Attach, until),
        count(other, Bucket::Attach, until),
        count(other, Bucket::Attach, until),
    );
    let all = counts.0 + counts.1 + counts.2 + counts.3;
    let expected = began.elapsed().as_secs_f64() * 50.0;
    assert!(
        (f64::from(all) - expected).abs() <= expected * 0.05 + 1.0,
        "{all} of {expected}"
    );
}

pub(crate) async fn callers_leave_half_of_the_describes_to_the_tracker(one: &impl Ledger, other: &impl Ledger) {
    use_up(one, Bucket::Track).await;
    let until = Instant::now() + Duration::from_secs(1);
    let (attaches, reads, tracker) = tokio::join!(
        count(one, Bucket::Describe, until),
        count(other, Bucket::Read, until),
        count(other, Bucket::Track, until)
    );
    assert!(attaches <= 47, "attaches took {attaches} of 100");
    assert!(reads <= 17, "reads took {reads} of 100");
    let all = attaches + reads + tracker;
    assert!((90..=115).contains(&all), "{attaches} + {reads} + {tracker} of 100");
}

pub(crate) async fn a_token_given_back_can_be_taken_again(one: &impl Ledger, other: &impl Ledger) {
    use_up(one, Bucket::Attach).await;
    assert_eq!(order(one, give_back(Bucket::Attach)).await, TokenReply::Granted);
    assert!(is_granted(other, Bucket::Attach).await);
    for _ in 0..100 {
        order(one, give_back(Bucket::Attach)).await;
    }
    let mut saved_up = 0;
    while is_granted(other, Bucket::Attach).await {
        saved_up += 1;
    }
    assert!(
        (10..=25).contains(&saved_up),
        "never more than a burst of 10, and what came meanwhile: {saved_up}"
    );
}

pub(crate) async fn a_throttling_stops_everybody_and_one_probe_opens_again(one: &impl Ledger, other: &impl Ledger) {
    let pause = Duration::from_millis(300);
    order(one, TokenOrder::Trip(Bucket::Attach, pause)).await;
    let TokenReply::Wait(wait) = order(other, TokenOrder::Take(Bucket::Attach, None)).await else {
        panic!("not stopped")
    };
    assert!(wait <= pause && wait > pause / 2, "{wait:?}");
    assert!(
        is_granted(other, Bucket::Describe).await,
        "describes were not throttled"
    );
    order(other, TokenOrder::Close(Bucket::Attach)).await;
    assert!(
        !is_granted(other, Bucket::Attach).await,
        "that one was sent before the throttling"
    );

    tokio::time::sleep(wait).await;
    assert!(is_granted(other, Bucket::Attach).await, "the probe");
    let TokenReply::Wait(wait) = order(one, TokenOrder::Take(Bucket::Attach, None)).await else {
        panic!("a second probe")
    };
    assert!(wait <= Duration::from_millis(250), "worth asking again soon: {wait:?}");
    order(other, TokenOrder::Close(Bucket::Attach)).await;
    assert!(is_granted(one, Bucket::Attach).await && is_granted(one, Bucket::Attach).await);
}
