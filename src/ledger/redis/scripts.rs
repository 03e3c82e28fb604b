//! The scripts, and the parsing of their replies. All are loaded when a connection is made. The
//! driver reloads one that the server forgot. `rights` only tests whether the others may run.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Script};

use crate::model::Timestamp;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) commit: Script,
    pub(super) claim: Script,
    pub(super) take: Script,
    pub(super) rights: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            commit: Script::new(include_str!("commit.lua")),
            claim: Script::new(include_str!("claim.lua")),
            take: Script::new(include_str!("take.lua")),
            rights: Script::new(include_str!("rights.lua")),
        }
    }

    pub(super) async fn load(&self, connection: &MultiplexedConnection) -> RedisResult<()> {
        for script in [&self.commit, &self.claim, &self.take, &self.rights] {
            script.load_async(&mut connection.clone()).await?;
        }
        Ok(())
    }
}

/// A reply of `commit.lua`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ScriptReply {
    Committed {
        now: Timestamp,
        version: u64,
    },
    Found(StoredRecord),
    /// The same, with a list of what was asked for.
    Listed(StoredRecord, Vec<String>),
}

/// The stored state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StoredRecord {
    pub(super) now: Timestamp,
    /// The epoch. Empty if there is none.
    pub(super) epoch: String,
    /// The server's replication id.
    pub(super) replication_id: String,
    /// The partition's freeze. Empty if there is none.
    pub(super) freeze: String,
    /// 0 if there is no record, or none was requested.
    pub(super) version: u64,
    /// Whether the record is the one that the reader named as known, and so left out.
    pub(super) unchanged: bool,
    /// JSON; empty as above.
    pub(super) record: String,
    /// JSON; empty as above.
    pub(super) request: String,
}

impl ScriptReply {
    /// The server's clock when it answered.
    pub(super) fn now(&self) -> Timestamp {
        match self {
            Self::Committed { now, .. } => *now,
            Self::Found(found) | Self::Listed(found, _) => found.now,
        }
    }

    /// The stored record. An error if the script replied otherwise.
    pub(super) fn found(self) -> RedisResult<StoredRecord> {
        match self {
            Self::Found(found) => Ok(found),
            Self::Committed { .. } | Self::Listed(..) => Err(unexpected()),
        }
    }

    /// The state of the partition, and the list. An error if the script replied otherwise.
    pub(super) fn listed(self) -> RedisResult<(StoredRecord, Vec<String>)> {
        match self {
            Self::Listed(found, list) => Ok((found, list)),
            Self::Committed { .. } | Self::Found(_) => Err(unexpected()),
        }
    }

    /// `None` for a reply that the script never gives.
    pub(super) fn read(reply: Vec<String>) -> Option<Self> {
        let mut reply = reply.into_iter();
        let kind = reply.next()?;
        let now = Timestamp::from_micros(reply.next()?.parse().ok()?);
        match kind.as_str() {
            "committed" => Some(Self::Committed { now, version: reply.next()?.parse().ok()? }),
            "listed" => Some(Self::Listed(
                StoredRecord {
                    now,
                    epoch: reply.next()?,
                    replication_id: reply.next()?,
                    freeze: reply.next()?,
                    ..StoredRecord::default()
                },
                reply.collect(),
            )),
            "found" | "unchanged" => Some(Self::Found(StoredRecord {
                now,
                unchanged: kind == "unchanged",
                epoch: reply.next()?,
                replication_id: reply.next()?,
                freeze: reply.next()?,
                version: reply.next().map_or(Some(0), |version| version.parse().ok())?,
                record: reply.next().unwrap_or_default(),
                request: reply.next().unwrap_or_default(),
            })),
            _ => None,
        }
    }
}

/// The error for a reply that the commit script does not give.
pub(super) fn unexpected() -> RedisError {
    let why = "the commit script gave an unexpected answer";
    (ErrorKind::UnexpectedReturnType, why).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reply: &[&str]) -> Option<ScriptReply> {
        ScriptReply::read(reply.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn answers_are_read() {
        let now = Timestamp::from_micros(5);
        assert_eq!(
            read(&["committed", "5", "7"]),
            Some(ScriptReply::Committed { now, version: 7 })
        );
        let found = StoredRecord {
            now,
            epoch: "e".into(),
            replication_id: "r".into(),
            freeze: "f".into(),
            ..StoredRecord::default()
        };
        assert_eq!(read(&["found", "5", "e", "r", "f"]), Some(ScriptReply::Found(found)));
        let Some(ScriptReply::Found(found)) = read(&["found", "5", "", "r", "", "9", "{}", ""])
        else {
            panic!("not found")
        };
        assert_eq!((found.version, found.record.as_str(), found.request.as_str()), (9, "{}", ""));
        let found = StoredRecord {
            now,
            epoch: "e".into(),
            replication_id: "r".into(),
            freeze: "f".into(),
            ..StoredRecord::default()
        };
        assert_eq!(
            read(&["listed", "5", "e", "r", "f", "s", "t"]),
            Some(ScriptReply::Listed(found, vec!["s".into(), "t".into()]))
        );
        let Some(ScriptReply::Found(found)) = read(&["unchanged", "5", "e", "r", "", "9", "", ""])
        else {
            panic!("not found")
        };
        assert!(found.unchanged && found.version == 9);
        for nonsense in [
            &[][..],
            &["found"],
            &["found", "x", "", ""],
            &["else", "5"],
            &["found", "5", "", ""],
            &["found", "5", "", "", "", "x"],
        ] {
            assert_eq!(read(nonsense), None);
        }
    }

    #[test]
    fn every_command_of_the_scripts_is_tried() {
        let commands = |script: &str| -> std::collections::BTreeSet<String> {
            let calls = script.split("redis.call('").flat_map(|part| part.split("\ntry('")).skip(1);
            calls.map(|call| call.split('\'').next().expect("a name").to_owned()).collect()
        };
        let mut tried = commands(include_str!("rights.lua"));
        // Every check of an epoch tries these.
        tried.extend(["INFO", "TIME"].map(str::to_owned));
        for script in
            [include_str!("commit.lua"), include_str!("claim.lua"), include_str!("take.lua")]
        {
            assert!(commands(script).is_subset(&tried), "{:?} and {tried:?}", commands(script));
        }
    }

    /// The scripts repeat two constants.
    #[test]
    fn the_commit_script_says_what_the_contract_says() {
        let script = include_str!("commit.lua");
        assert!(
            script.contains(&format!("<= {} end", crate::ledger::MAX_CLOCK_DIFFERENCE.as_micros()))
        );
        assert!(script.contains(&format!(" or {})", crate::ledger::REQUEST_LIFE.as_millis())));
    }
}
