//! The forms of a Redis deployment, and the faults of each.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use futures_util::future::join_all;
use rand::prelude::*;
use tokio::time::sleep;

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

/// How many seconds the clock of a server may be ahead of this machine's. Apart from one second,
/// further apart than an observation lives: its time is unambiguous by any of these clocks.
pub(crate) const AHEAD: [i64; 7] = [0, 1, -1, 75, -75, 3600, -3600];

/// The servers.
pub(crate) enum Servers {
    One(Box<Server>),
    Watched(Watched),
    Cluster(Cluster),
}

/// The replicas of a primary under Sentinel.
pub(crate) const REPLICAS: usize = 2;

impl Servers {
    /// The clock of a single server is right as yet; those of several differ.
    pub(crate) async fn start(form: Form, random: &mut StdRng) -> Self {
        match form {
            Form::One => Self::One(Box::new(Server::with_clock().await)),
            Form::Sentinel | Form::Synced => {
                Self::Watched(Watched::with_clocks(clocks(random)).await)
            }
            Form::Cluster => Self::Cluster(Cluster::with_clocks(clocks(random)).await),
        }
    }

    /// All of them.
    pub(crate) fn all(&mut self) -> &mut [Server] {
        match self {
            Self::One(server) => std::slice::from_mut(server),
            Self::Watched(watched) => &mut watched.servers,
            Self::Cluster(cluster) => &mut cluster.servers,
        }
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::One(server) => server.url(),
            Self::Watched(watched) => watched.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// The port of a single server.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::One(server) => Some(server.port()),
            Self::Watched(_) | Self::Cluster(_) => None,
        }
    }

    /// Kills a server and starts it again, with what it had saved just before.
    pub(crate) async fn restart(&mut self) {
        if let Self::One(server) = self {
            server.restart().await;
        }
    }

    /// Kills a server and starts it again with nothing.
    pub(crate) async fn restart_empty(&mut self, away: Duration) {
        if let Self::One(server) = self {
            server.down();
            sleep(away).await;
            server.up().await;
        }
    }

    /// Sets the clock of a single server.
    pub(crate) fn step_clock(&self, random: &mut StdRng) {
        if let Self::One(server) = self {
            server.set_clock(any_clock(random));
        }
    }

    /// Deletes everything.
    pub(crate) async fn flush(&self, random: &mut StdRng) {
        match self {
            Self::One(server) => server.ask::<()>(&["FLUSHALL"]).await,
            Self::Watched(watched) => watched.primary().await.ask(&["FLUSHALL"]).await,
            Self::Cluster(cluster) => {
                let server = cluster.servers.choose(random).expect("there are servers");
                // A replica refuses it: then nothing is lost this time.
                let _: redis::RedisResult<()> = server.try_ask(&["FLUSHALL"]).await;
            }
        }
    }

    /// Stops a primary in its tracks for a while: connections stay open, and no server answers.
    /// Where others watch over it, one of its replicas takes its place meanwhile, if it takes long
    /// enough.
    pub(crate) async fn freeze(&self, lasts: Duration, random: &mut StdRng) {
        let server = match self {
            Self::One(server) => server,
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
            Self::One(_) => {}
            Self::Watched(watched) => {
                watched.fail_over().await;
                // The killed one comes back with nothing: no other server may still replicate it.
                while !is_followed(watched).await {
                    sleep(Duration::from_millis(20)).await;
                }
            }
            Self::Cluster(cluster) => {
                let dying = primary(cluster, random).await;
                cluster.fail_over(dying).await;
            }
        }
    }

    /// Starts the servers that were killed again, each with another clock.
    pub(crate) async fn revive(&mut self, random: &mut StdRng) {
        for dead in self.all().iter_mut().filter(|server| !server.runs()) {
            dead.set_clock(any_clock(random));
            dead.up().await;
        }
    }

    /// Brings back the servers that were killed, as replicas.
    pub(crate) async fn restore(&mut self, random: &mut StdRng) {
        self.revive(random).await;
        match self {
            Self::One(_) => {}
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
        let arguments =
            ["--cluster", "reshard", &place, "--cluster-from", &from, "--cluster-to", &to];
        let slots = ["--cluster-slots", "700", "--cluster-yes"];
        let command: Vec<String> =
            arguments.iter().chain(&slots).map(ToString::to_string).collect();
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

/// Whether every other server that runs replicates the primary.
async fn is_followed(watched: &Watched) -> bool {
    let primary = watched.primary().await.port();
    let others = watched.servers.iter().filter(|server| server.runs() && server.port() != primary);
    let follow = join_all(others.map(async |server| {
        let follows = server.info("replication", "master_port").await == Some(primary.to_string());
        follows && server.info("replication", "master_link_status").await.as_deref() == Some("up")
    }));
    follow.await.into_iter().all(|follows| follows)
}

fn any_clock(random: &mut StdRng) -> i64 {
    *AHEAD.choose(random).expect("there are some")
}

/// Clocks of which no two are the same.
fn clocks<const SERVERS: usize>(random: &mut StdRng) -> [i64; SERVERS] {
    let mut ahead = AHEAD;
    ahead.shuffle(random);
    std::array::from_fn(|server| ahead[server])
}
