//! Due attempts.

use std::collections::BTreeSet;
use std::time::Duration;

use eni_gateway::ledger::command::{Command, EniObservation};
use eni_gateway::ledger::{Due, Effects, LedgerStore, ReconcileSchedule};
use eni_gateway::model::{InstanceId, Timestamp};

use super::{eni, instance, ledger, put, record};

const LONG: Duration = Duration::from_secs(60);

fn due(place: usize, interface: usize) -> Due {
    Due { instance: instance(place), eni: eni(interface) }
}

pub(super) async fn claim(
    ledger: &impl LedgerStore,
    most: usize,
    visibility: Duration,
) -> Vec<Due> {
    let due = ledger.due(most).await.unwrap();
    assert!(due.len() <= most, "{due:?}");
    ledger.claim(due, visibility).await.unwrap()
}

pub(super) async fn claim_reconciliations(
    ledger: &impl LedgerStore,
    most: usize,
    visibility: Duration,
) -> Vec<InstanceId> {
    let due = ledger.due_reconciliations(most).await.unwrap();
    assert!(due.len() <= most, "{due:?}");
    ledger.claim_reconciliations(due, visibility).await.unwrap()
}

async fn set(ledger: &impl LedgerStore, due: &Due, at: Option<Timestamp>) {
    let effects = Effects { due: [(due.eni.clone(), at)].into(), ..Effects::default() };
    put(ledger, &due.instance, record(1), effects).await;
}

pub(crate) async fn what_is_due_is_claimed_once_and_comes_back(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    set(one, &due(1, 1), Some(one.now(&instance(1)) - Duration::from_secs(1))).await;
    set(one, &due(1, 2), Some(one.now(&instance(1)) + LONG)).await;
    assert_eq!(claim(one, 10, Duration::from_secs(4)).await, [due(1, 1)]);
    assert_eq!(claim(other, 10, LONG).await, [], "hidden, and the other one is not due");
    let again = async {
        loop {
            let claimed = claim(other, 10, LONG).await;
            if !claimed.is_empty() {
                return claimed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), again).await.unwrap(), [due(1, 1)]);
}

pub(crate) async fn the_earliest_come_first_over_all_partitions(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let now = one.now(&instance(1));
    for place in 0..40 {
        // 7 and 40 have no common divisor: every age from 1 to 40 s comes once.
        let age = Duration::from_secs(1 + (place * 7 % 40) as u64);
        set(one, &due(place, 1), Some(now - age)).await;
    }
    let oldest = |count: usize| {
        let mut all: Vec<usize> = (0..40).collect();
        all.sort_by_key(|place| std::cmp::Reverse(place * 7 % 40));
        all.into_iter().take(count).map(|place| due(place, 1)).collect::<Vec<_>>()
    };
    assert_eq!(claim(other, 0, LONG).await, []);
    assert_eq!(claim(other, 15, LONG).await, oldest(15));
    assert_eq!(claim(one, 100, LONG).await, oldest(40)[15..]);
}

pub(crate) async fn what_is_not_due_any_more_is_not_claimed(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let past = one.now(&instance(1)) - Duration::from_secs(1);
    for interface in [1, 2, 3] {
        set(one, &due(1, interface), Some(past)).await;
    }
    set(other, &due(1, 1), None).await;
    set(other, &due(1, 2), Some(other.now(&instance(1)) + LONG)).await;
    assert_eq!(claim(one, 10, LONG).await, [due(1, 3)]);
    set(other, &due(1, 3), None).await;
    set(other, &due(1, 4), None).await;
    assert_eq!(claim(one, 10, Duration::ZERO).await, []);
}

pub(crate) async fn a_read_takes_nothing_and_a_claim_only_what_is_still_due(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let past = one.now(&instance(1)) - Duration::from_secs(1);
    for interface in [1, 2, 3] {
        set(one, &due(1, interface), Some(past)).await;
    }
    let seen = one.due(10).await.unwrap();
    assert_eq!(other.due(10).await.unwrap(), seen, "a read hides nothing");
    assert_eq!(other.claim(vec![due(1, 2)], LONG).await.unwrap(), [due(1, 2)]);
    set(other, &due(1, 3), None).await;
    assert_eq!(one.claim(seen, LONG).await.unwrap(), [due(1, 1)]);
    assert_eq!(one.claim(vec![due(1, 9)], LONG).await.unwrap(), [], "it was never due");
    assert_eq!(one.claim(Vec::new(), LONG).await.unwrap(), []);
}

pub(crate) async fn two_claimers_share_out_the_work(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let past = one.now(&instance(1)) - Duration::from_secs(1);
    for place in 0..30 {
        set(one, &due(place, 1), Some(past)).await;
    }
    let mut claimed = Vec::new();
    while claimed.len() < 30 {
        let (mine, yours) = tokio::join!(claim(one, 4, LONG), claim(other, 4, LONG));
        claimed.extend(mine);
        claimed.extend(yours);
    }
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), 30, "none twice");
}

pub(crate) async fn a_comparison_is_claimed_once_comes_back_and_can_be_put_off(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let set = async |place: usize, comparison: ReconcileSchedule| {
        let effects = Effects { reconcile: comparison, ..Effects::default() };
        put(one, &instance(place), record(1), effects).await;
    };
    let past = one.now(&instance(1)) - Duration::from_secs(9);
    set(1, ReconcileSchedule::At(past)).await;
    set(2, ReconcileSchedule::At(past - Duration::from_secs(1))).await;
    set(3, ReconcileSchedule::At(one.now(&instance(1)) + LONG)).await;
    assert_eq!(claim_reconciliations(other, 1, LONG).await, [instance(2)]);
    assert_eq!(claim_reconciliations(one, 9, Duration::ZERO).await, [instance(1)]);
    // Clocks of replicas are estimates: what is due now is seen by each of them soon.
    let soon = async {
        loop {
            let claimed = claim_reconciliations(other, 9, LONG).await;
            if !claimed.is_empty() {
                return claimed;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(60), soon).await.unwrap(), [instance(1)]);
    assert_eq!(claim_reconciliations(one, 9, LONG).await, []);

    set(2, ReconcileSchedule::At(past)).await;
    set(2, ReconcileSchedule::Kept).await;
    set(1, ReconcileSchedule::At(past)).await;
    set(1, ReconcileSchedule::Done).await;
    assert_eq!(claim_reconciliations(one, 9, LONG).await, [instance(2)]);
    assert_eq!(claim(one, 9, LONG).await, [], "another queue");
}

/// The record, or the attempt in it, was lost: the replica that claims it finds nothing, and it is
/// not claimed again.
pub(crate) async fn what_is_due_without_a_record_is_claimed_and_no_more(
    one: &(impl LedgerStore + Clone),
    other: &(impl LedgerStore + Clone),
) {
    let past = one.now(&instance(1)) - Duration::from_secs(9);
    set(one, &due(1, 1), Some(past)).await;
    let compared = Effects {
        reconcile: ReconcileSchedule::At(past),
        expire_after: Some(Duration::from_millis(1)),
        ..Effects::default()
    };
    put(one, &instance(2), record(1), compared).await;
    while one.read(&instance(2), None).await.unwrap().version != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Either replica gets it.
    for ledger in 0..2 {
        let claimed = async || match ledger {
            0 => (
                claim(one, 9, Duration::ZERO).await,
                claim_reconciliations(one, 9, Duration::ZERO).await,
            ),
            _ => (
                claim(other, 9, Duration::ZERO).await,
                claim_reconciliations(other, 9, Duration::ZERO).await,
            ),
        };
        while claimed().await != (vec![due(1, 1)], vec![instance(2)]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let ledger = ledger(other);
    let sent_at = other.now(&instance(1)) - Duration::from_millis(50);
    let observations = vec![(eni(1), EniObservation::Unclear { text: String::new() })];
    ledger.execute(&instance(1), &Command::RecordStatuses { sent_at, observations }).await.unwrap();
    let observe =
        Command::Observe { sent_at, rows: Vec::new(), then: Some(Box::new(Command::Reconcile)) };
    ledger.execute(&instance(2), &observe).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(claim(one, 9, LONG).await, []);
    assert_eq!(claim_reconciliations(one, 9, LONG).await, []);
}
