//! What holds callers up, as the Redis servers show it: an instance's lock and queue, the recovery
//! hold-down of its partition, and the breaker for attaches.

use std::collections::BTreeMap;
use std::time::Duration;

use eni_gateway::config::value::Value as _;
use eni_gateway::config::{Config, LedgerUrl};
use eni_gateway::ledger::Record;
use eni_gateway::ledger::keys::{Keys, PartitionId};
use eni_gateway::model::{InstanceId, Timestamp};
use redis::aio::MultiplexedConnection;
use redis::cmd;

/// The keys of all gateways.
pub(crate) fn keys() -> Keys {
    let any = LedgerUrl::parse("memory://").unwrap();
    Keys::new(Config::with_ledger(any).ledger.prefix).unwrap()
}

/// One line about this instance by this primary. `None` if it does not hold the instance, or does
/// not answer.
pub(crate) async fn describe(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    instance: &str,
) -> Option<String> {
    let instance: InstanceId = instance.parse().ok()?;
    let stored: Option<String> = get(connection, &keys.record(&instance)).await?;
    let epoch: Option<String> = get(connection, &keys.epoch(PartitionId::of(&instance))).await?;
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(connection).await.ok()?;
    let now = Timestamp::from_micros(seconds * 1_000_000 + micros);
    let left = |until: Timestamp| until.since(now);

    let hold_down_until = epoch.as_deref().and_then(|epoch| epoch.split(' ').nth(1)?.parse().ok());
    let hold_down = left(Timestamp::from_micros(hold_down_until.unwrap_or_default()));
    let record = stored.as_deref().and_then(|stored| stored.split_once('\n'));
    let record: Record =
        record.map(|(_, json)| serde_json::from_str(json).unwrap()).unwrap_or_default();
    let lock = record.lock.as_ref().map_or_else(
        || "no lock".to_owned(),
        |grant| {
            let kind = if grant.provisional { "provisional lock" } else { "lock" };
            format!("{kind} of {} for {:.1?}", grant.ticket, left(grant.expires_at))
        },
    );
    let epoch = if epoch.as_deref() == Some(&*record.epoch) { "" } else { ", of another epoch" };
    let queue = record.queue.len();
    let in_flight = record.attempts.values().filter(|attempt| attempt.is_reserved()).count();
    Some(format!(
        "{lock}{epoch}, {queue} tickets in its queue, {in_flight} attempts in flight, hold-down \
         for {hold_down:.1?}{}",
        breaker(connection, keys, now).await
    ))
}

async fn get(connection: &mut MultiplexedConnection, key: &str) -> Option<Option<String>> {
    cmd("GET").arg(key).query_async(connection).await.ok()
}

/// The breaker for attaches, if it is open and this primary holds it.
async fn breaker(connection: &mut MultiplexedConnection, keys: &Keys, now: Timestamp) -> String {
    let fields: redis::RedisResult<BTreeMap<String, u64>> =
        cmd("HGETALL").arg(keys.budget()).query_async(connection).await;
    let fields = fields.unwrap_or_default();
    let left = |field: &str| -> Option<Duration> {
        Some(Timestamp::from_micros(*fields.get(field)?).since(now))
    };
    left("attach:blocked").map_or_else(String::new, |blocked| {
        let probe = left("attach:probe").unwrap_or_default();
        format!(", attaches blocked for {blocked:.1?}, their probe for {probe:.1?}")
    })
}
