use super::super::super::tests::{Answer, FakeServer};
use super::*;
use crate::ledger::redis::epoch::Epoch;
use crate::ledger::redis::epoch::SharedSettings;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn ours() -> SharedSettings {
    SharedSettings { bounds: Bounds::default().shared(), synced: false }
}

fn found(epoch: &str) -> StoredRecord {
    StoredRecord {
        now: NOW,
        epoch: epoch.to_owned(),
        replication_id: "abc".to_owned(),
        ..StoredRecord::default()
    }
}

fn status_of(epoch: &str, old_clock: Option<Timestamp>) -> EpochStatus {
    status::evaluate(Epoch::parse(epoch).as_ref(), &found(epoch), &ours(), old_clock)
}

#[test]
fn an_epoch_is_used_renewed_or_recovered() {
    let (ours, hold_down) = (ours(), ours().recovery_hold_down());
    let at = |time: Timestamp| format!("abc {} {ours}", time.as_micros());
    let (open, closed) = (at(Timestamp::default()), at(NOW + Duration::from_secs(1)));
    assert_eq!(status_of(&open, None), EpochStatus::Current);
    assert_eq!(status_of(&closed, None), EpochStatus::Current);
    assert_eq!(status_of("", None), EpochStatus::Recover(ours));
    assert_eq!(status_of(&open.replace("abc", "def"), None), EpochStatus::Recover(ours));

    // A clock that was set: what is left of a hold-down is counted by the old one.
    let past = Some(NOW + Duration::from_secs(2));
    assert_eq!(status_of(&closed, past), EpochStatus::Renew(ours, status::NO_HOLD_DOWN));
    assert_eq!(status_of(&closed, Some(NOW)), EpochStatus::Renew(ours, hold_down));
    // Longer than any hold-down.
    assert_eq!(status_of(&at(NOW + hold_down * 2), None), EpochStatus::Renew(ours, hold_down));

    let mut stricter = ours;
    stricter.bounds.limit = 99;
    let lax = format!("abc 0 {stricter}");
    assert_eq!(status_of(&lax, None), EpochStatus::Renew(ours, status::NO_HOLD_DOWN));
}

#[test]
fn another_versions_epoch_is_read_but_never_renewed() {
    let other = format!("abc 0 {}", ours().to_string().replace("format=1", "format=2"));
    assert_eq!(status_of(&other, None), EpochStatus::Current);
    let elsewhere = other.replace("abc", "def");
    assert!(
        matches!(status_of(&elsewhere, None), EpochStatus::Refuse(why) if why.contains("format=2"))
    );
}

/// A server that stores epochs, in the protocol of the commit script.
async fn store() -> FakeServer {
    let stored = std::sync::Mutex::new(String::new());
    FakeServer::start(move |command| {
        let script: Vec<&str> =
            command.iter().skip_while(|part| !part.contains("epoch")).copied().collect();
        let (name, arguments) = match script[..] {
            [_epoch, _freeze, name, ref arguments @ ..] => (name, arguments),
            _ => return Answer::Error("ERR not a script"),
        };
        let mut stored = stored.lock().unwrap();
        if let ("epoch", [seen, id, _hold_down, settings]) = (name, arguments)
            && *stored == *seen
        {
            *stored = format!("{id} 0 {settings}");
        }
        Answer::texts(&["found", &NOW.as_micros().to_string(), &stored, "abc", ""])
    })
    .await
}

#[tokio::test]
async fn a_missing_epoch_is_renewed_and_the_others_are_to_be_checked() {
    let server = store().await;
    let assignment = Assignment::new(PartitionId::all().take(1).collect());
    let shared = server.shared(|_| {});
    let check = Arc::new(Notify::new());
    let guard = EpochGuard::new((shared.clone(), assignment), check.clone());
    let connection = server.connect().await;
    let partition = PartitionId::all().next().unwrap();
    let keys = shared.keys.state(partition);

    let missing = guard.read_since(&connection, &keys, &Snapshot::default()).await.unwrap();
    assert!(!guard.is_current(partition, &missing));
    let renewed = guard.renew_until_current(&connection, partition, &keys, missing).await;
    let renewed = renewed.unwrap().unwrap();
    assert!(guard.is_current(partition, &renewed));
    assert_eq!(*shared.views().partition(partition).epoch, *renewed.epoch);
    check.notified().await;
    // Learned from the answers.
    assert!(guard.now().since(NOW) < Duration::from_secs(600));
}

#[test]
fn a_step_of_the_clock_makes_the_epochs_of_its_time_stale() {
    let steps = StepHistory::default();
    let partition = PartitionId::all().next().unwrap();
    assert_eq!((steps.old_clock(partition, "e"), steps.warning()), (None, None));
    let step = super::super::super::clock::ClockStep { by: -3_000_000, before: NOW };
    steps.record(step, [(partition, "e".into())].into());
    assert_eq!((steps.counts().back, steps.counts().forward), (1, 0));
    assert_eq!(steps.old_clock(partition, "e"), Some(NOW));
    assert_eq!(steps.old_clock(partition, "later"), None);
    assert!(steps.warning().is_some_and(|warning| warning.contains("back by 3.0 s")));
}
