//! The contract with a real Valkey.

use eni_gateway::ledger::redis::{Servers, inspect};
use eni_gateway::ledger::{Effects, LedgerStore};

use super::{connected, instance, put, record, settings, settings_of, two};
use crate::ledger::contract::contract_at_once;
use crate::support::redis::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let valkey = Server::valkey().await;
    let ledgers = |prefix: &str| {
        let mut settings = settings_of(Servers::One(valkey.place()));
        settings.prefix = prefix.to_owned();
        two(settings)
    };
    contract_at_once!(ledgers);
}

#[tokio::test]
async fn it_is_fit_and_shown_by_its_own_name() {
    let valkey = Server::valkey().await;
    let found = inspect(settings(&valkey)).await.unwrap();
    assert!(found.server.starts_with("valkey 9"), "{found:?}");
    let (_guard, ledger) = connected(settings(&valkey)).await;
    assert_eq!(ledger.health().misconfigured, [""; 0]);
    put(&ledger, &instance(1), record(1), Effects::default()).await;
}
