use proptest::prelude::*;

use super::*;

const START: u64 = 1_700_000_000_000_000;

struct Books(Tokens, Rates, u64);

impl Books {
    fn new(attach: f64, describe: f64) -> Self {
        Self(Tokens::default(), Rates::new(attach, describe).unwrap(), START)
    }
    fn order(&mut self, order: TokenOrder) -> TokenReply {
        self.0.order(order, &self.1, Timestamp::from_micros(self.2))
    }
    fn pass(&mut self, time: Duration) {
        self.2 += micros(time);
    }
    /// How many tokens one who always waits as told gets in this long.
    fn count(&mut self, bucket: Bucket, time: Duration) -> u64 {
        let end = self.2 + micros(time);
        let mut count = 0;
        while self.2 < end {
            match self.order(TokenOrder::Take(bucket, None)) {
                TokenReply::Granted | TokenReply::Probe => count += 1,
                TokenReply::Chunk(further) => count += 1 + u64::from(further),
                TokenReply::Wait(wait) => self.pass(wait),
            }
        }
        count
    }
}

fn give_back(bucket: Bucket, probe: bool) -> TokenOrder {
    TokenOrder::GiveBack { bucket, probe }
}

#[test]
fn the_rate_is_the_rate_and_the_burst_is_small() {
    let mut books = Books::new(5.0, 20.0);
    assert_eq!(books.count(Bucket::Attach, Duration::from_secs(60)), 301);
    assert_eq!(
        books.count(Bucket::Track, Duration::from_secs(60)),
        1_203,
        "a burst of 4 at first"
    );
    books.pass(Duration::from_secs(3_600));
    assert_eq!(
        books.count(Bucket::Attach, Duration::from_millis(1)),
        1,
        "an hour's pause saves up no more"
    );
}

#[test]
fn who_asks_late_each_time_loses_nothing() {
    let mut books = Books::new(5.0, 20.0);
    let mut count = 0;
    while books.2 < START + 60_000_000 {
        match books.order(TokenOrder::Take(Bucket::Attach, None)) {
            TokenReply::Granted | TokenReply::Probe => count += 1,
            TokenReply::Chunk(further) => panic!("{further} more"),
            TokenReply::Wait(wait) => books.pass(wait + Duration::from_millis(90)),
        }
    }
    assert!((299..=301).contains(&count), "{count}");
}

#[test]
fn fast_lanes_are_leased_in_chunks_and_come_to_the_same_rate() {
    let mut books = Books::new(1000.0, 20.0);
    assert_eq!(
        books.order(TokenOrder::Take(Bucket::Attach, None)),
        TokenReply::Chunk(9)
    );
    assert_eq!(
        books.count(Bucket::Attach, Duration::from_secs(10)),
        10_189,
        "a burst of 200 at first, 10 of it taken, and the last second is not over"
    );
    assert_eq!(books.order(TokenOrder::Take(Bucket::Track, None)), TokenReply::Granted);
    books.order(TokenOrder::Trip(Bucket::Attach, Duration::from_secs(1)));
    books.pass(Duration::from_secs(2));
    assert_eq!(
        books.order(TokenOrder::Take(Bucket::Attach, None)),
        TokenReply::Probe,
        "a probe is one"
    );
}

#[test]
fn attaches_and_reads_get_their_shares_of_the_describes_and_the_tracker_what_they_leave() {
    let mut books = Books::new(5.0, 20.0);
    assert_eq!(books.count(Bucket::Describe, Duration::from_secs(60)), 451);
    assert_eq!(books.count(Bucket::Read, Duration::from_secs(60)), 151);
    let tracker = books.count(Bucket::Track, Duration::from_secs(1));
    assert!(tracker >= 20, "{tracker}");
}

#[test]
fn reads_that_never_pause_take_nothing_from_attaches() {
    let mut books = Books::new(5.0, 20.0);
    let mut attaches = 0;
    let end = books.2 + micros(Duration::from_secs(60));
    while books.2 < end {
        while books.order(TokenOrder::Take(Bucket::Read, None)) == TokenReply::Granted {}
        attaches += u64::from(books.order(TokenOrder::Take(Bucket::Describe, None)) == TokenReply::Granted);
        books.pass(Duration::from_millis(1));
    }
    assert!(attaches >= 449, "{attaches}");
}

#[test]
fn a_token_given_back_is_there_again_but_never_more_than_the_burst() {
    let mut books = Books::new(5.0, 20.0);
    assert_eq!(books.order(TokenOrder::Take(Bucket::Attach, None)), TokenReply::Granted);
    assert_eq!(
        books.order(TokenOrder::Take(Bucket::Attach, None)),
        TokenReply::Wait(Duration::from_millis(100))
    );
    for _ in 0..10 {
        assert_eq!(books.order(give_back(Bucket::Attach, false)), TokenReply::Granted);
    }
    assert_eq!(books.count(Bucket::Attach, Duration::from_millis(1)), 1);
}

/// Of one that arrived at this time and can wait for an hour.
fn waits(books: &Books, arrived: Duration) -> Option<Waits> {
    Some(Waits {
        since: Duration::from_micros(books.2 - START) - arrived,
        most: Duration::from_secs(3_600),
    })
}

#[test]
fn a_token_goes_to_who_has_waited_longest() {
    let mut books = Books::new(1.0, 20.0);
    let take = |waits| TokenOrder::Take(Bucket::Attach, waits);
    let at = Duration::from_millis;
    assert_eq!(books.order(take(None)), TokenReply::Granted);
    books.pass(at(100));
    let young = waits(&books, at(50));
    assert_eq!(books.order(take(young)), TokenReply::Wait(at(400)));
    let old = waits(&books, at(0));
    assert_eq!(books.order(take(old)), TokenReply::Wait(at(400)));
    books.pass(at(400));
    assert_eq!(
        books.order(take(None)),
        TokenReply::Wait(at(150)),
        "it does not wait at all"
    );
    let young = waits(&books, at(50));
    assert_eq!(books.order(take(young)), TokenReply::Wait(at(150)));
    let old = waits(&books, at(0));
    assert_eq!(books.order(take(old)), TokenReply::Granted);
    let young = waits(&books, at(50));
    assert_eq!(books.order(take(young)), TokenReply::Wait(at(1_000)));
    // It never comes back.
    books.pass(at(1_000));
    let newcomer = waits(&books, at(1_500));
    assert_eq!(books.order(take(newcomer)), TokenReply::Wait(at(225)));
    books.pass(at(225));
    assert_eq!(books.order(take(None)), TokenReply::Granted, "kept no longer");
}

#[test]
fn no_token_is_kept_for_who_cannot_wait_for_it() {
    let mut books = Books::new(1.0, 20.0);
    let take = |waits| TokenOrder::Take(Bucket::Attach, waits);
    assert_eq!(books.order(take(None)), TokenReply::Granted);
    let hasty = Some(Waits {
        since: Duration::from_secs(9),
        most: Duration::from_millis(499),
    });
    assert_eq!(books.order(take(hasty)), TokenReply::Wait(Duration::from_millis(500)));
    books.pass(Duration::from_millis(500));
    assert_eq!(books.order(take(None)), TokenReply::Granted);
}

#[test]
fn after_a_throttling_one_probe_at_a_time_goes_out_until_one_gets_through() {
    let mut books = Books::new(100.0, 100.0);
    let take = TokenOrder::Take(Bucket::Attach, None);
    books.order(TokenOrder::Trip(Bucket::Attach, Duration::from_secs(3)));
    assert_eq!(books.order(take), TokenReply::Wait(Duration::from_secs(3)));
    assert_eq!(
        books.order(TokenOrder::Take(Bucket::Describe, None)),
        TokenReply::Granted,
        "the other breaker"
    );
    books.order(TokenOrder::Close(Bucket::Attach));
    assert_eq!(
        books.order(take),
        TokenReply::Wait(Duration::from_secs(3)),
        "that call was sent before"
    );
    books.pass(Duration::from_secs(3));
    assert_eq!(books.order(take), TokenReply::Probe, "the probe");
    assert_eq!(books.order(take), TokenReply::Wait(PROBE_RETRY));
    books.order(give_back(Bucket::Attach, false));
    assert_eq!(
        books.order(take),
        TokenReply::Wait(PROBE_RETRY),
        "what was taken before is no probe: the probe is still out"
    );
    books.order(give_back(Bucket::Attach, true));
    assert_eq!(books.order(take), TokenReply::Probe, "the first probe was not sent");
    books.pass(PROBE_PERMIT);
    assert_eq!(books.order(take), TokenReply::Probe, "the second one never came back");
    books.order(TokenOrder::Trip(Bucket::Attach, Duration::from_secs(1)));
    assert_eq!(
        books.order(take),
        TokenReply::Wait(Duration::from_secs(1)),
        "the third was throttled"
    );
    books.pass(Duration::from_secs(1));
    assert_eq!(books.order(take), TokenReply::Probe);
    books.order(TokenOrder::Close(Bucket::Attach));
    assert_eq!(
        books.count(Bucket::Attach, Duration::from_millis(1)),
        19,
        "the fourth got through, and took one"
    );
}

#[test]
fn a_clock_that_was_set_back_does_not_block_a_lane() {
    let mut books = Books::new(5.0, 20.0);
    books.pass(Duration::from_secs(3_600));
    assert_eq!(books.order(TokenOrder::Take(Bucket::Attach, None)), TokenReply::Granted);
    books.2 = START;
    assert_eq!(
        books.order(TokenOrder::Take(Bucket::Attach, None)),
        TokenReply::Wait(Duration::from_millis(200))
    );
}

#[test]
fn a_throttling_lasts_no_longer_for_a_clock_that_was_set_back() {
    let mut books = Books::new(100.0, 100.0);
    let take = TokenOrder::Take(Bucket::Attach, None);
    books.pass(Duration::from_secs(600));
    books.order(TokenOrder::Trip(Bucket::Attach, Duration::from_secs(3)));
    books.2 = START;
    assert_eq!(books.order(take), TokenReply::Wait(Duration::from_secs(3)));
    books.pass(Duration::from_secs(1));
    assert_eq!(books.order(take), TokenReply::Wait(Duration::from_secs(2)));
    books.pass(Duration::from_secs(602));
    assert_eq!(books.order(take), TokenReply::Probe);
    books.2 = START + micros(Duration::from_secs(4));
    assert_eq!(books.order(take), TokenReply::Wait(PROBE_RETRY));
    books.pass(PROBE_PERMIT);
    let of_the_lane = TokenReply::Wait(Duration::from_millis(10));
    assert_eq!(books.order(take), of_the_lane, "the first probe never came back");
    books.pass(Duration::from_millis(10));
    assert_eq!(books.order(take), TokenReply::Probe);
}

#[test]
fn a_rate_is_finite_and_positive() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(Rates::new(bad, 1.0).is_err() && Rates::new(1.0, bad).is_err(), "{bad}");
    }
}

proptest! {
    /// Whatever is asked when, no stretch of time sees more than its rate and the burst.
    #[test]
    fn no_stretch_of_time_sees_more_than_rate_and_burst(
        steps in proptest::collection::vec((0_u64..400_000, 0_usize..4), 1..400),
    ) {
        let mut books = Books::new(5.0, 20.0);
        let mut granted: [Vec<u64>; 2] = Default::default();
        for (pause, bucket) in steps {
            books.pass(Duration::from_micros(pause));
            let bucket = [Bucket::Attach, Bucket::Describe, Bucket::Read, Bucket::Track][bucket];
            if books.order(TokenOrder::Take(bucket, None)) == TokenReply::Granted {
                granted[usize::from(bucket != Bucket::Attach)].push(books.2);
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
