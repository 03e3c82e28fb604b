use super::*;
use crate::ledger::ReconcileSchedule;
use crate::ledger::command::ReconcileReport;

impl Desk {
    /// Reconciles after an observation of these ENIs on the instance.
    fn compare(&mut self, rows: &[(&str, ObservedStatus)]) -> ReconcileReport {
        let rows = rows.iter().map(|(eni, status)| sight(eni, *status)).collect();
        let observe =
            Command::Observe { sent_at: self.now, rows, then: Some(Box::new(Command::Reconcile)) };
        match self.run(&observe) {
            Reply::Reconciled(differences) => differences,
            other => panic!("not compared: {other:?}"),
        }
    }

    /// Seconds until the next reconciliation.
    fn next(&self) -> Option<u64> {
        match self.last.as_ref().unwrap().effects.reconcile {
            ReconcileSchedule::At(at) => Some(at.since(self.now).as_secs()),
            ReconcileSchedule::Done => None,
            ReconcileSchedule::Kept => panic!("nothing is said of the next comparison"),
        }
    }
}

const NONE: ReconcileReport = ReconcileReport { adopted: 0, detached: 0, requeued: 0 };

#[test]
fn what_agrees_is_compared_ever_more_seldom_and_then_no_more() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    assert_eq!(desk.next(), Some(60));
    for (pause, next) in [(60, Some(240)), (240, Some(1500)), (1500, None)] {
        desk.pass(pause * SECOND);
        assert_eq!(desk.compare(&[("eni-1", ObservedStatus::InUse)]), NONE);
        assert_eq!(desk.next(), next);
    }
    let untouched = desk.record.revision;
    desk.pass(SECOND);
    desk.enter(2, "eni-2", Mode::Enqueue);
    assert_eq!(desk.record.revision, untouched);
    let effects = &desk.last.as_ref().unwrap().effects;
    assert_eq!(effects.reconcile, ReconcileSchedule::Kept, "a lock is no change");
}

#[test]
fn reconciliation_repeats_while_an_attempt_is_in_flight() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    for _ in 0..20 {
        desk.pass(300 * SECOND);
        desk.compare(&[("eni-1", ObservedStatus::Attaching)]);
        let next = desk.next().expect("an attempt is under way");
        assert!(next <= 300, "{next}");
    }
}

#[test]
fn what_ens_shows_no_more_is_detached_and_what_is_new_there_adopted() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    desk.pass(SECOND);
    desk.settle("eni-1", here(ObservedStatus::InUse));
    desk.pass(5 * SECOND);
    assert_eq!(desk.compare(&[]), NONE, "the describe may lag");
    assert_eq!(desk.state("eni-1"), State::Attached);
    desk.pass(55 * SECOND);
    let found = desk.compare(&[("eni-2", ObservedStatus::InUse)]);
    assert_eq!((found.adopted, found.detached, found.requeued), (1, 1, 0));
    assert_eq!((desk.state("eni-1"), desk.state("eni-2")), (State::Detached, State::Attached));
    assert!(!desk.attempt("eni-2").is_from_gateway());
    assert_eq!(desk.next(), Some(60), "a difference is a change");
}

#[test]
fn a_lost_record_is_rebuilt_from_what_ens_shows() {
    let mut desk = Desk::new();
    let found =
        desk.compare(&[("eni-1", ObservedStatus::InUse), ("eni-2", ObservedStatus::Attaching)]);
    assert_eq!(found.adopted, 2);
    assert_eq!((desk.state("eni-1"), desk.state("eni-2")), (State::Attached, State::Attaching));
}

#[test]
fn an_attempt_long_past_its_time_is_put_back_into_the_queue_and_not_settled() {
    let mut desk = Desk::new();
    desk.accept(1, "eni-1");
    let due_at = desk.attempt("eni-1").state.due_at().expect("under way");
    desk.now = due_at + 15 * SECOND;
    assert_eq!(desk.compare(&[]), NONE, "it may be in somebody's hands");
    desk.pass(SECOND);
    let found = desk.compare(&[]);
    assert_eq!(found.requeued, 1);
    let attempt = desk.attempt("eni-1");
    assert_eq!(
        (attempt.state.kind(), attempt.is_reserved()),
        (State::Attaching, true),
        "that it is not shown proves nothing"
    );
    let due = &desk.last.as_ref().unwrap().effects.due;
    assert_eq!(due.get(&id("eni-1")), Some(&Some(desk.now)));
}
