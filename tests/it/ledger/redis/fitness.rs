//! The preflight check: servers that must not be used, or only with a warning.

use std::time::Duration;

use eni_gateway::ledger::redis::{
    InitError, InspectError, Login, ServerAddr, Servers, init, inspect,
};
use eni_gateway::ledger::{Effects, LedgerStore};
use eni_gateway::rate_limit::{RateClass, RateLimitRequest, RateLimitStore};
use secrecy::SecretString;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{
    connected, entry, instance, put, record, request, settings, settings_of, start, until,
};
use crate::ledger::contract::{eni, proposal};
use crate::support::redis::{Server, free_port};

#[tokio::test]
async fn a_server_that_evicts_is_unfit() {
    let server = Server::start_with(&["--maxmemory-policy", "volatile-lru"]).await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let misconfigured = ledger.health().misconfigured;
    assert!(
        misconfigured.len() == 1 && misconfigured[0].contains("noeviction"),
        "{misconfigured:?}"
    );
    let from = ledger.read(&instance(1), None).await.unwrap();
    let refused = ledger
        .commit(&proposal(&instance(1), &from, record(1), Effects::default()))
        .await
        .unwrap_err();
    assert!(refused.outage().why.contains("noeviction"), "{refused}");
    let mut other = settings(&server);
    other.prefix = "other:".to_owned();
    assert!(matches!(init(other).await.unwrap_err(), InitError::Unfit(_)));
}

#[tokio::test]
async fn a_user_who_may_not_ask_for_info_is_reported() {
    let server = Server::start().await;
    server
        .ask::<()>(&["ACL", "SETUSER", "gateway", "on", ">s3cret", "~*", "&*", "+@all", "-info"])
        .await;
    let mut as_user = settings(&server);
    as_user.login =
        Login { user: Some("gateway".to_owned()), password: Some(SecretString::from("s3cret")) };
    let (_guard, ledger) = start(as_user);
    until("refused", async || !ledger.health().misconfigured.is_empty()).await;
    let health = ledger.health();
    assert!(health.reached && health.misconfigured[0].contains("info"), "{health:?}");
    let why = ledger.read(&instance(1), None).await.unwrap_err();
    assert!(!format!("{why} {health:?} {ledger:?}").contains("s3cret"));

    server.ask::<()>(&["ACL", "SETUSER", "gateway", "+info"]).await;
    ledger.until_up().await;
    assert_eq!(ledger.health().misconfigured, Vec::<String>::new());
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}

/// The right is missed at the next call, and found again at the next check.
#[tokio::test]
async fn a_user_who_loses_a_right_is_reported_at_once() {
    let server = Server::start().await;
    let user = ["ACL", "SETUSER", "gateway", "on", ">s3cret", "~*", "&*", "+@all"];
    server.ask::<()>(&user).await;
    let mut as_user = settings(&server);
    as_user.login =
        Login { user: Some("gateway".to_owned()), password: Some(SecretString::from("s3cret")) };
    let (_guard, ledger) = connected(as_user).await;
    server.ask::<()>(&["ACL", "SETUSER", "gateway", "-evalsha"]).await;
    until("refused", async || !ledger.health().misconfigured.is_empty()).await;
    let health = ledger.health();
    assert!(health.misconfigured[0].contains("evalsha"), "{health:?}");

    server.ask::<()>(&["ACL", "SETUSER", "gateway", "+evalsha"]).await;
    until("accepted", async || ledger.health().misconfigured.is_empty()).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}

/// The write of a new connection may fail before the answer is read.
#[tokio::test]
async fn a_server_that_closes_each_connection_is_quoted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = TaskTracker::new();
    server.spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(b"-ERR max number of clients reached\r\n").await;
        }
    });
    let there = ServerAddr::Tcp("127.0.0.1".to_owned(), port);
    let refused = inspect(settings_of(Servers::One(there))).await.unwrap_err();
    assert!(
        matches!(&refused, InspectError::Refused { why, remedy } if why.contains("max number of clients")
            && remedy.contains("maxclients")),
        "{refused}"
    );
}

/// A new connection is tried at once, not after a diagnosis that the server does not help.
#[tokio::test]
async fn a_silent_server_does_not_hold_up_the_next_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = TaskTracker::new();
    server.spawn(async move {
        drop(listener.accept().await);
        let mut silent = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            silent.push(accepted);
        }
    });
    let mut patient = settings_of(Servers::One(ServerAddr::Tcp("127.0.0.1".to_owned(), port)));
    patient.connect_timeout = Duration::from_secs(600);
    let inspected = tokio::time::timeout(Duration::from_secs(30), inspect(patient)).await;
    inspected.expect("the first connection is cut").unwrap_err();
}

/// Without it a commit would write the record, and fail before its place in the queue.
#[tokio::test]
async fn a_user_who_lacks_any_right_of_the_scripts_is_reported() {
    let server = Server::start().await;
    let mut as_user = settings(&server);
    as_user.login =
        Login { user: Some("gateway".to_owned()), password: Some(SecretString::from("s3cret")) };
    for command in ["zadd", "zrem", "hset", "getrange"] {
        let without = format!("-{command}");
        server
            .ask::<()>(&[
                "ACL", "SETUSER", "gateway", "reset", "on", ">s3cret", "~*", "&*", "+@all",
                &without,
            ])
            .await;
        let (_guard, ledger) = start(as_user.clone());
        until(command, async || {
            ledger.health().misconfigured.iter().any(|why| why.contains(&command.to_uppercase()))
        })
        .await;
        let refused = init(as_user.clone()).await.unwrap_err().to_string();
        assert!(refused.contains(&command.to_uppercase()), "{refused}");
    }
}

#[tokio::test]
async fn a_server_without_sharded_channels_tells_by_plain_ones() {
    let server = Server::start_with(&[
        "--rename-command",
        "SSUBSCRIBE",
        "",
        "--rename-command",
        "SPUBLISH",
        "",
    ])
    .await;
    let (_a, one) = connected(settings(&server)).await;
    let (_b, other) = connected(settings(&server)).await;
    for ledger in [&one, &other] {
        until(
            "subscribed",
            async || matches!(&ledger.health().warnings[..], [warning] if warning.contains("plain pub/sub")),
        )
        .await;
    }
    let mut hint = other.changes().subscribe(&instance(1));
    put(&one, &instance(1), record(1), Effects { notify: true, ..Effects::default() }).await;
    tokio::time::timeout(std::time::Duration::from_secs(60), hint.changed()).await.expect("heard");
}

/// A cluster runs a script only if all its keys are in one slot, and named; one node that holds
/// every slot tells.
#[tokio::test]
async fn every_script_keeps_to_one_slot() {
    let port = free_port().to_string();
    let server = Server::start_with(&["--cluster-enabled", "yes", "--cluster-port", &port]).await;
    server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    until("a cluster", async || {
        server.info("cluster", "cluster_enabled").await.as_deref() == Some("1")
    })
    .await;
    let (_a, one) = connected(settings(&server)).await;
    let (_b, other) = connected(settings(&server)).await;
    until("subscribed", async || other.health().warnings.is_empty()).await;
    let mut hint = other.changes().subscribe(&instance(1));
    let effects = Effects {
        due: [(eni(1), Some(one.now(&instance(1)))), (eni(2), None)].into(),
        requests: vec![(request("a", 1), Some(entry(1)))],
        notify: true,
        ..Effects::default()
    };
    put(&one, &instance(1), record(1), effects).await;
    tokio::time::timeout(std::time::Duration::from_secs(60), hint.changed()).await.expect("heard");
    let found = other.read(&instance(1), Some(&request("a", 1))).await.unwrap();
    assert_eq!((found.record, found.request), (record(1), Some(entry(1))));
    until("due", async || !other.due(5).await.unwrap().is_empty()).await;
    one.take(RateLimitRequest::Take(RateClass::Describe, None)).await.unwrap();
}

#[tokio::test]
async fn replicas_without_a_minimum_are_worth_a_warning() {
    let primary = Server::start().await;
    let port = primary.port().to_string();
    let _replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    until("attached", async || {
        primary.info("replication", "connected_slaves").await.as_deref() == Some("1")
    })
    .await;
    let (_guard, ledger) = connected(settings(&primary)).await;
    until("warned", async || {
        let warnings = ledger.health().warnings;
        warnings.len() == 1 && warnings[0].contains("min-replicas-to-write")
    })
    .await;
    drop(_guard);
    primary.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let (_guard, ledger) = connected(settings(&primary)).await;
    until("good", async || ledger.health().warnings.is_empty()).await;
}
