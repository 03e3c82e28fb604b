use proptest::prelude::*;

use super::*;

const START: u64 = 1_700_000_000_000_000;

struct Desk(TokenBuckets, Rates, u64);

impl Desk {
    fn new(attach: f64, describe: f64) -> Self {
        Self(TokenBuckets::default(), Rates::new(attach, describe).unwrap(), START)
    }
    fn order(&mut self, order: RateLimitRequest) -> RateLimitDecision {
        self.0.take(order, &self.1, Timestamp::from_micros(self.2))
    }
    fn pass(&mut self, time: Duration) {
        self.2 += micros(time);
    }
    /// The tokens that a waiter gets in this time, if it always waits as long as the bucket asks.
    fn count(&mut self, class: RateClass, time: Duration) -> u64 {
        let end = self.2 + micros(time);
        let mut count = 0;
        while self.2 < end {
            match self.order(RateLimitRequest::Take(class, None)) {
                RateLimitDecision::Granted | RateLimitDecision::Probe => count += 1,
                RateLimitDecision::Chunk(further) => count += 1 + u64::from(further),
                RateLimitDecision::Wait(wait) => self.pass(wait),
            }
        }
        count
    }
}

fn give_back(class: RateClass, probe: bool) -> RateLimitRequest {
    RateLimitRequest::GiveBack { class, probe }
}

#[test]
fn the_rate_is_the_rate_and_the_burst_is_small() {
    let mut desk = Desk::new(5.0, 20.0);
    assert_eq!(desk.count(RateClass::Attach, Duration::from_secs(60)), 301);
    assert_eq!(
        desk.count(RateClass::Track, Duration::from_secs(60)),
        1_203,
        "a burst of 4 at first"
    );
    desk.pass(Duration::from_secs(3_600));
    assert_eq!(
        desk.count(RateClass::Attach, Duration::from_millis(1)),
        1,
        "an hour's pause saves up no more"
    );
}

#[test]
fn who_asks_late_each_time_loses_nothing() {
    let mut desk = Desk::new(5.0, 20.0);
    let mut count = 0;
    while desk.2 < START + 60_000_000 {
        match desk.order(RateLimitRequest::Take(RateClass::Attach, None)) {
            RateLimitDecision::Granted | RateLimitDecision::Probe => count += 1,
            RateLimitDecision::Chunk(further) => panic!("{further} more"),
            RateLimitDecision::Wait(wait) => desk.pass(wait + Duration::from_millis(90)),
        }
    }
    assert!((299..=301).contains(&count), "{count}");
}

#[test]
fn fast_lanes_are_leased_in_chunks_and_come_to_the_same_rate() {
    let mut desk = Desk::new(1000.0, 20.0);
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Chunk(9)
    );
    assert_eq!(
        desk.count(RateClass::Attach, Duration::from_secs(10)),
        10_189,
        "a burst of 200 at first, 10 of it taken, and the last second is not over"
    );
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Track, None)),
        RateLimitDecision::Granted
    );
    desk.order(RateLimitRequest::Trip(RateClass::Attach, Duration::from_secs(1)));
    desk.pass(Duration::from_secs(2));
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Probe,
        "a probe is one"
    );
}

#[test]
fn attaches_and_reads_get_their_shares_of_the_describes_and_the_tracker_what_they_leave() {
    let mut desk = Desk::new(5.0, 20.0);
    assert_eq!(desk.count(RateClass::Describe, Duration::from_secs(60)), 451);
    assert_eq!(desk.count(RateClass::Read, Duration::from_secs(60)), 151);
    let tracker = desk.count(RateClass::Track, Duration::from_secs(1));
    assert!(tracker >= 20, "{tracker}");
}

#[test]
fn reads_that_never_pause_take_nothing_from_attaches() {
    let mut desk = Desk::new(5.0, 20.0);
    let mut attaches = 0;
    let end = desk.2 + micros(Duration::from_secs(60));
    while desk.2 < end {
        while desk.order(RateLimitRequest::Take(RateClass::Read, None))
            == RateLimitDecision::Granted
        {}
        attaches += u64::from(
            desk.order(RateLimitRequest::Take(RateClass::Describe, None))
                == RateLimitDecision::Granted,
        );
        desk.pass(Duration::from_millis(1));
    }
    assert!(attaches >= 449, "{attaches}");
}

#[test]
fn a_token_given_back_is_there_again_but_never_more_than_the_burst() {
    let mut desk = Desk::new(5.0, 20.0);
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Granted
    );
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Wait(Duration::from_millis(100))
    );
    for _ in 0..10 {
        assert_eq!(desk.order(give_back(RateClass::Attach, false)), RateLimitDecision::Granted);
    }
    assert_eq!(desk.count(RateClass::Attach, Duration::from_millis(1)), 1);
}

/// Of one that arrived at this time and can wait for an hour.
fn waits(desk: &Desk, arrived: Duration) -> Option<Waits> {
    Some(Waits {
        since: Duration::from_micros(desk.2 - START) - arrived,
        most: Duration::from_secs(3_600),
    })
}

#[test]
fn a_token_goes_to_who_has_waited_longest() {
    let mut desk = Desk::new(1.0, 20.0);
    let take = |waits| RateLimitRequest::Take(RateClass::Attach, waits);
    let at = Duration::from_millis;
    assert_eq!(desk.order(take(None)), RateLimitDecision::Granted);
    desk.pass(at(100));
    let young = waits(&desk, at(50));
    assert_eq!(desk.order(take(young)), RateLimitDecision::Wait(at(400)));
    let old = waits(&desk, at(0));
    assert_eq!(desk.order(take(old)), RateLimitDecision::Wait(at(400)));
    desk.pass(at(400));
    assert_eq!(desk.order(take(None)), RateLimitDecision::Wait(at(150)), "it does not wait at all");
    let young = waits(&desk, at(50));
    assert_eq!(desk.order(take(young)), RateLimitDecision::Wait(at(150)));
    let old = waits(&desk, at(0));
    assert_eq!(desk.order(take(old)), RateLimitDecision::Granted);
    let young = waits(&desk, at(50));
    assert_eq!(desk.order(take(young)), RateLimitDecision::Wait(at(1_000)));
    // It never comes back.
    desk.pass(at(1_000));
    let newcomer = waits(&desk, at(1_500));
    assert_eq!(desk.order(take(newcomer)), RateLimitDecision::Wait(at(225)));
    desk.pass(at(225));
    assert_eq!(desk.order(take(None)), RateLimitDecision::Granted, "kept no longer");
}

#[test]
fn no_token_is_kept_for_who_cannot_wait_for_it() {
    let mut desk = Desk::new(1.0, 20.0);
    let take = |waits| RateLimitRequest::Take(RateClass::Attach, waits);
    assert_eq!(desk.order(take(None)), RateLimitDecision::Granted);
    let hasty = Some(Waits { since: Duration::from_secs(9), most: Duration::from_millis(499) });
    assert_eq!(desk.order(take(hasty)), RateLimitDecision::Wait(Duration::from_millis(500)));
    desk.pass(Duration::from_millis(500));
    assert_eq!(desk.order(take(None)), RateLimitDecision::Granted);
}

#[test]
fn after_a_throttling_one_probe_at_a_time_goes_out_until_one_gets_through() {
    let mut desk = Desk::new(100.0, 100.0);
    let take = RateLimitRequest::Take(RateClass::Attach, None);
    desk.order(RateLimitRequest::Trip(RateClass::Attach, Duration::from_secs(3)));
    assert_eq!(desk.order(take), RateLimitDecision::Wait(Duration::from_secs(3)));
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Describe, None)),
        RateLimitDecision::Granted,
        "the other breaker"
    );
    desk.order(RateLimitRequest::Close(RateClass::Attach));
    assert_eq!(
        desk.order(take),
        RateLimitDecision::Wait(Duration::from_secs(3)),
        "that call was sent before"
    );
    desk.pass(Duration::from_secs(3));
    assert_eq!(desk.order(take), RateLimitDecision::Probe, "the probe");
    assert_eq!(desk.order(take), RateLimitDecision::Wait(PROBE_RETRY));
    desk.order(give_back(RateClass::Attach, false));
    assert_eq!(
        desk.order(take),
        RateLimitDecision::Wait(PROBE_RETRY),
        "what was taken before is no probe: the probe is still out"
    );
    desk.order(give_back(RateClass::Attach, true));
    assert_eq!(desk.order(take), RateLimitDecision::Probe, "the first probe was not sent");
    desk.pass(PROBE_PERMIT);
    assert_eq!(desk.order(take), RateLimitDecision::Probe, "the second one never came back");
    desk.order(RateLimitRequest::Trip(RateClass::Attach, Duration::from_secs(1)));
    assert_eq!(
        desk.order(take),
        RateLimitDecision::Wait(Duration::from_secs(1)),
        "the third was throttled"
    );
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.order(take), RateLimitDecision::Probe);
    desk.order(RateLimitRequest::Close(RateClass::Attach));
    assert_eq!(
        desk.count(RateClass::Attach, Duration::from_millis(1)),
        19,
        "the fourth got through, and took one"
    );
}

#[test]
fn a_clock_that_was_set_back_does_not_block_a_lane() {
    let mut desk = Desk::new(5.0, 20.0);
    desk.pass(Duration::from_secs(3_600));
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Granted
    );
    desk.2 = START;
    assert_eq!(
        desk.order(RateLimitRequest::Take(RateClass::Attach, None)),
        RateLimitDecision::Wait(Duration::from_millis(200))
    );
}

#[test]
fn a_throttling_lasts_no_longer_for_a_clock_that_was_set_back() {
    let mut desk = Desk::new(100.0, 100.0);
    let take = RateLimitRequest::Take(RateClass::Attach, None);
    desk.pass(Duration::from_secs(600));
    desk.order(RateLimitRequest::Trip(RateClass::Attach, Duration::from_secs(3)));
    desk.2 = START;
    assert_eq!(desk.order(take), RateLimitDecision::Wait(Duration::from_secs(3)));
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.order(take), RateLimitDecision::Wait(Duration::from_secs(2)));
    desk.pass(Duration::from_secs(602));
    assert_eq!(desk.order(take), RateLimitDecision::Probe);
    desk.2 = START + micros(Duration::from_secs(4));
    assert_eq!(desk.order(take), RateLimitDecision::Wait(PROBE_RETRY));
    desk.pass(PROBE_PERMIT);
    let of_the_lane = RateLimitDecision::Wait(Duration::from_millis(10));
    assert_eq!(desk.order(take), of_the_lane, "the first probe never came back");
    desk.pass(Duration::from_millis(10));
    assert_eq!(desk.order(take), RateLimitDecision::Probe);
}

#[test]
fn a_rate_is_finite_and_positive() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(Rates::new(bad, 1.0).is_err() && Rates::new(1.0, bad).is_err(), "{bad}");
    }
}

proptest! {
    /// Over any period the tokens are bounded by rate and burst.
    #[test]
    fn no_stretch_of_time_sees_more_than_rate_and_burst(
        steps in proptest::collection::vec((0_u64..400_000, 0_usize..4), 1..400),
    ) {
        let mut desk = Desk::new(5.0, 20.0);
        let mut granted: [Vec<u64>; 2] = Default::default();
        for (pause, class) in steps {
            desk.pass(Duration::from_micros(pause));
            let class = [RateClass::Attach, RateClass::Describe, RateClass::Read, RateClass::Track][class];
            if desk.order(RateLimitRequest::Take(class, None)) == RateLimitDecision::Granted {
                granted[usize::from(class != RateClass::Attach)].push(desk.2);
            }
        }
        for (times, rate, burst) in [(&granted[0], 5.0, 1.5), (&granted[1], 20.0, 4.0)] {
            for (index, from) in times.iter().enumerate() {
                for (count, to) in times[index..].iter().enumerate() {
                    let most = (to - from) as f64 / 1e6 * rate + burst;
                    prop_assert!((count + 1) as f64 <= most + 1e-6, "{} in {} us", count + 1, to - from);
                }
            }
        }
    }
}
