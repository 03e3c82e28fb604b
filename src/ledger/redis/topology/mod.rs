//! Which server holds a partition.

mod cluster;
mod sentinels;
mod slots;

use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ledger::keys::PartitionId;
use crate::ledger::{Health, LedgerError};
use crate::model::Timestamp;

use super::Shared;
use super::dial::Dialer;
use super::node::Node;
use super::settings::{ServerAddr, Servers};
use cluster::Cluster;
use sentinels::Sentinels;

/// How often it is looked whether everything is up, where somebody waits for that.
const LOOK: Duration = Duration::from_millis(20);

/// Where calls go.
#[derive(Debug)]
pub(super) enum Topology {
    /// All to one server.
    One(Arc<Node>),
    /// Each partition's to the node that holds it.
    Cluster(Arc<Cluster>),
}

/// Finds one server.
#[derive(Debug)]
pub(super) enum PrimaryLocator {
    /// It does not move.
    At(ServerAddr),
    /// These know.
    Sentinels(Sentinels),
}

impl PrimaryLocator {
    /// Where it is now.
    pub(super) async fn find(&self, dialer: &Dialer) -> RedisResult<ServerAddr> {
        match self {
            Self::At(place) => Ok(place.clone()),
            Self::Sentinels(sentinels) => sentinels.primary(dialer).await,
        }
    }

    /// Whether it is known to be somewhere else by now.
    pub(super) async fn has_moved_from(&self, place: &ServerAddr, dialer: &Dialer) -> bool {
        match self {
            Self::At(_) => false,
            Self::Sentinels(sentinels) => sentinels.agree_on_another(place, dialer).await,
        }
    }
}

fn one(shared: &Arc<Shared>, finder: PrimaryLocator) -> Arc<Node> {
    let nowhere_else = Arc::new(Notify::new());
    Arc::new(Node::new(shared, finder, PartitionId::all().collect(), nowhere_else))
}

fn by_sentinels(sentinels: &[ServerAddr], master: &str) -> PrimaryLocator {
    PrimaryLocator::Sentinels(Sentinels::new(sentinels.to_vec(), master.to_owned()))
}

/// Every server that holds records, connected to once, for those who look and leave.
pub(super) async fn connect_all(shared: &Arc<Shared>) -> RedisResult<Vec<(Arc<Node>, MultiplexedConnection)>> {
    let nodes = match &shared.settings.servers {
        Servers::One(place) => vec![(one(shared, PrimaryLocator::At(place.clone())), place.clone())],
        Servers::Sentinels { sentinels, master } => {
            let finder = by_sentinels(sentinels, master);
            let place = finder.find(&shared.dialer).await?;
            vec![(one(shared, finder), place)]
        }
        Servers::Cluster(seeds) => cluster::connect_all(shared, seeds).await?,
    };
    let mut connected = Vec::with_capacity(nodes.len());
    for (node, place) in nodes {
        let mut connection = shared.dialer.connect(&place).await?;
        shared.scripts.load(&mut connection).await?;
        connected.push((node, connection));
    }
    Ok(connected)
}

impl Topology {
    /// Begins to connect, and goes on until `stop`.
    pub(super) fn start(shared: &Arc<Shared>, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let finder = match &shared.settings.servers {
            Servers::One(place) => PrimaryLocator::At(place.clone()),
            Servers::Sentinels { sentinels, master } => by_sentinels(sentinels, master),
            Servers::Cluster(seeds) => {
                return Self::Cluster(Cluster::start(shared.clone(), seeds.clone(), tasks.clone(), stop));
            }
        };
        let node = one(shared, finder);
        node.start(shared.settings.fresh, tasks, &stop);
        Self::One(node)
    }

    /// Who holds a partition.
    pub(super) fn holder(&self, partition: PartitionId) -> Result<Arc<Node>, LedgerError> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Cluster(cluster) => cluster.holder(partition),
        }
    }

    /// Who holds the budget.
    pub(super) fn budget(&self) -> Result<Arc<Node>, LedgerError> {
        match self {
            Self::One(node) => Ok(node.clone()),
            Self::Cluster(cluster) => cluster.budget(),
        }
    }

    /// Everybody who holds anything.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::One(node) => vec![node.clone()],
            Self::Cluster(cluster) => cluster.nodes(),
        }
    }

    /// The clock of the partition's holder.
    pub(super) fn now(&self, partition: PartitionId) -> Timestamp {
        match self {
            Self::One(node) => node.clock.now(),
            Self::Cluster(cluster) => cluster.now(partition),
        }
    }

    /// How the servers are.
    pub(super) fn health(&self) -> Health {
        match self {
            Self::One(node) => {
                let (link, misconfigured) = (node.connection.state(), node.preflight().errors.clone());
                Health {
                    up: link.up,
                    reached: link.reached,
                    down: node.down().into_iter().collect(),
                    refusing: node.write_refusal().into_iter().collect(),
                    misconfigured,
                    warnings: node.warnings(),
                    recovering: 0,
                    clock_steps: node.clock_steps(),
                }
            }
            Self::Cluster(cluster) => cluster.health(),
        }
    }

    /// Waits until every server was reached, and its last call went through.
    pub(super) async fn until_up(&self) {
        match self {
            Self::One(node) => node.connection.until_up().await,
            Self::Cluster(cluster) => {
                while !cluster.health().up {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}
