//! A thousand watchers of one instance, on several threads, in real time.

use std::sync::Arc;

use eni_gateway::ledger::command::ObservedStatus;
use eni_gateway::model::{Revision, State};
use eni_gateway::watch::Event;
use futures_util::StreamExt;
use futures_util::future::join_all;

use super::{Messages, Replica, following, here, scope, whole};

/// Reads until the state comes, and sees to the order.
async fn read_to(
    mut messages: Messages,
    state: State,
) -> (Messages, Arc<eni_gateway::model::Attachment>) {
    let mut last = Revision(0);
    loop {
        match messages.next().await {
            Some(Ok(Event::Attachment(shown))) => {
                assert!(shown.revision > last);
                last = shown.revision;
                if shown.state == state {
                    return (messages, shown);
                }
            }
            Some(Ok(Event::Heartbeat { .. })) => {}
            other => panic!("{state:?} never came, but {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn everybody_sees_the_last_state_and_it_is_kept_once() {
    let replica = Replica::new();
    let begun = replica.begin("eni-1").await;
    let scopes = [scope("eni-1"), whole(), following(whole()), following(scope("eni-1"))];
    let opened = join_all((0..1000).map(|n| replica.watch(scopes[n % scopes.len()].clone()))).await;
    let reading =
        opened.into_iter().map(|messages| replica.tasks.spawn(read_to(messages, State::Attached)));
    let reading: Vec<_> = reading.collect();

    replica.accept(&begun).await;
    for n in 0..50 {
        replica.settle("eni-1", here(ObservedStatus::Attaching, &format!("Attaching {n}"))).await;
    }
    replica.settle("eni-1", here(ObservedStatus::InUse, "InUse")).await;

    let seen: Vec<_> = join_all(reading).await.into_iter().map(Result::unwrap).collect();
    let (_, first) = &seen[0];
    assert!(seen.iter().all(|(_, shown)| Arc::ptr_eq(first, shown)), "one attachment for all");
    assert_eq!(first.ens_status, "InUse");
    assert!(replica.store.reads() < 500, "{} reads for a thousand watchers", replica.store.reads());
    assert!(replica.ens.calls().is_empty());
}
