//! The nodes of a cluster, and which of them holds what. The cluster is asked every few seconds, and whenever a node says that
//! it does not hold what it is asked for, or cannot be reached.
//!
//! Redirections are not followed: the next try of whoever called goes where the cluster says then. See `node/link.rs` for why.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, RedisError, RedisResult, Value, cmd};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::ledger::keys::PartitionId;
use crate::ledger::{Health, LedgerError};
use crate::model::Timestamp;

use super::super::describe;
use super::super::node::Node;
use super::super::node::clock::ServerClock;
use super::super::settings::ServerAddr;
use super::super::{Shared, dial::Dialer};
use super::PrimaryLocator;
use super::slots::{self, SlotRange, slot_of};

/// How often the cluster is asked who holds what.
const REFRESH: Duration = Duration::from_secs(10);
/// How often at most.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the slower nodes are waited for once one has answered: another one may know something newer.
const SECOND_OPINION: Duration = Duration::from_millis(100);

/// The nodes of one cluster.
#[derive(Debug)]
pub(in super::super) struct Cluster {
    shared: Arc<Shared>,
    seeds: Vec<ServerAddr>,
    tasks: TaskTracker,
    stop: CancellationToken,
    map: ArcSwap<Map>,
    /// Told when somebody else may hold something by now.
    refresh_requested: Arc<Notify>,
    /// Why nobody says who holds what, and since when.
    last_error: Mutex<Option<(String, Instant)>>,
    /// Whether every node was ever up.
    reached: AtomicBool,
    clock: ServerClock,
}

#[derive(Debug, Default)]
struct Map {
    members: BTreeMap<ServerAddr, Arc<Member>>,
    holders: BTreeMap<PartitionId, Arc<Node>>,
    budget: Option<Arc<Node>>,
}

/// A node, which ends when it is no longer on any map.
#[derive(Debug)]
struct Member {
    node: Arc<Node>,
    _stop: DropGuard,
}

/// Who holds what of ours.
#[derive(Debug, Default, PartialEq, Eq)]
struct Layout {
    holders: BTreeMap<ServerAddr, BTreeSet<PartitionId>>,
    budget: Option<ServerAddr>,
}

impl Layout {
    fn of(held: &[SlotRange], shared: &Shared) -> Self {
        let holder = |key: &str| {
            let slot = slot_of(key);
            held.iter()
                .find(|(slots, _)| slots.contains(&slot))
                .map(|(_, place)| place.clone())
        };
        let mut holders: BTreeMap<ServerAddr, BTreeSet<PartitionId>> = BTreeMap::new();
        for partition in PartitionId::all() {
            if let Some(place) = holder(&shared.keys.epoch(partition)) {
                holders.entry(place).or_default().insert(partition);
            }
        }
        let budget = holder(&shared.keys.budget());
        if let Some(place) = &budget {
            holders.entry(place.clone()).or_default();
        }
        Self { holders, budget }
    }
}

/// Asks these nodes, all at once, who holds what of ours; the one that knows the newest epoch of those that answer soon is
/// believed.
async fn read_layout(shared: &Shared, places: BTreeSet<ServerAddr>) -> RedisResult<Layout> {
    let mut asked: FuturesUnordered<_> = places.iter().map(|place| ask(&shared.dialer, place)).collect();
    let mut best: Option<(u64, Vec<SlotRange>)> = None;
    let mut failure = RedisError::from((ErrorKind::Io, "no node of the cluster is known"));
    while let Some(answer) = match best {
        None => asked.next().await,
        // Late is as good as never.
        Some(_) => tokio::time::timeout(SECOND_OPINION, asked.next())
            .await
            .unwrap_or_default(),
    } {
        match answer {
            Ok((epoch, held)) if best.as_ref().is_none_or(|(newest, _)| epoch > *newest) => best = Some((epoch, held)),
            Ok(_) => {}
            Err(error) => failure = error,
        }
    }
    best.map(|(_, held)| Layout::of(&held, shared)).ok_or(failure)
}

async fn ask(dialer: &Dialer, place: &ServerAddr) -> RedisResult<(u64, Vec<SlotRange>)> {
    let mut connection = dialer.connect(place).await?;
    let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
    let epoch = info
        .lines()
        .find_map(|line| line.trim_end().strip_prefix("cluster_current_epoch:"));
    let epoch = epoch.and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    let answer: Value = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let unreadable = || {
        RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "CLUSTER SLOTS gave an unexpected answer",
        ))
    };
    Ok((epoch, slots::read(&answer, place).ok_or_else(unreadable)?))
}

/// Every node that holds something of ours, not connected.
pub(super) async fn connect_all(
    shared: &Arc<Shared>,
    seeds: &[ServerAddr],
) -> RedisResult<Vec<(Arc<Node>, ServerAddr)>> {
    let layout = read_layout(shared, seeds.iter().cloned().collect()).await?;
    let nodes = layout.holders.into_iter().map(|(place, partitions)| {
        let node = Node::new(shared, PrimaryLocator::At(place.clone()), partitions, Arc::default());
        (Arc::new(node), place)
    });
    Ok(nodes.collect())
}

impl Cluster {
    pub(super) fn start(
        shared: Arc<Shared>,
        seeds: Vec<ServerAddr>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let cluster = Arc::new(Self {
            shared,
            seeds,
            tasks,
            stop,
            map: ArcSwap::default(),
            refresh_requested: Arc::default(),
            last_error: Mutex::new(Some(("not connected yet".to_owned(), Instant::now()))),
            reached: AtomicBool::new(false),
            clock: ServerClock::new(),
        });
        let running = cluster.clone();
        cluster
            .tasks
            .spawn(async move { running.stop.clone().run_until_cancelled(running.follow()).await });
        cluster
    }

    /// Keeps the map true, for ever.
    async fn follow(&self) -> Infallible {
        let mut fresh = self.shared.settings.fresh;
        loop {
            let places = self.map.load().members.keys().chain(&self.seeds).cloned().collect();
            match read_layout(&self.shared, places).await {
                Ok(layout) => {
                    self.apply_layout(layout, fresh);
                    // What joins later may be empty because it lost everything.
                    fresh = false;
                    self.report_error(None);
                }
                Err(error) => self.report_error(Some(describe(&error))),
            }
            tokio::time::sleep(PAUSE).await;
            // Either way the cluster is asked again.
            let _ = tokio::time::timeout(REFRESH, self.refresh_requested.notified()).await;
        }
    }

    fn report_error(&self, last_error: Option<String>) {
        let mut reported = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let before = reported.take();
        let known = before.as_ref().map(|(why, _)| why);
        if let (Some(why), true) = (&last_error, known != last_error.as_ref()) {
            warn!(
                why,
                "no node of the ledger's cluster says who holds what: asking again until one does"
            );
        }
        if last_error.is_some() {
            self.refresh_requested.notify_one();
        }
        let since = before.map_or_else(Instant::now, |(_, since)| since);
        *reported = last_error.map(|why| (why, since));
    }

    /// Nodes that are new are connected to, those that hold nothing any more are let go.
    fn apply_layout(&self, layout: Layout, fresh: bool) {
        let before = self.map.load();
        let mut map = Map::default();
        for (place, partitions) in layout.holders {
            let member = match before.members.get(&place) {
                Some(member) => {
                    member.node.set_partitions(partitions.clone());
                    member.clone()
                }
                None => self.member(&place, partitions.clone(), fresh),
            };
            map.holders
                .extend(partitions.into_iter().map(|partition| (partition, member.node.clone())));
            map.members.insert(place, member);
        }
        let budget = layout.budget.and_then(|place| map.members.get(&place));
        map.budget = budget.map(|member| member.node.clone());
        if !before.members.keys().eq(map.members.keys()) {
            let nodes: Vec<_> = map.members.keys().map(ToString::to_string).collect();
            info!(nodes = nodes.join(","), "the nodes of the ledger's cluster");
        }
        self.map.store(Arc::new(map));
    }

    fn member(&self, place: &ServerAddr, partitions: BTreeSet<PartitionId>, fresh: bool) -> Arc<Member> {
        let node = Node::new(
            &self.shared,
            PrimaryLocator::At(place.clone()),
            partitions,
            self.refresh_requested.clone(),
        );
        let (node, stop) = (Arc::new(node), self.stop.child_token());
        node.start(fresh, &self.tasks, &stop);
        Arc::new(Member {
            node,
            _stop: stop.drop_guard(),
        })
    }

    pub(super) fn holder(&self, partition: PartitionId) -> Result<Arc<Node>, LedgerError> {
        let node = self.map.load().holders.get(&partition).cloned();
        node.ok_or_else(|| self.no_holder())
    }

    pub(super) fn budget(&self) -> Result<Arc<Node>, LedgerError> {
        let node = self.map.load().budget.clone();
        node.ok_or_else(|| self.no_holder())
    }

    fn no_holder(&self) -> LedgerError {
        self.refresh_requested.notify_one();
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last_error {
            Some((why, since)) => LedgerError::not_applied(why).with_outage(since.elapsed()),
            None => LedgerError::not_applied("no node of the cluster holds its slot"),
        }
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        let map = self.map.load();
        map.members.values().map(|member| member.node.clone()).collect()
    }

    pub(super) fn now(&self, partition: PartitionId) -> Timestamp {
        let map = self.map.load();
        map.holders
            .get(&partition)
            .map_or(&self.clock, |node| &node.clock)
            .now()
    }

    pub(super) fn health(&self) -> Health {
        let map = self.map.load();
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let unheld = PartitionId::all().count() - map.holders.len();
        let mut health = Health {
            up: last_error.is_none() && unheld == 0 && map.budget.is_some(),
            ..Health::default()
        };
        health.down.extend(last_error.map(|(why, _)| why));
        if unheld > 0 && !map.members.is_empty() {
            health
                .down
                .push(format!("no node of the cluster holds the slots of {unheld} partitions"));
        }
        for (place, member) in &map.members {
            health.up &= member.node.connection.state().up;
            let about = |what: &String| format!("{place}: {what}");
            health.down.extend(member.node.down().iter().map(about));
            health.refusing.extend(member.node.write_refusal().iter().map(about));
            health
                .misconfigured
                .extend(member.node.preflight().errors.iter().map(about));
            health.warnings.extend(member.node.warnings().iter().map(about));
            health.clock_steps = health.clock_steps + member.node.clock_steps();
        }
        self.reached.fetch_or(health.up, Ordering::Relaxed);
        health.reached = self.reached.load(Ordering::Relaxed);
        health
    }
}
