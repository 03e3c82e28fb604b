//! Whether a server may be used as a ledger at all, by what INFO says of it. Managed services that hide CONFIG still show INFO.

use std::collections::HashMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fitness {
    /// Why it must not be used.
    pub(super) unfit: Vec<String>,
    /// What it does not guarantee.
    pub(super) warnings: Vec<String>,
}

impl Fitness {
    /// Of a server that does not do as it must.
    pub(super) fn refused(failure: &str) -> Self {
        Self {
            unfit: vec![format!("the server refuses what a ledger needs: {failure}")],
            ..Self::default()
        }
    }
}

/// Asks the server.
pub(super) async fn examine(connection: &mut MultiplexedConnection) -> RedisResult<Fitness> {
    let info: String = cmd("INFO").query_async(connection).await?;
    // Refused by many managed services, and then not known.
    let limits: HashMap<String, String> = cmd("CONFIG")
        .arg("GET")
        .arg("min-replicas-*")
        .query_async(connection)
        .await
        .unwrap_or_default();
    Ok(judge(&info, &limits))
}

fn judge(info: &str, limits: &HashMap<String, String>) -> Fitness {
    let facts: HashMap<&str, &str> = info
        .lines()
        .filter_map(|line| line.trim_end().split_once(':'))
        .collect();
    let fact = |name: &str| facts.get(name).copied().unwrap_or_default();
    let mut found = Fitness::default();

    let version = fact("redis_version");
    let is_valkey = fact("server_name") == "valkey" || !fact("valkey_version").is_empty();
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok())
        .unwrap_or(0);
    if major < 7 && !is_valkey {
        found.unfit.push(format!(
            "redis 7 or newer, or valkey, is needed, but this is redis '{version}'"
        ));
    }
    let policy = fact("maxmemory_policy");
    if policy != "noeviction" {
        found.unfit.push(format!(
            "maxmemory-policy must be noeviction, but is '{policy}': the server would drop reservations when memory is short"
        ));
    }

    let replicas: u32 = fact("connected_slaves").parse().unwrap_or(0);
    if replicas > 0 {
        let limit = |name: &str| limits.get(name).and_then(|value| value.parse::<u32>().ok());
        // INFO has this line only while the check is on.
        let is_on = facts.contains_key("min_slaves_good_slaves");
        let (write, lag) = (limit("min-replicas-to-write"), limit("min-replicas-max-lag"));
        if !is_on || write.is_some_and(|write| write < replicas) || lag.is_some_and(|lag| lag > 10) {
            found.warnings.push(format!(
                "not safe under split brain: set min-replicas-to-write to {replicas} (the number of replicas) and \
                 min-replicas-max-lag to 10 or less"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n\
                        connected_slaves:0\r\n";

    fn found(from: &str, to: &str) -> Fitness {
        assert!(GOOD.contains(from));
        judge(&GOOD.replace(from, to), &HashMap::new())
    }

    #[test]
    fn only_a_server_that_keeps_everything_is_fit() {
        assert_eq!(judge(GOOD, &HashMap::new()), Fitness::default());
        assert!(found("7.0.15", "6.2.14").unfit[0].contains("6.2.14"));
        assert_eq!(
            found("7.0.15", "7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2")
                .unfit
                .len(),
            0
        );
        assert!(found("noeviction", "volatile-lru").unfit[0].contains("volatile-lru"));
        assert_eq!(
            judge("", &HashMap::new()).unfit.len(),
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
            assert_eq!(judge(&info, &limits).warnings.len(), warnings, "{write} {lag}");
        }
    }
}
