//! Finds the server that holds the records: at a fixed address, or the primary that sentinels name.
//!
//! The majority of the sentinels that answer decides. A sentinel that was cut off for a while names
//! an outdated primary. The named server may also be a replica by now. It then refuses, and the
//! locator queries the sentinels again.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::future::join_all;
use redis::{ErrorKind, RedisError, RedisResult, cmd};

use super::dial::Dialer;
use super::errors::describe;
use super::settings::{ServerAddr, Servers};

/// The answer of a sentinel that watches other servers.
pub(super) const NO_PRIMARY: &str = "it knows no primary of this name";

/// Finds one server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PrimaryLocator {
    /// The address is fixed.
    At(ServerAddr),
    /// These sentinels report the address.
    Sentinels(Sentinels),
}

/// The sentinels of one primary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sentinels {
    sentinels: Vec<ServerAddr>,
    master: String,
}

impl PrimaryLocator {
    /// The locator of the one server that holds everything. `None` for a cluster.
    pub(super) fn of(servers: &Servers) -> Option<Self> {
        match servers.clone() {
            Servers::One(address) => Some(Self::At(address)),
            Servers::Sentinels { sentinels, master } => {
                Some(Self::Sentinels(Sentinels { sentinels, master }))
            }
            Servers::Cluster(_) => None,
        }
    }

    /// The address, if it is fixed.
    pub(super) fn address(&self) -> Option<ServerAddr> {
        match self {
            Self::At(address) => Some(address.clone()),
            Self::Sentinels(_) => None,
        }
    }

    /// The current address.
    pub(super) async fn find(&self, dialer: &Dialer) -> RedisResult<ServerAddr> {
        match self {
            Self::At(address) => Ok(address.clone()),
            Self::Sentinels(sentinels) => sentinels.primary(dialer).await,
        }
    }

    /// Whether the server is known to have moved.
    pub(super) async fn has_moved_from(&self, address: &ServerAddr, dialer: &Dialer) -> bool {
        match self {
            Self::At(_) => false,
            Self::Sentinels(sentinels) => sentinels.agree_on_another(address, dialer).await,
        }
    }
}

impl fmt::Display for PrimaryLocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(address) => address.fmt(f),
            Self::Sentinels(Sentinels { master, .. }) => master.fmt(f),
        }
    }
}

impl Sentinels {
    async fn primary(&self, dialer: &Dialer) -> RedisResult<ServerAddr> {
        let (votes, failures) = self.ask(dialer).await;
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.map(|(address, _)| address).ok_or_else(|| {
            let why = format!("of {}: {}", self.master, failures.join("; "));
            (ErrorKind::Io, "no sentinel names the primary", why).into()
        })
    }

    /// Whether more than half of all sentinels name one primary that is not here.
    async fn agree_on_another(&self, here: &ServerAddr, dialer: &Dialer) -> bool {
        let (votes, _) = self.ask(dialer).await;
        let mut votes = votes.into_iter();
        votes.any(|(address, votes)| address != *here && votes * 2 > self.sentinels.len())
    }

    /// The number of sentinels per named primary, and why the others name none.
    async fn ask(&self, dialer: &Dialer) -> (BTreeMap<ServerAddr, usize>, Vec<String>) {
        let answers =
            join_all(self.sentinels.iter().map(|sentinel| self.ask_one(sentinel, dialer))).await;
        let (mut votes, mut failures) = (BTreeMap::new(), Vec::new());
        for (sentinel, answer) in self.sentinels.iter().zip(answers) {
            match answer {
                Ok(address) => *votes.entry(address).or_default() += 1,
                Err(error) => failures.push(format!("{sentinel}: {}", describe(&error))),
            }
        }
        (votes, failures)
    }

    async fn ask_one(&self, sentinel: &ServerAddr, dialer: &Dialer) -> RedisResult<ServerAddr> {
        let mut connection = dialer.connect_sentinel(sentinel).await?;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.master);
        let named: Option<(String, u16)> = question.query_async(&mut connection).await?;
        let unknown = || RedisError::from((ErrorKind::Io, NO_PRIMARY));
        named.map(|(host, port)| ServerAddr::Tcp(host, port)).ok_or_else(unknown)
    }
}
