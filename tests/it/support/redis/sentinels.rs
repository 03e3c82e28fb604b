//! A primary with two replicas and three sentinels.

use std::fmt::Write as _;
use std::time::Duration;

use eni_gateway::ledger::redis::Servers;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{PATIENCE, Server, free_port};

/// The primary's name.
pub(crate) const MASTER: &str = "ledger";
/// The user of replicas, when they have their own.
const PEER: &str = "peer";
/// Time without an answer after which a sentinel takes the primary for down.
const DOWN_AFTER: Duration = Duration::from_millis(500);

pub(crate) struct Watched {
    /// The servers, in no order. The sentinels name the primary.
    pub(crate) servers: Vec<Server>,
    pub(crate) sentinels: Vec<Server>,
    _directory: TempDir,
}

impl Watched {
    /// Sentinels with clocks this many seconds ahead. They are set before the start, because a step
    /// would upset the servers' timeouts.
    pub(crate) async fn with_clocks(ahead: [i64; 3]) -> Self {
        // Replicas that start together need not wait for one another.
        let options = ["--repl-diskless-sync-delay", "0"];
        let primary = Server::clocked(&options);
        let port = primary.port().to_string();
        let replica = [&["--replicaof", "127.0.0.1", &port][..], &options].concat();
        let mut servers = vec![primary, Server::clocked(&replica), Server::clocked(&replica)];
        for (server, ahead) in servers.iter_mut().zip(ahead) {
            server.set_clock(ahead);
            server.up().await;
        }
        let directory = TempDir::new().unwrap();
        let mut sentinels = Vec::new();
        for number in 0..3 {
            // A sentinel keeps its state in its configuration file.
            let (file, own) = (directory.path().join(format!("{number}.conf")), free_port());
            let mut text = format!("port {own}\nsentinel monitor {MASTER} 127.0.0.1 {port} 2\n");
            let down_after = DOWN_AFTER.as_millis();
            writeln!(text, "sentinel down-after-milliseconds {MASTER} {down_after}").unwrap();
            writeln!(text, "sentinel failover-timeout {MASTER} 5000").unwrap();
            std::fs::write(&file, text).unwrap();
            sentinels.push(Server::sentinel(own, &file).await);
        }
        let watched = Self { servers, sentinels, _directory: directory };
        watched.settle().await;
        watched
    }

    pub(crate) async fn start() -> Self {
        Self::with_clocks([0; 3]).await
    }

    /// Waits until every sentinel knows the others and both replicas, and both replicas replicate.
    /// A returned server gets its primary after about ten seconds.
    pub(crate) async fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut settled = true;
            for sentinel in &self.sentinels {
                let info = sentinel.info("sentinel", "master0").await.unwrap_or_default();
                settled &= info.contains("status=ok")
                    && info.contains("slaves=2")
                    && info.contains("sentinels=3");
            }
            let links = join_all(
                self.servers.iter().map(|server| server.info("replication", "master_link_status")),
            );
            settled &= links.await.iter().flatten().filter(|link| *link == "up").count() == 2;
            if settled {
                return;
            }
            assert!(Instant::now() < deadline, "the sentinels do not settle");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn places(&self) -> Servers {
        Servers::Sentinels {
            sentinels: self.sentinels.iter().map(Server::place).collect(),
            master: MASTER.to_owned(),
        }
    }

    pub(crate) fn url(&self) -> String {
        Self::url_at(self.sentinels.iter().map(Server::port))
    }

    /// The URL over the sentinels at these ports.
    pub(crate) fn url_at(ports: impl Iterator<Item = u16>) -> String {
        let sentinels: Vec<_> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis-sentinel://{}/0?master={MASTER}", sentinels.join(","))
    }

    /// Gives the replicas their own user, so that a server can be cut off from them alone.
    pub(crate) async fn tell_apart(&self) {
        for server in &self.servers {
            server.ask::<()>(&["ACL", "SETUSER", PEER, "on", ">secret", "~*", "&*", "+@all"]).await;
            server.ask::<()>(&["CONFIG", "SET", "masteruser", PEER, "masterauth", "secret"]).await;
        }
        let primary = self.primary().await;
        primary.ask::<()>(&["CLIENT", "KILL", "TYPE", "replica"]).await;
        self.settle().await;
    }

    /// Cuts a server off from its replicas and the sentinels, so that it is not demoted. Other
    /// connections stay.
    pub(crate) async fn isolate(&self, index: usize) {
        let server = &self.servers[index];
        server.ask::<()>(&["ACL", "SETUSER", "default", "-ping", "-slaveof"]).await;
        server.ask::<()>(&["ACL", "SETUSER", PEER, "off"]).await;
        server.ask::<()>(&["CLIENT", "KILL", "USER", PEER]).await;
    }

    /// Undoes it.
    pub(crate) async fn join(&self, index: usize) {
        let server = &self.servers[index];
        server.ask::<()>(&["ACL", "SETUSER", PEER, "on"]).await;
        server.ask::<()>(&["ACL", "SETUSER", "default", "+ping", "+slaveof"]).await;
        self.settle().await;
    }

    /// The primary that the sentinels name.
    pub(crate) async fn primary(&self) -> &Server {
        &self.servers[self.primary_index().await]
    }

    async fn primary_index(&self) -> usize {
        for sentinel in &self.sentinels {
            if let Some(index) = self.named_by(sentinel).await {
                return index;
            }
        }
        panic!("no sentinel names a primary");
    }

    /// Kills the primary and waits until the sentinels name a new one. Returns the time it took.
    pub(crate) async fn fail_over(&mut self) -> Duration {
        let dying = self.primary_index().await;
        self.servers[dying].down();
        let began = Instant::now();
        self.until_another_than(dying).await;
        began.elapsed()
    }

    /// Waits until another server is the primary, for most sentinels too.
    pub(crate) async fn until_another_than(&self, index: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut others = 0;
            for sentinel in &self.sentinels {
                others +=
                    usize::from(self.named_by(sentinel).await.is_some_and(|named| named != index));
            }
            if 2 * others > self.sentinels.len() {
                let named = self.primary_index().await;
                let role = self.servers[named].info("replication", "role").await;
                if named != index && role.as_deref() == Some("master") {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "no failover");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn named_by(&self, sentinel: &Server) -> Option<usize> {
        let question = ["SENTINEL", "get-master-addr-by-name", MASTER];
        let (_, port) = sentinel.try_ask::<(String, u16)>(&question).await.ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    /// The index of the primary.
    pub(crate) async fn which(&self) -> usize {
        self.primary_index().await
    }
}
