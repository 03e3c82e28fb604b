//! Compare and set.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::ledger::{Effects, LedgerStore, ReconcileSchedule, Record, Snapshot, Verdict};
use eni_gateway::model::Revision;

use super::{commit, conflict, eni, entry, instance, proposal, put, record, request, until};

pub(crate) async fn an_unknown_instance_is_empty(one: &impl LedgerStore, _: &impl LedgerStore) {
    let found = one.read(&instance(1), Some(&request("a", 1))).await.unwrap();
    assert_eq!((found.version, &*found.record, found.request), (0, &Record::default(), None));
    assert!(!found.partition.epoch.is_empty());
    until("its clock is known", async || {
        let before = one.now(&instance(1));
        let found = one.read(&instance(1), None).await.unwrap();
        let off = before.since(found.now).max(found.now.since(one.now(&instance(1))));
        off < Duration::from_millis(200)
    })
    .await;
}

pub(crate) async fn a_commit_is_read_back_everywhere(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let id = instance(1);
    let mut written = record(7);
    Arc::make_mut(&mut written).unknown.insert("of_a_newer_version".to_owned(), "kept: ü\n".into());
    let version = put(one, &id, written.clone(), Effects::default()).await;
    for ledger in [one.read(&id, None).await, other.read(&id, None).await] {
        let found = ledger.unwrap();
        assert_eq!((found.version, &found.record), (version, &written));
    }
    let second = put(other, &id, record(8), Effects::default()).await;
    assert!(second > version);
    assert!(version > 1_600_000_000_000_000, "a version is not behind the clock: {version}");
    assert_eq!(one.read(&instance(2), None).await.unwrap().version, 0);
}

pub(crate) async fn a_record_that_the_reader_has_is_returned_while_it_is_current(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let (id, key) = (instance(1), request("a", 1));
    let unknown = one.read(&id, None).await.unwrap();
    let found = one.read_since(&id, None, &unknown).await.unwrap();
    assert_eq!((found.version, &found.record), (0, &unknown.record));

    put(one, &id, record(1), Effects::default()).await;
    let known = one.read_since(&id, None, &found).await.unwrap();
    assert_eq!(known.record, record(1), "it came meanwhile");
    let again = one.read_since(&id, Some(&key), &known).await.unwrap();
    assert!(Arc::ptr_eq(&again.record, &known.record) && again.version == known.version);
    assert!(again.now >= known.now && again.partition == known.partition);

    let effects = Effects { requests: vec![(key.clone(), Some(entry(1)))], ..Effects::default() };
    put(other, &id, record(2), effects).await;
    let newer = one.read_since(&id, Some(&key), &known).await.unwrap();
    assert_eq!((&newer.record, &newer.request), (&record(2), &Some(entry(1))));
    let again = one.read_since(&id, Some(&key), &newer).await.unwrap();
    assert_eq!((&again.record, &again.request), (&record(2), &Some(entry(1))));

    // Versions count within an epoch.
    let mut elsewhere = Snapshot { record: record(3), ..newer };
    elsewhere.partition.epoch = format!("{}x", elsewhere.partition.epoch).into();
    assert_eq!(one.read_since(&id, None, &elsewhere).await.unwrap().record, record(2));
}

pub(crate) async fn of_two_commits_from_one_version_one_wins(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let id = instance(1);
    let from = one.read(&id, None).await.unwrap();
    let (mine, yours) = (record(1), record(2));
    let (version, now) = commit(one, &proposal(&id, &from, mine.clone(), Effects::default())).await;
    assert!(now >= from.now);
    let found = conflict(
        other.commit(&proposal(&id, &from, yours.clone(), Effects::default())).await.unwrap(),
    );
    assert_eq!((found.version, &found.record, &found.partition), (version, &mine, &from.partition));
    // What was found is good to go on from.
    commit(other, &proposal(&id, &found, yours, Effects::default())).await;
}

pub(crate) async fn a_commit_whose_reply_was_lost_shows_when_tried_again(
    one: &impl LedgerStore,
    _: &impl LedgerStore,
) {
    let id = instance(1);
    let from = one.read(&id, None).await.unwrap();
    let mine = proposal(&id, &from, record(1), Effects::default());
    commit(one, &mine).await;
    let found = conflict(one.commit(&mine).await.unwrap());
    assert_eq!(found.record, mine.record, "it had been applied");
}

pub(crate) async fn a_commit_turned_back_changes_nothing(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let id = instance(1);
    let from = one.read(&id, None).await.unwrap();
    put(other, &id, record(1), Effects::default()).await;
    let mut hint = one.changes().subscribe(&id);
    let key = request("a", 1);
    let effects = Effects {
        due: [(eni(1), Some(from.now))].into(),
        reconcile: ReconcileSchedule::At(from.now),
        requests: vec![(key.clone(), Some(entry(1)))],
        notify: true,
        expire_after: Some(Duration::from_millis(1)),
    };
    let mut late = proposal(&id, &from, record(2), effects);
    late.request = Some(key.clone());
    let found = conflict(one.commit(&late).await.unwrap());
    assert_eq!((found.record, found.request), (record(1), None));
    assert_eq!(one.due(10).await.unwrap(), []);
    assert_eq!(one.due_reconciliations(10).await.unwrap(), []);
    let heard = tokio::time::timeout(Duration::from_millis(100), hint.changed()).await;
    assert!(heard.is_err(), "a notification without a commit");
    assert_eq!(one.read(&id, Some(&key)).await.unwrap().record, record(1));
}

pub(crate) async fn a_commit_computed_for_another_time_is_turned_back(
    one: &impl LedgerStore,
    _: &impl LedgerStore,
) {
    let id = instance(1);
    let from = one.read(&id, None).await.unwrap();
    let good = proposal(&id, &from, record(1), Effects::default());
    let (mut early, mut late) = (good.clone(), good.clone());
    early.now = good.now - Duration::from_millis(300);
    late.now = good.now + Duration::from_secs(1);
    for wrong in [early, late] {
        let found = conflict(one.commit(&wrong).await.unwrap());
        assert_eq!(found.version, 0);
        assert!(found.now >= good.now, "and it says what time it is");
    }
    commit(one, &good).await;
}

pub(crate) async fn a_commit_computed_under_another_epoch_is_turned_back(
    one: &impl LedgerStore,
    _: &impl LedgerStore,
) {
    let id = instance(1);
    let from = one.read(&id, None).await.unwrap();
    for text in ["", "another", "0123456789abcdef 0 "] {
        let mut wrong = proposal(&id, &from, record(1), Effects::default());
        wrong.partition.epoch = text.into();
        let found = match one.commit(&wrong).await {
            Ok(verdict) => conflict(verdict),
            // Under other settings than ours it may not even be tried.
            Err(_) => one.read(&id, None).await.unwrap(),
        };
        assert_eq!((found.version, &found.partition), (0, &from.partition));
    }
}

pub(crate) async fn versions_rise_through_expiry(one: &impl LedgerStore, _: &impl LedgerStore) {
    let id = instance(1);
    let short = || Effects { expire_after: Some(Duration::from_millis(30)), ..Effects::default() };
    let first = put(one, &id, record(1), short()).await;
    gone(one, 1).await;
    let second = put(one, &id, record(2), short()).await;
    assert!(second > first);
}

pub(crate) async fn an_idle_record_expires_unless_something_in_it_is_live(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let short = || Effects { expire_after: Some(Duration::from_secs(3)), ..Effects::default() };
    // The first goes; the second and third were to go until the next commit said otherwise.
    put(one, &instance(1), record(1), short()).await;
    for number in [2, 3] {
        put(one, &instance(number), record(1), short()).await;
        let live = Effects {
            expire_after: (number == 3).then_some(Duration::from_secs(60)),
            ..Effects::default()
        };
        put(one, &instance(number), record(2), live).await;
    }
    gone(other, 1).await;
    for number in [2, 3] {
        assert_eq!(other.read(&instance(number), None).await.unwrap().record, record(2));
    }
}

pub(crate) async fn concurrent_commits_lose_nothing(
    one: &impl LedgerStore,
    other: &impl LedgerStore,
) {
    let (mine, yours) = tokio::join!(add(one, 100), add(other, 100));
    assert_eq!(mine + yours, 200);
    assert_eq!(one.read(&instance(1), None).await.unwrap().record.revision, Revision(200));
}

/// Adds one to a number in the record so often, however often it takes.
async fn add(ledger: &impl LedgerStore, times: usize) -> usize {
    let id = instance(1);
    let mut from = ledger.read(&id, None).await.unwrap();
    let mut done = 0;
    while done < times {
        let next = record(from.record.revision.0 + 1);
        match ledger.commit(&proposal(&id, &from, next, Effects::default())).await.unwrap() {
            Verdict::Committed { .. } => {
                done += 1;
                from = ledger.read(&id, None).await.unwrap();
            }
            Verdict::Conflict(found) => from = *found,
        }
    }
    done
}

async fn gone(ledger: &impl LedgerStore, number: usize) {
    while ledger.read(&instance(number), None).await.unwrap().version != 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
