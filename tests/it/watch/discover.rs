//! Others' attachments are shown from ENS, after they were recorded.

use std::time::Duration;

use eni_gateway::ens::{DescribeError, EnsRefusal};
use eni_gateway::ledger::LedgerStore;
use eni_gateway::model::{Reason, State};
use eni_gateway::watch::{Coverage, ReadCall, Scope};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Replica, at_once, by, eni, following, heartbeat, instance, pass, scope, whole};

fn soon() -> ReadCall {
    by(Instant::now() + Duration::from_secs(10))
}

fn throttled() -> DescribeError {
    let refusal = EnsRefusal { code: "Throttling.User".to_owned(), ..EnsRefusal::default() };
    DescribeError::Throttled { refusal, retry_after: None }
}

#[tokio::test(start_paused = true)]
async fn get_shows_what_others_attached_and_keeps_it() {
    let replica = Replica::new();
    replica.ens.show(&instance("i-1"), &eni("eni-9"), "InUse");
    replica.ens.show(&instance("i-2"), &eni("eni-8"), "InUse");
    let shown = replica.hub.get(&instance("i-1"), &eni("eni-9"), soon()).await.unwrap();
    assert_eq!((shown.state, shown.ens_status.as_str()), (State::Attached, "InUse"));
    let record = replica.ledger.read(&instance("i-1")).await.unwrap().record;
    assert_eq!(
        record.attempts[&eni("eni-9")].attachment(),
        shown,
        "it was written before it was shown"
    );
    replica.hub.get(&instance("i-1"), &eni("eni-9"), soon()).await.unwrap();
    assert_eq!(replica.describes(), 1, "what the store has is not described");
    let elsewhere = replica.hub.get(&instance("i-1"), &eni("eni-8"), soon()).await;
    assert_eq!(elsewhere.unwrap_err().reason, Reason::AttachmentNotFound);
}

#[tokio::test(start_paused = true)]
async fn list_and_a_watch_of_the_instance_ask_once_a_minute() {
    let replica = Replica::new();
    for (name, status) in [("eni-3", "InUse"), ("eni-1", "Attaching"), ("eni-2", "Detaching")] {
        replica.ens.show(&instance("i-1"), &eni(name), status);
    }
    let asked_at = replica.store.now(&instance("i-1"));
    let list = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert_eq!(list.coverage, Coverage { observed_at: Some(asked_at), incomplete: false });
    let list = list.attachments;
    let listed: Vec<_> = list.iter().map(|shown| (shown.eni.as_str(), shown.state)).collect();
    assert_eq!(
        listed,
        [("eni-1", State::Attaching), ("eni-2", State::Detaching), ("eni-3", State::Attached)]
    );
    pass(Duration::from_secs(59)).await;
    let mut messages = replica.watch(whole()).await;
    for _ in 0..3 {
        at_once(&mut messages).await;
    }
    heartbeat(&mut messages).await;
    assert_eq!(replica.describes(), 1);
    pass(Duration::from_secs(2)).await;
    replica.ens.show(&instance("i-1"), &eni("eni-4"), "InUse");
    let mut later = replica.watch(whole()).await;
    for _ in 0..4 {
        at_once(&mut later).await;
    }
    assert_eq!(replica.describes(), 2);
    assert_eq!(at_once(&mut messages).await.eni.as_str(), "eni-4", "every watcher receives it");
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_one_question() {
    let replica = Replica::new();
    replica.ens.take(Duration::from_millis(300));
    replica.ens.show(&instance("i-1"), &eni("eni-0"), "InUse");
    let (i1, names): (_, Vec<_>) =
        (instance("i-1"), (0..50).map(|n| eni(&format!("eni-{n}"))).collect());
    let got = join_all(names.iter().map(|name| replica.hub.get(&i1, name, soon()))).await;
    assert_eq!(got.iter().filter(|got| got.is_ok()).count(), 1);
    assert_eq!(replica.describes(), 1);
    replica.refused(scope("eni-1")).await;
    assert_eq!(replica.describes(), 1, "ens's answer is remembered for a minute");
    pass(Duration::from_secs(61)).await;
    replica.refused(scope("eni-1")).await;
    assert_eq!(replica.describes(), 2, "a later call describes again");
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_does_not_end_the_question_of_the_others() {
    let replica = Replica::new();
    replica.ens.take(Duration::from_secs(2));
    replica.ens.show(&instance("i-1"), &eni("eni-1"), "InUse");
    let (i1, e1) = (instance("i-1"), eni("eni-1"));
    let hasty = replica.hub.get(&i1, &e1, by(Instant::now() + Duration::from_secs(1)));
    let (hasty, patient) = tokio::join!(hasty, replica.hub.get(&i1, &e1, soon()));
    assert_eq!(hasty.unwrap_err().reason, Reason::EnsUnavailable);
    assert_eq!(patient.unwrap().state, State::Attached);
    assert_eq!(replica.describes(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_of_ens_the_unknown_stays_unknown_and_the_known_is_shown() {
    let replica = Replica::new();
    replica.begin("eni-1").await;
    pass(Duration::from_secs(61)).await;
    replica.ens.fail(Some(throttled()));
    assert_eq!(replica.refused(scope("eni-2")).await.reason, Reason::EnsThrottled);
    assert_eq!(replica.refused(following(scope("eni-2"))).await.reason, Reason::EnsThrottled);
    let got = replica.hub.get(&instance("i-1"), &eni("eni-2"), soon()).await.unwrap_err();
    assert_eq!((got.reason, got.ens_code.as_str()), (Reason::EnsThrottled, "Throttling.User"));

    let listed = replica.hub.list(&instance("i-1"), soon()).await.unwrap();
    assert_eq!((listed.attachments.len(), listed.coverage.incomplete), (1, true));
    let mut messages = replica.watch(whole()).await;
    assert_eq!(at_once(&mut messages).await.state, State::Pending);
    drop(replica.watch(scope("eni-1")).await);
}

#[tokio::test(start_paused = true)]
async fn an_ens_that_hangs_holds_up_no_call_that_has_an_answer() {
    let replica = Replica::new();
    replica.begin("eni-1").await;
    pass(Duration::from_secs(61)).await;
    replica.ens.take(Duration::from_secs(3600));
    let asked = Instant::now();
    let listed =
        replica.hub.list(&instance("i-1"), by(asked + Duration::from_secs(2))).await.unwrap();
    assert_eq!((listed.attachments.len(), asked.elapsed()), (1, Duration::from_secs(1)));
    drop(replica.watch(Scope { until: None, ..whole() }).await);
    assert_eq!(asked.elapsed(), Duration::from_secs(6));
}
