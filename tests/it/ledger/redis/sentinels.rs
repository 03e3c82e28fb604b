//! The contract at the primary that the sentinels name, and after a failover.

use std::time::Duration;

use eni_gateway::ledger::redis::Servers;
use eni_gateway::ledger::{Effects, LedgerStore};
use tokio::time::Instant;

use super::{connected, instance, put, record, settings_of, start, two, until};
use crate::ledger::contract::{contract_at_once, proposal};
use crate::support::redis::Server;
use crate::support::redis::sentinels::Watched;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let watched = Watched::start().await;
    let ledgers = |prefix: &str| {
        let mut settings = settings_of(watched.places());
        settings.prefix = prefix.to_owned();
        two(settings)
    };
    contract_at_once!(ledgers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed_and_closes_every_partition_for_a_hold_down() {
    let mut watched = Watched::start().await;
    let (_guard, ledger) = connected(settings_of(watched.places())).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
    let named = watched.fail_over().await;
    let began = Instant::now();
    until("followed", async || ledger.read(&instance(1), None).await.is_ok()).await;
    println!("named after {named:?}, followed {:?} later", began.elapsed());
    until("closed", async || ledger.health().recovering == 64).await;
    until("open", async || ledger.health().recovering == 0).await;
    put(&ledger, &instance(1), record(2), Effects::default()).await;
    // Notices come from the new primary.
    let mut hint = ledger.changes().subscribe(&instance(1));
    until("heard", async || {
        let effects = Effects { notify: true, ..Effects::default() };
        put(&ledger, &instance(1), record(3), effects).await;
        tokio::time::timeout(Duration::from_secs(2), hint.changed()).await.is_ok()
    })
    .await;
}

/// The old primary answers as before, and nothing breaks: only the sentinels know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_sentinels_no_longer_name_is_left() {
    let watched = Watched::start().await;
    let (_guard, ledger) = connected(settings_of(watched.places())).await;
    let before = watched.which().await;
    // It pauses, counts as dead, and returns as a primary. It learns of its successor only after a
    // while.
    watched.servers[before].freeze();
    watched.until_another_than(before).await;
    watched.servers[before].thaw();
    let newest = watched.primary().await;
    until("written to the new primary", async || {
        if let Ok(from) = ledger.read(&instance(1), None).await {
            // What the old one takes until it is demoted is lost with it.
            let _ =
                ledger.commit(&proposal(&instance(1), &from, record(1), Effects::default())).await;
        }
        !newest.ask::<Vec<String>>(&["KEYS", "*record:i-1"]).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_sentinel_without_a_primary_is_reported() {
    let lone = Server::start().await;
    let unused = crate::support::redis::free_port();
    let settings = settings_of(Servers::Sentinels {
        sentinels: vec![
            lone.place(),
            eni_gateway::ledger::redis::ServerAddr::Tcp("127.0.0.1".to_owned(), unused),
        ],
        master: "ledger".to_owned(),
    });
    let (_guard, ledger) = start(settings);
    until("said", async || {
        let why = ledger.read(&instance(1), None).await.unwrap_err().outage().why.clone();
        why.contains("no sentinel names the primary") && why.contains(&unused.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_may_have_a_password_of_their_own() {
    let watched = Watched::start().await;
    for sentinel in &watched.sentinels {
        sentinel.ask::<()>(&["ACL", "SETUSER", "default", "resetpass", ">hush"]).await;
    }
    let mut settings = settings_of(watched.places());
    settings.sentinel_password = Some("hush".to_owned().into());
    let (_guard, ledger) = connected(settings).await;
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}
