//! Inspects a ledger without changing it. `check` reports the state of a server and of its epochs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, cmd};
use tokio::time::Instant;

use crate::ledger::freeze::{Freeze, FrozenPartitions};
use crate::model::Timestamp;
use crate::tls_fault::TlsFault;

use super::epoch::Epoch;
use super::errors::{OTHER_SERVER, TLS, describe, is_answer};
use super::info::field;
use super::locator::NO_PRIMARY;
use super::scripts::StoredRecord;
use super::settings::{InvalidSettings, RedisSettings};
use super::shared::Shared;
use super::topology;

/// Number of round trips that are measured.
const TRIPS: usize = 5;

/// The result of an inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its name and version, such as `redis 7.0.15`.
    pub server: String,
    /// The shortest of a few round trips.
    pub round_trip: Duration,
    /// The server's clock, estimated at the end of the inspection.
    pub now: Timestamp,
    /// Why it must not be used.
    pub misconfigured: Vec<String>,
    /// Guarantees that it does not give.
    pub warnings: Vec<Warning>,
    /// Why it accepts no writes at present, if it does not.
    pub refusing: Vec<String>,
    /// The state that a replica that connects now would find.
    pub standing: LedgerState,
    /// The partitions in which no attach begins, by an operator's order.
    pub frozen: FrozenPartitions,
}

/// A guarantee that a server does not give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// The problem.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// The state of the epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerState {
    /// Grants would be given.
    Open,
    /// Nothing is stored. A replica treats it as a ledger that lost everything, unless
    /// `ledger.fresh` is set.
    Empty,
    /// This number of partitions lost their epoch, or have one of another server. A hold-down would
    /// begin.
    Lost(usize),
    /// This number of partitions are in a hold-down that ends in this time.
    Recovering(usize, Duration),
    /// Another version created it. This replica would not be ready.
    OtherVersion(String),
}

/// Why an inspection failed.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// No connection could ever be made with these settings.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
    /// No server answers.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The server answers, but refuses this user or this database.
    #[error("it refuses: {why}")]
    Refused {
        /// Its own words.
        why: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A server is there, but is not the one that the settings describe.
    #[error("it cannot be used: {why}; {remedy}")]
    Unusable {
        /// The difference.
        why: String,
        /// What to do about it.
        remedy: String,
    },
}

impl From<RedisError> for InspectError {
    fn from(error: RedisError) -> Self {
        if is_answer(&error) {
            Self::Refused { why: describe(&error), remedy: remedy(&error) }
        } else if let Some((why, remedy)) = explain(&error) {
            Self::Unusable { why, remedy }
        } else {
            Self::Unreachable(describe(&error))
        }
    }
}

/// Checks certificates and prefix, without a connection.
///
/// # Errors
/// No connection could ever be made with these settings.
pub fn validate(settings: RedisSettings) -> Result<(), InvalidSettings> {
    Shared::new(settings).map(drop)
}

/// Inspects the ledger of these settings. Writes nothing but the scripts into the server's cache,
/// and a value that shows whether a write is accepted, and expires at once.
///
/// # Errors
/// It cannot be reached, or refuses.
pub async fn inspect(settings: RedisSettings) -> Result<Inspection, InspectError> {
    let shared = Arc::new(Shared::new(settings)?);
    let nodes = topology::connect_all(&shared).await?;
    let mut names = BTreeSet::new();
    let (mut misconfigured, mut warnings) = (BTreeSet::new(), BTreeSet::new());
    let mut refusing = BTreeSet::new();
    let (mut round_trip, mut now) = (Duration::MAX, Timestamp::default());
    let (mut found, mut empty) = (Vec::new(), true);
    for (node, connection) in &nodes {
        for _ in 0..TRIPS {
            let sent = Instant::now();
            let () = cmd("PING").query_async(&mut connection.clone()).await?;
            round_trip = round_trip.min(sent.elapsed());
        }
        let info: String = cmd("INFO").query_async(&mut connection.clone()).await?;
        names.insert(server(&info));
        let preflight = node.preflight.inspect(connection).await?;
        misconfigured.extend(preflight.errors);
        warnings.extend(preflight.warnings.into_iter().map(|message| Warning {
            message,
            remedy: "change redis' configuration or ledger.sync_replicas, or accept the risk",
        }));
        warnings.extend(persistence(&info));
        found.extend(node.epochs.read_all(connection).await?);
        empty &= node.epochs.find_stored(connection).await?.is_none();
        refusing.extend(node.refuses_write(connection).await?);
        now = node.epochs.now();
    }
    let epochs = found.iter().filter_map(|found| Epoch::parse(&found.epoch));
    let differences = epochs
        .filter_map(|epoch| epoch.difference(&shared.settings.shared_settings))
        .map(|message| Warning { message, remedy: "give all replicas the same settings" });
    warnings.extend(differences);
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let freezes: Vec<_> = found.iter().map(|found| Freeze::stored(&found.freeze)).collect();
    let standing = if empty && found.iter().all(|found| found.epoch.is_empty()) {
        LedgerState::Empty
    } else {
        evaluate(&found)
    };
    Ok(Inspection {
        server: match nodes.len() {
            1 => names,
            several => format!("{several} primaries, {names}"),
        },
        round_trip,
        now,
        misconfigured: misconfigured.into_iter().collect(),
        warnings: warnings.into_iter().collect(),
        refusing: refusing.into_iter().collect(),
        standing,
        frozen: FrozenPartitions::among(freezes.iter().map(Option::as_ref)),
    })
}

fn evaluate(found: &[StoredRecord]) -> LedgerState {
    let (mut lost, mut recovering, mut rest) = (0, 0, Duration::ZERO);
    for found in found {
        let Some(epoch) = Epoch::parse(&found.epoch) else {
            lost += 1;
            continue;
        };
        if let Some(why) = epoch.version_conflict() {
            return LedgerState::OtherVersion(why);
        }
        if epoch.replication_id() != found.replication_id {
            lost += 1;
        } else if epoch.hold_down_until > found.now {
            recovering += 1;
            rest = rest.max(epoch.hold_down_until.since(found.now));
        }
    }
    match (lost, recovering) {
        (0, 0) => LedgerState::Open,
        (0, _) => LedgerState::Recovering(recovering, rest),
        _ => LedgerState::Lost(lost),
    }
}

fn server(info: &str) -> String {
    match (field(info, "valkey_version"), field(info, "redis_version")) {
        (Some(version), _) => format!("valkey {version}"),
        (None, Some(version)) => format!("redis {version}"),
        (None, None) => "a server that does not report its version".to_owned(),
    }
}

/// Safety does not depend on it, because a restart is detected. The stored attachments do.
fn persistence(info: &str) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if field(info, "aof_enabled") == Some("0") {
        let message = "appendonly is off: a restart of redis forgets attachments and request ids, \
            at least the latest ones";
        let remedy = "set appendonly yes in redis' configuration, or accept the loss";
        warnings.push(Warning { message: message.to_owned(), remedy });
    }
    for name in ["aof_last_write_status", "rdb_last_bgsave_status"] {
        if let Some(status) = field(info, name).filter(|status| *status != "ok") {
            let message = format!("the server cannot write to its disk ({name} is {status})");
            let remedy = "free space on redis' disk, and check the rights of its folder";
            warnings.push(Warning { message, remedy });
        }
    }
    warnings
}

/// Why a server that is there cannot be used, and the remedy.
fn explain(error: &RedisError) -> Option<(String, String)> {
    if let Some(fault) = TlsFault::find(error) {
        return Some((fault.to_string(), fault.remedy(&TLS)));
    }
    let why = describe(error);
    if why.contains(NO_PRIMARY) {
        let remedy = "correct `master` in ledger.url: the name that the sentinels give the primary";
        return Some((why, remedy.to_owned()));
    }
    if why.contains("NOAUTH") || why.contains("authentication failed") {
        let remedy = "set ledger.sentinel_password_file to the password of the sentinels";
        return Some((why, remedy.to_owned()));
    }
    let (why, remedy) = why.split_once("; ").filter(|_| why.starts_with(OTHER_SERVER))?;
    Some((why.to_owned(), remedy.to_owned()))
}

/// What to do about a refusal.
fn remedy(error: &RedisError) -> &'static str {
    let text = error.to_string();
    let says = |words: &str| text.contains(words);
    if says("DB index") || says("switch database") {
        "correct the number of the database at the end of ledger.url: the server has only its \
         setting `databases` of them, and a cluster only 0"
    } else if says("NOPERM") || says("NoPerm") || says("no right") {
        "give the acl user the rights that docs/redis.md lists"
    } else if error.kind() == ErrorKind::AuthenticationFailed || says("NOAUTH") {
        "correct the user in ledger.url, and its password (ledger.password_file)"
    } else if says("max number of clients") {
        "raise redis' maxclients, or close connections of other programs"
    } else if says("protected mode") {
        "give redis a password (requirepass or an acl user), and the same to the gateway"
    } else if says("unknown command") {
        "correct ledger.url: a sentinel needs redis-sentinel://, and other servers are no ledger"
    } else {
        "correct redis' configuration, or ledger.url"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "0123abcd";

    fn found(epoch: &str) -> StoredRecord {
        let (now, replication_id) = (Timestamp::from_micros(10_000_000), SERVER.to_owned());
        StoredRecord { now, epoch: epoch.to_owned(), replication_id, ..StoredRecord::default() }
    }

    fn standing(epochs: &[&str]) -> LedgerState {
        evaluate(&epochs.iter().map(|epoch| found(epoch)).collect::<Vec<_>>())
    }

    #[test]
    fn the_worst_partition_speaks_for_all() {
        let ours = RedisSettings::new(super::super::settings::Servers::Cluster(Vec::new()))
            .shared_settings;
        let epoch =
            |server: &str, hold_down_until: u64| format!("{server} {hold_down_until} {ours}");
        let (open, past, held) =
            (epoch(SERVER, 0), epoch(SERVER, 9_000_000), epoch(SERVER, 12_000_000));
        let other_server = epoch("ffffffff", 0);
        assert_eq!(standing(&[&open, &past]), LedgerState::Open);
        assert_eq!(standing(&[&open, &held]), LedgerState::Recovering(1, Duration::from_secs(2)));
        assert_eq!(standing(&[&open, &held, "", &other_server]), LedgerState::Lost(2));
        let other_version = standing(&["", "0123abcd 0 format=2"]);
        assert!(
            matches!(&other_version, LedgerState::OtherVersion(why) if why.contains("format=2")),
            "{other_version:?}"
        );
    }

    #[test]
    fn the_version_and_the_disk_are_read_from_info() {
        let info = "redis_version:7.2.4\r\naof_enabled:0\r\nrdb_last_bgsave_status:err\r\n";
        assert_eq!((server(info).as_str(), persistence(info).len()), ("redis 7.2.4", 2));
        let info = "redis_version:7.2.4\r\nvalkey_version:9.1.2\r\naof_enabled:1\r\naof_last_write_status:ok\r\n";
        assert_eq!((server(info).as_str(), persistence(info).len()), ("valkey 9.1.2", 0));
    }
}
