//! Finding the primary that sentinels name. The majority of those that answer is believed: one that was cut off for a while
//! names a primary of the past. What it names may be a replica by now all the same; then it refuses, and they are asked again.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use redis::{ErrorKind, RedisError, RedisResult, cmd};

use super::super::describe;
use super::super::dial::Dialer;
use super::super::settings::ServerAddr;

/// The sentinels of one primary.
#[derive(Debug)]
pub(in super::super) struct Sentinels {
    sentinels: Vec<ServerAddr>,
    master: String,
}

impl Sentinels {
    pub(super) fn new(sentinels: Vec<ServerAddr>, master: String) -> Self {
        Self { sentinels, master }
    }

    /// Where the primary is.
    pub(super) async fn primary(&self, dialer: &Dialer) -> RedisResult<ServerAddr> {
        let mut votes: BTreeMap<ServerAddr, usize> = BTreeMap::new();
        let mut failures = Vec::new();
        for (sentinel, answer) in self.sentinels.iter().zip(self.ask(dialer).await) {
            match answer {
                Ok(place) => *votes.entry(place).or_default() += 1,
                Err(error) => failures.push(format!("{sentinel}: {}", describe(&error))),
            }
        }
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes);
        most.map(|(place, _)| place).ok_or_else(|| {
            let why = format!("of {}: {}", self.master, failures.join("; "));
            (ErrorKind::Io, "no sentinel names the primary", why).into()
        })
    }

    /// Whether more than half of all sentinels name one primary that is not here.
    pub(super) async fn agree_on_another(&self, here: &ServerAddr, dialer: &Dialer) -> bool {
        let mut votes: BTreeMap<ServerAddr, usize> = BTreeMap::new();
        for place in self.ask(dialer).await.into_iter().flatten() {
            *votes.entry(place).or_default() += 1;
        }
        votes
            .into_iter()
            .any(|(place, votes)| place != *here && votes * 2 > self.sentinels.len())
    }

    async fn ask(&self, dialer: &Dialer) -> Vec<RedisResult<ServerAddr>> {
        join_all(self.sentinels.iter().map(|sentinel| self.ask_one(sentinel, dialer))).await
    }

    async fn ask_one(&self, sentinel: &ServerAddr, dialer: &Dialer) -> RedisResult<ServerAddr> {
        let mut connection = dialer.connect_sentinel(sentinel).await?;
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(&self.master);
        let named: Option<(String, u16)> = question.query_async(&mut connection).await?;
        let unknown = || RedisError::from((ErrorKind::Io, "it knows no primary of this name"));
        named
            .map(|(host, port)| ServerAddr::Tcp(host, port))
            .ok_or_else(unknown)
    }
}
