//! The contract in memory.

use std::time::Duration;

use eni_gateway::ledger::{Effects, LedgerStore, Memory, REQUEST_LIFE};
use eni_gateway::rate_limit::Rates;

use super::contract::{contract, entry, instance, put, record, request};

fn rates() -> Rates {
    Rates::new(50.0, 100.0).unwrap()
}

async fn ledgers() -> ((), Memory, Memory) {
    let memory = Memory::new(rates());
    ((), memory.clone(), memory)
}

contract!(super::ledgers());

/// With the clock stopped, a day takes no time.
#[tokio::test(start_paused = true)]
async fn a_request_id_is_remembered_for_a_day() {
    let memory = Memory::new(rates());
    let key = request("a", 1);
    let effects = Effects { requests: vec![(key.clone(), Some(entry(1)))], ..Effects::default() };
    put(&memory, &instance(1), record(1), effects).await;
    tokio::time::advance(REQUEST_LIFE - Duration::from_secs(1)).await;
    assert_eq!(memory.read(&instance(1), Some(&key)).await.unwrap().request, Some(entry(1)));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(memory.read(&instance(1), Some(&key)).await.unwrap().request, None);
    assert_eq!(memory.read(&instance(1), None).await.unwrap().record, record(1), "without end");
}

#[tokio::test(start_paused = true)]
async fn its_clock_is_tokios() {
    let memory = Memory::new(rates());
    let before = memory.now(&instance(1));
    tokio::time::advance(Duration::from_secs(3_600)).await;
    assert_eq!(memory.now(&instance(1)).since(before), Duration::from_secs(3_600));
}
