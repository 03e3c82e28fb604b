//! A cluster of three primaries, each with one replica.

use std::process::Command;
use std::time::Duration;

use eni_gateway::ledger::redis::Servers;
use tokio::time::Instant;

use super::{PATIENCE, Server, free_port};

pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with_clocks([0; 6]).await
    }

    /// A cluster with clocks this many seconds ahead. They are set before the start, because a step
    /// would upset the servers' timeouts.
    pub(crate) async fn with_clocks(ahead: [i64; 6]) -> Self {
        let mut servers = Vec::new();
        for ahead in ahead {
            let bus = free_port().to_string();
            let options = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
            ];
            let mut server = Server::clocked(&options);
            server.set_clock(ahead);
            server.up().await;
            servers.push(server);
        }
        let cluster = Self { servers };
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(cluster.servers.iter().map(|server| server.place().to_string()));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        cluster.cli(&create).await;
        cluster.settle().await;
        cluster
    }

    /// Runs `redis-cli`, which must succeed.
    pub(crate) async fn cli(&self, arguments: &[String]) {
        let arguments = arguments.to_vec();
        let run =
            move || Command::new("redis-cli").args(&arguments).output().expect("redis-cli runs");
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Waits until every live node shows every slot served, and every primary has its remaining
    /// replicas.
    pub(crate) async fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Some(unsettled) = self.unsettled().await {
            if Instant::now() >= deadline {
                let nodes: String =
                    unsettled.try_ask(&["CLUSTER", "NODES"]).await.unwrap_or_default();
                panic!("the cluster does not settle: {} shows\n{nodes}", unsettled.place());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A live node that shows a slot without a primary, or that waits for its own.
    async fn unsettled(&self) -> Option<&Server> {
        for server in self.servers.iter().filter(|server| server.runs()) {
            let info: String = server.try_ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            let serves =
                info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384");
            let is_replica = server.info("replication", "role").await.as_deref() == Some("slave");
            let is_linked =
                server.info("replication", "master_link_status").await.as_deref() == Some("up");
            if !serves || (is_replica && !is_linked) {
                return Some(server);
            }
        }
        None
    }

    pub(crate) fn places(&self) -> Servers {
        Servers::Cluster(self.servers.iter().map(Server::place).collect())
    }

    pub(crate) fn url(&self) -> String {
        let nodes: Vec<_> = self.servers.iter().map(|server| server.place().to_string()).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// The primary that holds this key.
    pub(crate) async fn holder(&self, key: &str) -> usize {
        let slot: u16 = self.any().ask(&["CLUSTER", "KEYSLOT", key]).await;
        let nodes: String = self.any().ask(&["CLUSTER", "NODES"]).await;
        let port = nodes.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let holds = |range: &&str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                let parsed = (first.parse::<u16>(), last.parse::<u16>());
                matches!(parsed, (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            };
            let address = fields[1].split('@').next()?;
            fields[8..]
                .iter()
                .any(holds)
                .then(|| address.rsplit_once(':')?.1.parse::<u16>().ok())?
        });
        let port = port.expect("somebody holds every slot");
        self.servers.iter().position(|server| server.port() == port).expect("it is one of ours")
    }

    /// Its name in the cluster.
    pub(crate) async fn id(&self, index: usize) -> String {
        self.servers[index].ask(&["CLUSTER", "MYID"]).await
    }

    fn any(&self) -> &Server {
        self.servers.iter().find(|server| server.runs()).expect("one lives")
    }

    /// Kills a primary and waits until its replica is promoted. Returns the time it took.
    pub(crate) async fn fail_over(&mut self, index: usize) -> Duration {
        self.servers[index].down();
        let began = Instant::now();
        // The survivors' old state does not count; they must notice first.
        while self.any().try_ask::<String>(&["CLUSTER", "NODES"]).await.is_ok_and(|nodes| {
            let here = format!(":{}@", self.servers[index].port());
            nodes.lines().any(|line| line.contains(&here) && !line.contains("fail"))
        }) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.settle().await;
        began.elapsed()
    }
}
