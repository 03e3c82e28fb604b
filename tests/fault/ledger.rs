//! The forms in which Redis is run, and what goes wrong with each.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rand::prelude::*;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::support::redis::Server;
use crate::support::redis::cluster::Cluster;
use crate::support::redis::sentinels::Watched;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Form {
    /// A single server
    One,
    /// A primary and two replicas under Sentinel
    Sentinel,
    /// The same, and `ledger.sync_replicas` = 2, which is all of them
    Synced,
    /// Three primaries with a replica each
    Cluster,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::One => "one server",
            Self::Sentinel => "sentinel",
            Self::Synced => "sentinel, synced",
            Self::Cluster => "cluster",
        })
    }
}

/// The servers.
pub(crate) enum Servers {
    One(Box<Server>, Option<Clock>),
    Watched(Watched),
    Cluster(Cluster),
}

/// The replicas of a primary under Sentinel.
pub(crate) const REPLICAS: usize = 2;

impl Servers {
    /// A single server has this clock, if there is one that can be set; it is a Valkey then.
    pub(crate) async fn start(form: Form, clock: Option<Clock>) -> Self {
        match form {
            // libfaketime does not work under Redis' own allocator.
            Form::One => {
                let server = match &clock {
                    Some(clock) => Server::valkey_in(clock.environment.clone()).await,
                    None => Server::start().await,
                };
                Self::One(Box::new(server), clock)
            }
            Form::Sentinel | Form::Synced => Self::Watched(Watched::start().await),
            Form::Cluster => Self::Cluster(Cluster::start().await),
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(server, _) => server.url(),
            Self::Watched(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The port of a single server.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::One(server, _) => Some(server.port()),
            Self::Watched(_) | Self::Cluster(_) => None,
        }
    }

    /// Kills a server and starts it again, with what it had saved just before.
    pub(crate) async fn restart(&mut self) {
        if let Self::One(server, _) = self {
            server.restart().await;
        }
    }

    /// Kills a server and starts it again with nothing.
    pub(crate) async fn restart_empty(&mut self, away: Duration) {
        if let Self::One(server, _) = self {
            server.down();
            sleep(away).await;
            server.up().await;
        }
    }

    /// The clock of a single server, where it can be set.
    pub(crate) fn clock(&self) -> Option<&Clock> {
        match self {
            Self::One(_, clock) => clock.as_ref(),
            Self::Watched(_) | Self::Cluster(_) => None,
        }
    }

    /// Deletes everything.
    pub(crate) async fn flush(&self, random: &mut StdRng) {
        match self {
            Self::One(server, _) => server.ask::<()>(&["FLUSHALL"]).await,
            Self::Watched(watched) => watched.primary().await.ask(&["FLUSHALL"]).await,
            Self::Cluster(cluster) => {
                let server = cluster.servers.choose(random).expect("there are servers");
                // A replica refuses it: then nothing is lost this time.
                let _: redis::RedisResult<()> = server.try_ask(&["FLUSHALL"]).await;
            }
        }
    }

    /// Stops a primary in its tracks for a while: connections stay open, and nobody answers. Where others watch over it, one of its
    /// replicas takes its place meanwhile, if it takes long enough.
    pub(crate) async fn freeze(&self, lasts: Duration, random: &mut StdRng) {
        let server = match self {
            Self::One(server, _) => server,
            Self::Watched(watched) => watched.primary().await,
            Self::Cluster(cluster) => &cluster.servers[primary(cluster, random).await],
        };
        server.freeze();
        sleep(lasts).await;
        server.thaw();
    }

    /// Kills a primary, and waits until one of its replicas has taken its place.
    pub(crate) async fn fail_over(&mut self, random: &mut StdRng) {
        match self {
            Self::One(..) => {}
            Self::Watched(watched) => {
                watched.fail_over().await;
            }
            Self::Cluster(cluster) => {
                let dying = primary(cluster, random).await;
                cluster.fail_over(dying).await;
            }
        }
    }

    /// Starts whoever was killed again.
    pub(crate) async fn revive(&mut self) {
        let servers = match self {
            Self::One(..) => return,
            Self::Watched(watched) => &mut watched.servers,
            Self::Cluster(cluster) => &mut cluster.servers,
        };
        for dead in servers.iter_mut().filter(|server| !server.runs()) {
            dead.up().await;
        }
    }

    /// Brings back whoever was killed, as a replica.
    pub(crate) async fn mend(&mut self) {
        self.revive().await;
        match self {
            Self::One(..) => {}
            Self::Watched(watched) => watched.settle().await,
            Self::Cluster(cluster) => cluster.settle().await,
        }
    }

    /// Moves some slots from one primary to another.
    pub(crate) async fn move_slots(&self, random: &mut StdRng) {
        let Self::Cluster(cluster) = self else { return };
        let from = primary(cluster, random).await;
        let to = loop {
            let other = primary(cluster, random).await;
            if other != from {
                break other;
            }
        };
        let place = cluster.servers[from].place().to_string();
        let (from, to) = (cluster.id(from).await, cluster.id(to).await);
        let arguments = [
            "--cluster",
            "reshard",
            &place,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
        ];
        let slots = ["--cluster-slots", "700", "--cluster-yes"];
        let command: Vec<String> = arguments.iter().chain(&slots).map(ToString::to_string).collect();
        cluster.cli(&command).await;
        cluster.settle().await;
    }
}

/// A primary that holds slots, by chance.
async fn primary(cluster: &Cluster, random: &mut StdRng) -> usize {
    loop {
        // Any key will do: each has a holder.
        let key = random.random::<u32>().to_string();
        let holder = cluster.holder(&key).await;
        if cluster.servers[holder].runs() {
            return holder;
        }
    }
}
