use std::time::Duration;

use redis::cmd;

use super::super::super::tests::{Answer, FakeServer};
use super::*;

/// Far more than any reply takes here.
const LONG: Duration = Duration::from_secs(60);

async fn connected(server: &FakeServer, deadline: Duration) -> Connection {
    let connection = Connection::new(deadline, Arc::default());
    connection.put(server.connect().await);
    connection
}

async fn call(connection: &Connection) -> Result<(), LedgerError> {
    connection
        .call(RedisOperation::Due, |mut connection| async move {
            cmd("ASK").query_async(&mut connection).await
        })
        .await
}

#[tokio::test]
async fn one_that_was_not_tried_yet_is_not_up_and_has_no_failure() {
    let connection = Connection::new(LONG, Arc::default());
    assert!(!connection.is_up() && !connection.was_reached());
    assert_eq!(connection.failure(), None);
    let error = call(&connection).await.unwrap_err();
    assert!(matches!(&error, LedgerError::NotApplied(outage) if outage.why == "not connected yet"));
}

#[tokio::test]
async fn an_answer_of_the_server_was_not_applied_and_keeps_the_connection() {
    let server = FakeServer::start(|_| Answer::Error("OOM memory")).await;
    let connection = connected(&server, LONG).await;
    let error = call(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::NotApplied(_)), "{error:?}");
    assert!(
        connection.is_up() && connection.write_refusal().is_some_and(|why| why.contains("OOM"))
    );
    connection.accept_writes();
    assert_eq!(connection.write_refusal(), None);
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_unknown_until_another_one_is_put() {
    let server = FakeServer::start(|_| Answer::HangUp).await;
    let connection = connected(&server, LONG).await;
    let error = call(&connection).await.unwrap_err();
    assert!(matches!(error, LedgerError::OutcomeUnknown(_)), "{error:?}");
    connection.until_lost().await;
    assert!(!connection.is_up() && connection.was_reached() && connection.failure().is_some());
    assert!(matches!(call(&connection).await, Err(LedgerError::NotApplied(_))));

    let other = FakeServer::start(|_| Answer::Ok).await;
    connection.put(other.connect().await);
    call(&connection).await.unwrap();
    assert!(connection.is_up() && connection.failure().is_none());
}

#[tokio::test]
async fn a_replica_is_given_up_and_may_be_held_elsewhere() {
    let server = FakeServer::start(|_| Answer::Error("READONLY a replica")).await;
    let stale = Arc::new(Notify::new());
    let connection = Connection::new(LONG, stale.clone());
    connection.put(server.connect().await);
    assert!(matches!(call(&connection).await, Err(LedgerError::NotApplied(_))));
    connection.until_lost().await;
    stale.notified().await;
}

#[tokio::test]
async fn one_timeout_keeps_the_connection_and_lasting_silence_ends_it() {
    let server = FakeServer::start(|_| Answer::Silence).await;
    let connection = connected(&server, Duration::from_millis(100)).await;
    tokio::time::pause();
    for connected in [true, true, false] {
        let error = call(&connection).await.unwrap_err();
        assert!(matches!(error, LedgerError::OutcomeUnknown(_)), "{error:?}");
        assert!(!connection.is_up() && connection.failure().is_some());
        assert_eq!(connection.state.borrow().is_connected(), connected);
    }
}

#[tokio::test]
async fn a_server_that_refuses_is_up_but_unusable() {
    let connection = Connection::new(LONG, Arc::default());
    connection.mark_refused("NOAUTH".to_owned());
    assert!(connection.is_up() && connection.was_reached() && connection.failure().is_none());
    assert!(call(&connection).await.unwrap_err().is_misconfigured());
    connection.mark_lost("gone".to_owned());
    assert_eq!(connection.failure().as_deref(), Some("gone"));
}

/// A late reply over a closed connection proves nothing about the one in use.
#[tokio::test]
async fn a_call_over_an_old_connection_changes_nothing() {
    let server = FakeServer::start(|_| Answer::Ok).await;
    let connection = connected(&server, LONG).await;
    let old = connection.state.borrow().connection().unwrap();
    connection.mark_lost("moved".to_owned());
    connection.state.send_if_modified(|state| state.succeed(&old));
    assert_eq!(connection.failure().as_deref(), Some("moved"));
    connection.put(server.connect().await);
    connection.record_failure(&old, "late", Duration::ZERO);
    assert!(connection.is_up());
}
