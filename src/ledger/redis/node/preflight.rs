//! The preflight check: whether a server may be used as a ledger at all, by what INFO says of it.
//! Managed services that hide CONFIG still show INFO.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ServerErrorKind, cmd};
use tracing::warn;

use crate::ledger::redis::{info::field, shared::Shared};

use super::assignment::Assignment;

/// Inspects one server, and keeps the latest result.
#[derive(Debug)]
pub(in super::super) struct Preflight {
    shared: Arc<Shared>,
    assignment: Assignment,
    found: Mutex<PreflightResult>,
}

/// The result of an inspection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct PreflightResult {
    /// Why the server must not be used.
    pub(in super::super) errors: Vec<String>,
    /// Guarantees that it does not give.
    pub(in super::super) warnings: Vec<String>,
    /// Percent of `maxmemory` in use. `None` without a maximum.
    pub(in super::super) memory_used: Option<u64>,
}

impl PreflightResult {
    fn error(why: String) -> Self {
        Self { errors: vec![why], ..Self::default() }
    }

    /// The result for a server that refuses a command.
    pub(super) fn refused(failure: &str) -> Self {
        Self::error(format!(
            "the server refuses what a ledger needs (an acl user needs scripts, its keys and channels, scan, time and info): \
             {failure}"
        ))
    }

    /// The result for a node of a cluster that was configured as a single server.
    pub(super) fn misplaced() -> Self {
        let why = "the server is a node of a cluster, and holds only a part of the ledger: use redis-cluster://";
        Self::error(why.to_owned())
    }
}

impl Preflight {
    pub(super) fn new((shared, assignment): (Arc<Shared>, Assignment)) -> Self {
        Self { shared, assignment, found: Mutex::default() }
    }

    /// The latest result.
    pub(super) fn result(&self) -> MutexGuard<'_, PreflightResult> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the latest result, and logs new problems.
    pub(super) fn record(&self, found: PreflightResult) {
        let mut known = self.result();
        if (&known.errors, &known.warnings) != (&found.errors, &found.warnings) {
            for what in &found.errors {
                warn!(what, "the ledger is misconfigured");
            }
            for what in &found.warnings {
                warn!(what, "redis lacks a recommended setting");
            }
        }
        *known = found;
    }

    /// Inspects the server.
    pub(in super::super) async fn inspect(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<PreflightResult> {
        let info: String = cmd("INFO").query_async(&mut connection.clone()).await?;
        // Many managed services refuse this. The setting is then unknown.
        let limits: HashMap<String, String> = cmd("CONFIG")
            .arg("GET")
            .arg("min-replicas-*")
            .query_async(&mut connection.clone())
            .await
            .unwrap_or_default();
        let mut found = evaluate(&info, &limits, self.shared.settings.sync_replicas);
        found.errors.extend(self.missing_rights(connection).await);
        Ok(found)
    }

    /// Fails if this user may not run every command of the scripts. Otherwise the first script
    /// would fail, without the command in its error.
    pub(super) async fn ensure_rights(
        &self,
        connection: &MultiplexedConnection,
    ) -> RedisResult<()> {
        match self.missing_rights(connection).await {
            Some(why) => Err((ErrorKind::Server(ServerErrorKind::NoPerm), "no right", why).into()),
            None => Ok(()),
        }
    }

    /// The commands of the scripts that this user may not run. Other failures are detected
    /// elsewhere.
    async fn missing_rights(&self, connection: &MultiplexedConnection) -> Option<String> {
        let partition = self.assignment.first_partition()?;
        let scratches = self.shared.keys.scratches(partition);
        let rights = self.shared.scripts.rights.key(&scratches[..]);
        let missing: Vec<String> =
            rights.invoke_async(&mut connection.clone()).await.unwrap_or_default();
        (!missing.is_empty()).then(|| {
            let missing = missing.join(", ");
            format!("the acl user may not run {missing}, which the ledger's scripts need")
        })
    }
}

fn evaluate(info: &str, limits: &HashMap<String, String>, sync_replicas: usize) -> PreflightResult {
    let field = |name: &str| field(info, name).unwrap_or_default();
    let mut found = PreflightResult::default();

    let version = field("redis_version");
    let is_valkey = field("server_name") == "valkey" || !field("valkey_version").is_empty();
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0);
    if major < 7 && !is_valkey {
        found
            .errors
            .push(format!("redis 7 or newer, or valkey, is needed, but this is redis '{version}'"));
    }
    let policy = field("maxmemory_policy");
    if policy != "noeviction" {
        found.errors.push(format!(
            "maxmemory-policy must be noeviction, but is '{policy}': the server would drop reservations when memory is short"
        ));
    }

    let bytes = |name: &str| field(name).parse::<u64>().ok();
    found.memory_used = bytes("used_memory")
        .zip(bytes("maxmemory").filter(|maximum| *maximum > 0))
        .map(|(used, maximum)| used.saturating_mul(100) / maximum);
    let replicas: usize = field("connected_slaves").parse().unwrap_or(0);
    if sync_replicas > 0 {
        // One that is still being filled has nothing to confirm.
        let online = |line: &&str| line.starts_with("slave") && line.contains("state=online");
        let online = info.lines().filter(online).count();
        found.warnings.extend(synced(online, sync_replicas));
    } else if replicas > 0 {
        let limit = |name: &str| limits.get(name).and_then(|value| value.parse::<usize>().ok());
        // INFO has this line only while the check is on.
        let is_on = !field("min_slaves_good_slaves").is_empty();
        let (write, lag) = (limit("min-replicas-to-write"), limit("min-replicas-max-lag"));
        if !is_on || write.is_some_and(|write| write < replicas) || lag.is_some_and(|lag| lag > 10)
        {
            found.warnings.push(format!(
                "not safe under split brain: set ledger.sync_replicas to {replicas} (the number of replicas), or in redis \
                 min-replicas-to-write to {replicas} and min-replicas-max-lag to 10 or less"
            ));
        }
    }
    found
}

/// The problem with waiting for `wanted` of this number of replicas.
fn synced(replicas: usize, wanted: usize) -> Option<String> {
    match replicas.cmp(&wanted) {
        Ordering::Equal => None,
        Ordering::Less => Some(format!(
            "ledger.sync_replicas is {wanted}, but only {replicas} replicas are connected: nothing is sent until they are"
        )),
        Ordering::Greater => Some(format!(
            "not safe under split brain: ledger.sync_replicas is {wanted}, but there are {replicas} replicas, and one that is not \
             waited for may become the primary; set it to {replicas}"
        )),
    }
}
