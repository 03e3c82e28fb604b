//! Tests of clocks: Redis' clock is set back or forward, or another server takes over.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

impl Desk {
    /// Sets the clock back by this much. Replicas that notice it renew the epoch, without a
    /// hold-down.
    fn set_back(&mut self, by: Duration, noticed: bool) {
        self.now = self.now - by;
        if noticed {
            self.begin_epoch(Timestamp::default());
        }
    }

    fn set_forward(&mut self, by: Duration) {
        self.now = self.now + by;
        self.partition.epoch = "b".into();
    }
}

#[test]
fn an_observation_from_the_future_is_void() {
    for (by, noticed) in
        [(60 * SECOND, true), (60 * SECOND, false), (SECOND, true), (SECOND, false)]
    {
        let mut desk = Desk::new();
        desk.observe(&[]);
        desk.set_back(by, noticed);
        let reply = desk.enter(1, "eni-1", Mode::Reserve);
        assert!(matches!(reply, Reply::Granted { stale: true, .. }), "{by:?} {noticed}: {reply:?}");
        // An observation by the new clock counts, though the old clock showed a later time.
        desk.pass(SECOND / 10);
        desk.observe(&[]);
        let reply = desk.enter(1, "eni-1", Mode::Reserve);
        assert!(matches!(reply, Reply::Reserved { .. }), "{by:?} {noticed}: {reply:?}");
    }
}

/// The writes from the start of the hold-down are lost, and the new server's clock is behind. The
/// earlier observation is then later than the hold-down.
#[test]
fn after_a_failover_to_a_server_that_is_behind_no_observation_of_before_counts() {
    let mut desk = Desk::new();
    desk.observe(&[]);
    let behind = desk.bounds.recovery_hold_down() + 5 * SECOND;
    desk.now = desk.now - behind;
    desk.begin_epoch(desk.now + desk.bounds.recovery_hold_down());
    desk.pass(desk.bounds.recovery_hold_down() + SECOND);
    let reply = desk.enter(1, "eni-1", Mode::Reserve);
    assert!(matches!(reply, Reply::Granted { stale: true, .. }), "{reply:?}");
}

#[test]
fn an_attempt_under_way_is_due_now_and_ends() {
    for noticed in [true, false] {
        let mut desk = Desk::new();
        desk.accept(1, "eni-1");
        desk.reserve(2, "eni-2");
        desk.set_back(HOUR, noticed);
        desk.run(&Command::RecordStatuses { sent_at: desk.now, observations: Vec::new() });
        for eni in ["eni-1", "eni-2"] {
            assert!(desk.attempt(eni).state.due_at().unwrap() <= desk.now, "{eni} {noticed}");
        }
        desk.pass(SECOND);
        let attempt = desk.settle("eni-1", here(ObservedStatus::InUse));
        assert_eq!(attempt.state.kind(), State::Attached, "{noticed}");
        desk.pass(42 * SECOND);
        // Without a new epoch nothing was lost, and the attempt may be sent again.
        let attempt = desk.settle("eni-2", free());
        assert!(attempt.state.kind() == State::Failed || attempt.may_be_resent());
    }
}

#[test]
fn a_clock_that_was_set_forward_shortens_no_grace() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.answer(&sent, SendResult::NoResponse);
    desk.set_forward(HOUR);
    desk.settle("eni-1", EniObservation::Unclear { text: String::new() });
    desk.pass(39 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Verifying);
    desk.pass(2 * SECOND);
    assert_eq!(desk.settle("eni-1", free()).state.kind(), State::Failed);
}

#[test]
fn a_clock_that_was_set_forward_makes_no_attempt_stuck() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.set_forward(HOUR);
    let unclear = EniObservation::Unclear { text: String::new() };
    desk.settle("eni-1", unclear.clone());
    let attempt = desk.attempt("eni-1");
    assert!(!attempt.state.is_stuck());
    assert!(attempt.state.due_at().unwrap() <= desk.now + 3 * SECOND);
    desk.pass(desk.bounds.stuck_after + SECOND);
    assert!(desk.settle("eni-1", unclear).state.is_stuck(), "by the new clock");
}

#[test]
fn what_was_settled_by_another_clock_occupies_for_one_lag_more() {
    let mut desk = Desk::new();
    desk.bounds.limit = 1;
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    desk.set_forward(HOUR);
    desk.enter(2, "eni-2", Mode::Enqueue);
    desk.pass(SECOND);
    desk.observe(&[]);
    assert!(
        matches!(desk.enter(2, "eni-2", Mode::Reserve), Reply::CapacityExceeded(_)),
        "a describe that lags does not show it yet"
    );
}

#[test]
fn leases_and_places_in_the_queue_are_no_longer_than_they_may_be() {
    let mut desk = Desk::new();
    desk.reserve(1, "eni-1");
    desk.enter(2, "eni-2", Mode::Reserve);
    desk.set_back(HOUR, false);
    desk.enter(3, "eni-3", Mode::Reserve);
    let ends = desk.record.lock.unwrap().expires_at;
    assert!(ends <= desk.now + desk.bounds.lease, "{ends}");
    assert!(desk.record.queue.iter().all(|waiter| waiter.expires_at <= desk.now + SECOND));
}

#[test]
fn what_an_owner_writes_back_after_a_change_of_clocks_does_not_lie_in_the_future() {
    let mut desk = Desk::new();
    let sent = desk.reserve(1, "eni-1");
    desk.record = Record::default();
    desk.set_back(HOUR, true);
    desk.answer(&sent, SendResult::NoResponse);
    let attempt = desk.attempt("eni-1");
    assert!(attempt.grace_ends(&desk.bounds) <= desk.now + desk.bounds.validity + desk.bounds.lag);
    assert!(attempt.created_at <= desk.now);
}
