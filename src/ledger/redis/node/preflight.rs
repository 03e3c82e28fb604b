//! Whether a server may be used as a ledger at all, by what INFO says of it. Managed services that hide CONFIG still show INFO.

use std::cmp::Ordering;
use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ServerErrorKind, cmd};

use super::Node;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Preflight {
    /// Why it must not be used.
    pub(in super::super) errors: Vec<String>,
    /// What it does not guarantee.
    pub(in super::super) warnings: Vec<String>,
}

impl Preflight {
    /// Of a server that does not do as it must.
    pub(super) fn refused(failure: &str) -> Self {
        let why = format!(
            "the server refuses what a ledger needs (an acl user needs scripts, its keys and channels, scan, time and info): \
             {failure}"
        );
        Self {
            errors: vec![why],
            ..Self::default()
        }
    }

    /// Of a node of a cluster that was taken for a server of its own.
    pub(super) fn misplaced() -> Self {
        let why = "the server is a node of a cluster, and holds only a part of the ledger: use redis-cluster://";
        Self {
            errors: vec![why.to_owned()],
            ..Self::default()
        }
    }
}

/// Asks the server.
pub(in super::super) async fn inspect(node: &Node, connection: &mut MultiplexedConnection) -> RedisResult<Preflight> {
    let info: String = cmd("INFO").query_async(connection).await?;
    // Refused by many managed services, and then not known.
    let limits: HashMap<String, String> = cmd("CONFIG")
        .arg("GET")
        .arg("min-replicas-*")
        .query_async(connection)
        .await
        .unwrap_or_default();
    let mut found = evaluate(&info, &limits, node.shared.settings.sync_replicas);
    found.errors.extend(missing_rights(node, connection).await);
    Ok(found)
}

/// Whether this user may run all that the scripts run: otherwise the first one would fail, and not say which command.
pub(super) async fn has_rights(node: &Node, connection: &mut MultiplexedConnection) -> RedisResult<()> {
    match missing_rights(node, connection).await {
        Some(why) => Err((ErrorKind::Server(ServerErrorKind::NoPerm), "no right", why).into()),
        None => Ok(()),
    }
}

/// What of the scripts this user may not run. What else fails is no matter of rights, and found out elsewhere.
async fn missing_rights(node: &Node, connection: &mut MultiplexedConnection) -> Option<String> {
    let partition = node.partitions().first().copied()?;
    let [string, set, hash] = node.shared.keys.scratches(partition);
    let mut rights = node.shared.scripts.rights.key(string);
    rights.key(set).key(hash);
    let missing: Vec<String> = rights.invoke_async(connection).await.unwrap_or_default();
    (!missing.is_empty()).then(|| {
        format!(
            "the acl user may not run {}, which the ledger's scripts need",
            missing.join(", ")
        )
    })
}

/// One field of INFO.
pub(in super::super) fn fact<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}

fn evaluate(info: &str, limits: &HashMap<String, String>, sync_replicas: usize) -> Preflight {
    let fact = |name: &str| fact(info, name).unwrap_or_default();
    let mut found = Preflight::default();

    let version = fact("redis_version");
    let is_valkey = fact("server_name") == "valkey" || !fact("valkey_version").is_empty();
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .unwrap_or(0);
    if major < 7 && !is_valkey {
        found.errors.push(format!(
            "redis 7 or newer, or valkey, is needed, but this is redis '{version}'"
        ));
    }
    let policy = fact("maxmemory_policy");
    if policy != "noeviction" {
        found.errors.push(format!(
            "maxmemory-policy must be noeviction, but is '{policy}': the server would drop reservations when memory is short"
        ));
    }

    let replicas: usize = fact("connected_slaves").parse().unwrap_or(0);
    if sync_replicas > 0 {
        // One that is still being filled has nothing to confirm.
        let online = |line: &&str| line.starts_with("slave") && line.contains("state=online");
        let online = info.lines().filter(online).count();
        found.warnings.extend(synced(online, sync_replicas));
    } else if replicas > 0 {
        let limit = |name: &str| limits.get(name).and_then(|value| value.parse::<usize>().ok());
        // INFO has this line only while the check is on.
        let is_on = !fact("min_slaves_good_slaves").is_empty();
        let (write, lag) = (limit("min-replicas-to-write"), limit("min-replicas-max-lag"));
        if !is_on || write.is_some_and(|write| write < replicas) || lag.is_some_and(|lag| lag > 10) {
            found.warnings.push(format!(
                "not safe under split brain: set ledger.sync_replicas to {replicas} (the number of replicas), or in redis \
                 min-replicas-to-write to {replicas} and min-replicas-max-lag to 10 or less"
            ));
        }
    }
    found
}

/// What is wrong with waiting for `wanted` of this many replicas.
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n\
                        connected_slaves:0\r\n";

    fn found(from: &str, to: &str) -> Preflight {
        assert!(GOOD.contains(from));
        evaluate(&GOOD.replace(from, to), &HashMap::new(), 0)
    }

    #[test]
    fn only_a_server_that_keeps_everything_is_fit() {
        assert_eq!(evaluate(GOOD, &HashMap::new(), 0), Preflight::default());
        assert!(found("7.0.15", "6.2.14").errors[0].contains("6.2.14"));
        assert_eq!(
            found("7.0.15", "7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2")
                .errors
                .len(),
            0
        );
        assert!(found("noeviction", "volatile-lru").errors[0].contains("volatile-lru"));
        assert_eq!(
            evaluate("", &HashMap::new(), 0).errors.len(),
            2,
            "what does not say is not fit"
        );
    }

    #[test]
    fn replicas_that_do_not_hold_writes_back_are_worth_a_warning() {
        assert_eq!(found("slaves:0", "slaves:2").warnings.len(), 1);
        assert_eq!(
            found("slaves:0", "slaves:2\r\nmin_slaves_good_slaves:2").warnings.len(),
            0
        );
        let info = GOOD.replace("slaves:0", "slaves:2\r\nmin_slaves_good_slaves:2");
        for (write, lag, warnings) in [("2", "10", 0), ("1", "10", 1), ("2", "30", 1)] {
            let limits = [("min-replicas-to-write", write), ("min-replicas-max-lag", lag)];
            let limits = limits.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            assert_eq!(evaluate(&info, &limits, 0).warnings.len(), warnings, "{write} {lag}");
        }
    }

    #[test]
    fn replicas_that_are_waited_for_are_all_that_there_are() {
        let warnings = |replicas: usize, wanted: usize| {
            let online = "slave0:ip=10.0.0.1,port=6379,state=online,offset=1,lag=0\r\n".repeat(replicas);
            let filled = "slave9:ip=10.0.0.9,port=6379,state=wait_bgsave,offset=0,lag=0\r\n";
            let info = format!("{GOOD}{online}{filled}");
            evaluate(&info, &HashMap::new(), wanted).warnings
        };
        assert_eq!(warnings(2, 2), [""; 0]);
        assert!(warnings(1, 2)[0].contains("nothing is sent"));
        assert!(warnings(3, 2)[0].contains("set it to 3"));
    }
}
