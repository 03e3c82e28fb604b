use futures_util::future::join_all;

use super::super::super::tests::{Answer, FakeServer};
use super::*;
use crate::ledger::keys::PartitionId;

/// A primary with replication id `abc`, with this number of replicas that confirm.
async fn primary(confirm: i64) -> FakeServer {
    FakeServer::start(move |command| match command[0] {
        "SET" => Answer::Ok,
        "INFO" => Answer::Text("role:master\r\nmaster_replid:abc\r\n".to_owned()),
        "WAIT" => Answer::Int(confirm),
        _ => Answer::Error("ERR unexpected"),
    })
    .await
}

/// The results of `count` commits under `epoch`, with two replicas to wait for.
async fn confirm(
    server: &FakeServer,
    address: Option<ServerAddr>,
    epoch: &str,
    count: usize,
) -> Vec<Option<String>> {
    let shared = server.shared(|settings| {
        settings.sync_replicas = 2;
        // Far more than a reply takes here.
        settings.response_timeout = std::time::Duration::from_secs(60);
    });
    let assignment = Assignment::new(PartitionId::all().collect());
    if let Some(address) = address {
        assignment.set_address(address);
    }
    let waiter = ReplicaWaiter::new((shared, assignment));
    let all = join_all((0..count).map(|_| waiter.confirm(epoch)));
    let outcomes = tokio::select! {
        _ = waiter.run() => Vec::new(),
        outcomes = all => outcomes,
    };
    let why =
        |outcome: Result<(), LedgerError>| outcome.err().map(|error| error.outage().why.clone());
    outcomes.into_iter().map(why).collect()
}

#[tokio::test]
async fn many_commits_share_one_wait() {
    let server = primary(2).await;
    assert_eq!(confirm(&server, Some(server.address.clone()), "abc 0 s", 50).await, vec![None; 50]);
    assert!((1..=2).contains(&server.count("WAIT")), "{}", server.count("WAIT"));
}

#[tokio::test]
async fn what_replicas_lack_or_another_primary_has_is_not_confirmed() {
    let server = primary(1).await;
    let here = Some(server.address.clone());
    let why = confirm(&server, here.clone(), "abc 0 s", 1).await.remove(0).unwrap();
    assert!(why.contains("1 of 2 have it"), "{why}");
    let server = primary(2).await;
    let here = here.map(|_| server.address.clone());
    let why = confirm(&server, here, "def 0 s", 1).await.remove(0).unwrap();
    assert!(why.contains("another one by now"), "{why}");
    let why = confirm(&server, None, "abc 0 s", 1).await.remove(0).unwrap();
    assert!(why.contains("not connected"), "{why}");
}
