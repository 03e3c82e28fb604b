//! Maps each partition to the node that holds it. One server holds them all, or each node of a
//! cluster some.
//!
//! A cluster is queried every few seconds, and whenever a node does not hold a requested key or is
//! unreachable. Redirections are not followed (see `errors.rs`). The caller's next try uses the new
//! map.

mod layout;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::ledger::keys::PartitionId;
use crate::ledger::{LedgerError, LedgerHealth};
use crate::model::Timestamp;

use super::clock::ServerClock;
use super::errors::describe;
use super::locator::PrimaryLocator;
use super::node::Node;
use super::settings::Servers;
use super::shared::Shared;
use layout::Layout;

/// Interval between queries of a cluster's layout.
const REFRESH: Duration = Duration::from_secs(10);
/// Minimum interval between such queries.
const PAUSE: Duration = Duration::from_millis(100);
/// Interval at which a caller that waits for the servers checks them.
const CHECK: Duration = Duration::from_millis(20);

/// The nodes of one ledger, and what each of them holds.
#[derive(Debug)]
pub(super) struct Topology {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    map: ArcSwap<Map>,
    /// Notified when another node may hold something by now.
    refresh_requested: Arc<Notify>,
    /// Why the layout is unknown, and since when.
    last_error: Mutex<Option<(String, Instant)>>,
    /// Whether every node was reached at any time.
    reached: AtomicBool,
    /// For partitions that no node holds.
    clock: ServerClock,
}

#[derive(Debug, Default)]
struct Map {
    members: BTreeMap<PrimaryLocator, Arc<Member>>,
    holders: BTreeMap<PartitionId, Arc<Node>>,
    budget: Option<Arc<Node>>,
}

/// A node, which stops when it is no longer on any map.
#[derive(Debug)]
struct Member {
    node: Arc<Node>,
    _stop: DropGuard,
}

/// Every server that holds records, connected to once, for commands that inspect a ledger or make
/// one.
pub(super) async fn connect_all(
    shared: &Arc<Shared>,
) -> RedisResult<Vec<(Arc<Node>, MultiplexedConnection)>> {
    let layout = Layout::read(shared, BTreeSet::new()).await?;
    let mut connected = Vec::with_capacity(layout.holders.len());
    for (locator, partitions) in layout.holders {
        let connection = shared.dialer.connect(&locator.find(&shared.dialer).await?).await?;
        shared.scripts.load(&connection).await?;
        connected.push((Node::new(shared, locator, partitions, Arc::default()), connection));
    }
    Ok(connected)
}

impl Topology {
    /// Connects to every node, until `stop`.
    pub(super) fn start(
        shared: Arc<Shared>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let topology = Arc::new(Self {
            map: ArcSwap::default(),
            refresh_requested: Arc::default(),
            last_error: Mutex::new(Some(("not connected yet".to_owned(), Instant::now()))),
            reached: AtomicBool::new(false),
            clock: ServerClock::new(),
            shared,
            tasks,
            stop,
        });
        let Shared { settings, .. } = &*topology.shared;
        match Layout::fixed(&settings.servers) {
            Some(layout) => topology.apply(layout, settings.fresh),
            None => {
                let (followed, stop) = (topology.clone(), topology.stop.clone());
                let follow = async move { stop.run_until_cancelled(followed.follow()).await };
                topology.tasks.spawn(follow);
            }
        }
        topology
    }

    /// Keeps the map of a cluster current.
    async fn follow(&self) -> Infallible {
        let mut fresh = self.shared.settings.fresh;
        loop {
            let map = self.map.load_full();
            let known = map.members.keys().filter_map(PrimaryLocator::address).collect();
            match Layout::read(&self.shared, known).await {
                Ok(layout) => {
                    self.apply(layout, fresh);
                    // A node that joins later may be empty because it lost everything.
                    fresh = false;
                }
                Err(error) => self.report(describe(&error)),
            }
            tokio::time::sleep(PAUSE).await;
            // Either way the cluster is queried again.
            let _ = tokio::time::timeout(REFRESH, self.refresh_requested.notified()).await;
        }
    }

    fn report(&self, why: String) {
        let mut last_error = self.last_error();
        if last_error.as_ref().is_none_or(|(last, _)| *last != why) {
            warn!(why, "no node of the cluster returned its layout: trying again until one does");
        }
        let since = last_error.take().map_or_else(Instant::now, |(_, since)| since);
        *last_error = Some((why, since));
        self.refresh_requested.notify_one();
    }

    fn last_error(&self) -> MutexGuard<'_, Option<(String, Instant)>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to new nodes, and drops those that no longer hold anything.
    fn apply(&self, layout: Layout, fresh: bool) {
        let before = self.map.load();
        let mut map = Map::default();
        for (locator, partitions) in layout.holders {
            let member = match before.members.get(&locator) {
                Some(member) => {
                    member.node.set_partitions(partitions.clone());
                    member.clone()
                }
                None => self.member(locator.clone(), partitions.clone(), fresh),
            };
            let holds = partitions.into_iter().map(|partition| (partition, member.node.clone()));
            map.holders.extend(holds);
            map.members.insert(locator, member);
        }
        let budget = layout.budget.and_then(|locator| map.members.get(&locator));
        map.budget = budget.map(|member| member.node.clone());
        if !before.members.keys().eq(map.members.keys()) {
            let nodes: Vec<_> = map.members.keys().map(ToString::to_string).collect();
            info!(nodes = nodes.join(","), "the nodes of the ledger");
        }
        self.map.store(Arc::new(map));
        *self.last_error() = None;
    }

    fn member(
        &self,
        locator: PrimaryLocator,
        partitions: BTreeSet<PartitionId>,
        fresh: bool,
    ) -> Arc<Member> {
        let node = Node::new(&self.shared, locator, partitions, self.refresh_requested.clone());
        let stop = self.stop.child_token();
        node.start(fresh, &self.tasks, stop.clone());
        Arc::new(Member { node, _stop: stop.drop_guard() })
    }

    /// The node that holds a partition.
    pub(super) fn holder(&self, partition: PartitionId) -> Result<Arc<Node>, LedgerError> {
        let node = self.map.load().holders.get(&partition).cloned();
        node.ok_or_else(|| self.no_holder())
    }

    /// The node that holds the rate limiter's counter.
    pub(super) fn budget(&self) -> Result<Arc<Node>, LedgerError> {
        let node = self.map.load().budget.clone();
        node.ok_or_else(|| self.no_holder())
    }

    fn no_holder(&self) -> LedgerError {
        self.refresh_requested.notify_one();
        match &*self.last_error() {
            Some((why, since)) => LedgerError::not_applied(why).with_outage(since.elapsed()),
            None => LedgerError::not_applied("no node of the cluster holds its slot"),
        }
    }

    /// Whether the servers are a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.shared.settings.servers, Servers::Cluster(_))
    }

    /// Every node that holds anything.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let map = self.map.load();
        map.members.values().map(|member| member.node.clone()).collect()
    }

    /// The clock of the partition's holder.
    pub(super) fn now(&self, partition: PartitionId) -> Timestamp {
        let map = self.map.load();
        map.holders.get(&partition).map_or_else(|| self.clock.now(), |node| node.epochs.now())
    }

    /// The health of the servers. Recovery is not known here.
    pub(super) fn health(&self) -> LedgerHealth {
        let (map, last_error) = (self.map.load(), self.last_error().clone());
        let is_cluster = self.is_cluster();
        let unheld = PartitionId::all().count() - map.holders.len();
        let mut health = LedgerHealth::default();
        (health.up, health.reached) =
            (last_error.is_none() && unheld == 0 && map.budget.is_some(), unheld == 0);
        health.down.extend(last_error.map(|(why, _)| why));
        if unheld > 0 && !map.members.is_empty() {
            let why = format!("no node of the cluster holds the slots of {unheld} partitions");
            health.down.push(why);
        }
        for (locator, member) in &map.members {
            let node = member.node.health();
            let about = |what: String| if is_cluster { format!("{locator}: {what}") } else { what };
            health.up &= node.up;
            health.reached &= node.reached;
            health.down.extend(node.down.into_iter().map(about));
            health.refusing.extend(node.refusing.into_iter().map(about));
            health.misconfigured.extend(node.misconfigured.into_iter().map(about));
            health.warnings.extend(node.warnings.into_iter().map(about));
            health.memory_used = health.memory_used.max(node.memory_used);
            health.clock_steps = health.clock_steps + node.clock_steps;
        }
        health.reached |= self.reached.fetch_or(health.reached, Ordering::Relaxed);
        health
    }

    /// Waits until every server was reached, and its last call went through.
    pub(super) async fn until_up(&self) {
        let is_up =
            || self.health().up && self.nodes().iter().all(|node| node.connection.is_serving());
        while !is_up() {
            tokio::time::sleep(CHECK).await;
        }
    }
}
