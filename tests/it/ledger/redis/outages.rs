//! A Redis that is absent, lost or silent.

use std::time::Duration;

use eni_gateway::ledger::redis::{ServerAddr, Servers};
use eni_gateway::ledger::{Effects, LedgerStore, RedisSettings};
use tokio::time::Instant;

use super::{connected, holding, instance, put, record, settings, settings_of, start, until};
use crate::support::link::Link;
use crate::support::redis::Server;

#[tokio::test]
async fn a_redis_that_comes_later_is_waited_for() {
    let mut server = Server::stopped(&[]);
    let patient = RedisSettings {
        response_timeout: Duration::from_secs(100),
        connect_timeout: Duration::from_secs(100),
        ..settings(&server)
    };
    let (_guard, ledger) = start(patient);
    let began = Instant::now();
    ledger.read(&instance(1), None).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(50), "an answer, not a wait");
    let health = ledger.health();
    assert_eq!((health.up, health.reached), (false, false));

    server.up().await;
    ledger.until_up().await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    assert!(ledger.health().up && ledger.health().reached);
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_back_is_found_again() {
    let mut server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let mut hint = ledger.changes().subscribe(&instance(1));
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    server.down();
    ledger.read(&instance(1), None).await.unwrap_err();
    until("noticed", async || !ledger.health().up).await;
    assert!(ledger.health().reached, "once");

    server.up().await;
    ledger.until_up().await;
    assert_eq!(ledger.read(&instance(1), None).await.unwrap().version, 0, "it had saved nothing");
    tokio::time::timeout(Duration::from_secs(60), hint.changed())
        .await
        .expect("notified to read again");
    until("subscribed again", async || ledger.health().warnings.is_empty()).await;
    put(&ledger, &instance(1), record(2), Effects { notify: true, ..Effects::default() }).await;
    tokio::time::timeout(Duration::from_secs(60), hint.changed()).await.expect("and heard again");
}

/// Its sockets stay open: nothing but our own deadlines ends a call.
#[tokio::test]
async fn a_redis_that_falls_silent_holds_no_call_and_is_found_again() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    server.freeze();
    for _ in 0..5 {
        let began = Instant::now();
        ledger.read(&instance(1), None).await.unwrap_err();
        // Two round trips' timeouts are a second; nothing else would ever end it.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    }
    assert!(!ledger.health().up);
    server.thaw();
    until("back", async || ledger.read(&instance(1), None).await.is_ok()).await;
    assert_eq!(ledger.health().recovering, 0, "the same server, and nothing lost");
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}

/// What "timed out" is done later, when the server wakes up: too late by the clock that the commit
/// itself names.
#[tokio::test]
async fn a_commit_that_waited_in_a_stalled_server_is_not_applied_late() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let from = ledger.read(&instance(1), None).await.unwrap();
    server.ask::<()>(&["CLIENT", "PAUSE", "5000", "ALL"]).await;
    let late =
        crate::ledger::contract::proposal(&instance(1), &from, record(1), Effects::default());
    ledger.commit(&late).await.unwrap_err();
    until("awake", async || ledger.read(&instance(1), None).await.is_ok()).await;
    assert_eq!(ledger.read(&instance(1), None).await.unwrap().version, 0);
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_left() {
    let server = Server::start().await;
    let primary = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    let port = primary.port().to_string();
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]).await;
    until("refused", async || {
        ledger
            .read(&instance(1), None)
            .await
            .is_err_and(|error| error.outage().why.contains("replica"))
    })
    .await;
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    until("back", async || ledger.read(&instance(1), None).await.is_ok()).await;
    assert_eq!(ledger.health().recovering, 64);
}

/// No call is made. The monitor notices it.
#[tokio::test]
async fn an_idle_replica_notices_a_loss() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    server.ask::<()>(&["FLUSHALL"]).await;
    until("noticed", async || ledger.health().recovering == 64).await;
}

#[tokio::test]
async fn nothing_is_left_running_when_it_is_stopped() {
    let server = Server::start().await;
    let tasks = tokio_util::task::TaskTracker::new();
    let stop = tokio_util::sync::CancellationToken::new();
    let ledger =
        eni_gateway::ledger::Redis::start(settings(&server), &tasks, stop.clone()).unwrap();
    ledger.until_up().await;
    stop.cancel();
    tasks.close();
    tokio::time::timeout(Duration::from_secs(60), tasks.wait()).await.expect("its tasks end");
    drop(ledger);
    until("its connections are closed", async || {
        server.info("clients", "connected_clients").await.as_deref() == Some("1")
    })
    .await;
}

/// A restart or a failover of a Redis that wants its replicas before it takes a write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_waits_for_its_replicas_is_away_and_not_unfit() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    // Another replication id: its epochs must be written again.
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
    server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    server.ask::<()>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until("its refusal is reported", async || {
        let health = ledger.health();
        !health.up && health.down.iter().any(|why| why.contains("NOREPLICAS"))
    })
    .await;
    let health = ledger.health();
    assert!(health.reached && health.misconfigured.is_empty(), "{health:?}");
    assert!(!ledger.read(&instance(1), None).await.unwrap_err().is_misconfigured());
    server.ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    until("back", async || ledger.health().up && ledger.read(&instance(1), None).await.is_ok())
        .await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_at_fault_alone() {
    let mut server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    for number in [1, 2] {
        put(&ledger, &instance(number), record(1), Effects::default()).await;
    }
    let keys: Vec<String> = server.ask(&["KEYS", &format!("*:record:{}", instance(1))]).await;
    for stored in ["9\nnonsense", "9\n{\"format\": 999}"] {
        server.ask::<()>(&["SET", &keys[0], stored]).await;
        let error = ledger.read(&instance(1), None).await.unwrap_err();
        assert!(error.is_unreadable() && error.is_misconfigured(), "{stored}: {error}");
    }
    ledger.read(&instance(2), None).await.unwrap();
    server.down();
    until("it is away", async || {
        ledger.read(&instance(1), None).await.is_err_and(|error| !error.is_unreadable())
    })
    .await;
}

/// To find an epoch stale, to see why, and to renew it are several trips: more than one call has
/// time for here.
#[tokio::test]
async fn a_stale_epoch_is_renewed_over_a_slow_link() {
    for sync_replicas in [0, 1] {
        let server = Server::start().await;
        let link = Link::slow(server.port(), Duration::from_millis(200)).await;
        let mut slow =
            settings_of(Servers::One(ServerAddr::Tcp("127.0.0.1".to_owned(), link.port())));
        slow.sync_replicas = sync_replicas;
        slow.shared_settings.synced = sync_replicas > 0;
        slow.response_timeout = Duration::from_millis(700);
        slow.shared_settings.bounds = holding(Duration::from_secs(3_600));
        let (_guard, ledger) = connected(slow).await;
        // Another replication id: the server restarted, as far as anybody can tell.
        server.ask::<()>(&["REPLICAOF", "127.0.0.1", "1"]).await;
        server.ask::<()>(&["REPLICAOF", "NO", "ONE"]).await;
        until("a call goes through", async || ledger.read(&instance(1), None).await.is_ok()).await;
        if sync_replicas == 0 {
            until("all are closed", async || ledger.health().recovering == 64).await;
        }
        assert!(ledger.health().reached);
    }
}

#[tokio::test]
async fn a_full_redis_says_so_until_it_takes_writes_again() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let from = ledger.read(&instance(1), None).await.unwrap();
    let mine =
        crate::ledger::contract::proposal(&instance(1), &from, record(2), Effects::default());
    let error = ledger.commit(&mine).await.unwrap_err();
    assert!(
        !error.is_misconfigured()
            && !error.maybe_applied()
            && error.outage().why.contains("maxmemory"),
        "{error}"
    );
    assert!(!error.outage().why.contains("script"), "{error}");
    // A call that writes is to fail at once then, as without a connection.
    let refused_for = Duration::from_millis(100);
    until("it lasts", async || {
        ledger.commit(&mine).await.unwrap_err().outage().down_for > refused_for
    })
    .await;
    // Reads go through, and are no sign that it is well.
    assert_eq!(ledger.read(&instance(1), None).await.unwrap().record, record(1));
    let health = ledger.health();
    assert!(health.up && health.misconfigured.is_empty(), "{health:?}");
    assert!(health.refusing.iter().any(|why| why.contains("maxmemory")), "{health:?}");

    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until("noticed without a commit", async || ledger.health().refusing.is_empty()).await;
    put(&ledger, &instance(1), record(2), Effects::default()).await;
}

/// No call is made, and the server answers every read.
#[rstest::rstest]
#[case::full("maxmemory", "1", "0", "maxmemory")]
#[case::without_replicas("min-replicas-to-write", "1", "0", "NOREPLICAS")]
#[tokio::test]
async fn a_server_that_refuses_writes_is_noticed_without_a_call(
    #[case] setting: &str,
    #[case] refusing: &str,
    #[case] accepting: &str,
    #[case] why: &str,
) {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    server.ask::<()>(&["CONFIG", "SET", setting, refusing]).await;
    until("noticed", async || !ledger.health().accepts_writes()).await;
    let health = ledger.health();
    assert!(health.up && health.refusing.iter().any(|text| text.contains(why)), "{health:?}");
    let found = eni_gateway::ledger::redis::inspect(settings(&server)).await.unwrap();
    assert!(found.refusing.iter().any(|text| text.contains(why)), "{found:?}");
    server.ask::<()>(&["CONFIG", "SET", setting, accepting]).await;
    until("accepted again", async || ledger.health().accepts_writes()).await;
}

/// A read needs no more than an answer in time. A commit must arrive in time as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_commits_reach_too_late_is_noticed_without_a_call() {
    let server = Server::start().await;
    let link = Link::slow(server.port(), Duration::from_millis(600)).await;
    let mut far = settings_of(Servers::One(ServerAddr::Tcp("127.0.0.1".to_owned(), link.port())));
    far.response_timeout = Duration::from_secs(10);
    far.connect_timeout = Duration::from_secs(60);
    let (_guard, ledger) = connected(far).await;
    until("noticed", async || !ledger.health().accepts_writes()).await;
    let health = ledger.health();
    assert!(health.up && health.refusing[0].contains("250 ms"), "{health:?}");
}

#[tokio::test]
async fn the_used_share_of_the_memory_is_known() {
    let server = Server::start().await;
    let (_guard, ledger) = connected(settings(&server)).await;
    assert_eq!(ledger.health().memory_used, None, "it has no maximum");
    let server = Server::start_with(&["--maxmemory", "100mb"]).await;
    let (_guard, ledger) = connected(settings(&server)).await;
    assert!(ledger.health().memory_used.is_some_and(|used| used < 50), "{:?}", ledger.health());
}
