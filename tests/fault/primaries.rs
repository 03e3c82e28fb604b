//! The Redis servers that report to be primaries. An unplanned failover counts as a fault as well:
//! on a busy machine a primary may pause for too long.

use std::sync::Arc;
use std::time::Duration;

use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use crate::environment::Environment;
use crate::faults::{ELECTION, NEW_PRIMARY_SERVES};
use crate::locks;

/// How often each server is asked, and how long its answer may take.
const PAUSE: Duration = Duration::from_millis(250);
/// How long no caller of an instance was served before its lock is recorded.
const UNSERVED: Duration = Duration::from_secs(5);
/// How often the lock is then recorded.
const RECORDED: Duration = Duration::from_secs(1);

/// One server.
struct Asked {
    url: String,
    connection: Option<MultiplexedConnection>,
    was_replica: bool,
}

impl Asked {
    /// Whether it is a primary now, and was a replica before.
    async fn was_promoted(&mut self) -> Option<bool> {
        if self.connection.is_none() {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(PAUSE))
                .set_response_timeout(Some(PAUSE));
            let client = redis::Client::open(self.url.as_str()).ok()?;
            self.connection =
                client.get_multiplexed_async_connection_with_config(&config).await.ok();
        }
        let info = redis::cmd("INFO")
            .arg("replication")
            .query_async::<String>(self.connection.as_mut()?)
            .await;
        if info.as_ref().is_err_and(|error| !error.is_timeout()) {
            self.connection = None;
        }
        let is_replica = info.ok()?.contains("role:slave");
        Some(std::mem::replace(&mut self.was_replica, is_replica) && !is_replica)
    }
}

/// Has each promotion count as a fault, and records what holds callers up, until the run ends.
pub(crate) async fn watch(environment: Arc<Environment>, urls: Vec<String>) {
    let asked = |url| Asked { url, connection: None, was_replica: false };
    let mut servers: Vec<Asked> = urls.into_iter().map(asked).collect();
    let (keys, mut recorded) = (locks::keys(), Instant::now());
    while !environment.has_ended() {
        let unserved = if recorded.elapsed() >= RECORDED {
            environment.waits.unserved_for(UNSERVED)
        } else {
            Vec::new()
        };
        if !unserved.is_empty() {
            recorded = Instant::now();
        }
        for server in &mut servers {
            if server.was_promoted().await == Some(true) {
                let at = environment.elapsed().as_secs_f64();
                eprintln!("{at:>7.1} s  {}: {} was promoted", environment.form, server.url);
                environment.record_other_clock();
                let now = Instant::now();
                let what = format!("{} was promoted", server.url);
                let outage = environment.waits.outage(now - ELECTION, what);
                environment.waits.outage_ends(outage, now + NEW_PRIMARY_SERVES);
            }
            let primary = server.connection.as_mut().filter(|_| !server.was_replica);
            let Some(connection) = primary else { continue };
            for instance in &unserved {
                if let Some(what) = locks::describe(connection, &keys, instance).await {
                    environment.waits.record(instance, format!("{}: {what}", server.url));
                }
            }
        }
        sleep(PAUSE).await;
    }
}
