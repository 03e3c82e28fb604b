//! Maps servers to what they hold: one server holds everything, and the nodes of a cluster report
//! their parts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::{ErrorKind, RedisError, RedisResult, Value, cmd};

use crate::ledger::keys::PartitionId;
use crate::ledger::redis::dial::Dialer;
use crate::ledger::redis::info::field;
use crate::ledger::redis::locator::PrimaryLocator;
use crate::ledger::redis::settings::{ServerAddr, Servers};
use crate::ledger::redis::shared::Shared;

use super::slots::{self, SlotRange, slot_of};

/// How long to wait for the slower nodes of a cluster once one has answered. Another may have a
/// newer layout.
const SECOND_OPINION: Duration = Duration::from_millis(100);

/// The servers of one ledger, and what each holds.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) holders: BTreeMap<PrimaryLocator, BTreeSet<PartitionId>>,
    pub(super) budget: Option<PrimaryLocator>,
}

impl Layout {
    /// The layout of one server that holds everything. `None` for a cluster.
    pub(super) fn fixed(servers: &Servers) -> Option<Self> {
        let locator = PrimaryLocator::of(servers)?;
        Some(Self {
            holders: [(locator.clone(), PartitionId::all().collect())].into(),
            budget: Some(locator),
        })
    }

    /// Queries these nodes of a cluster and those of the settings, all at once. Of the replies that
    /// arrive soon, the one with the newest epoch counts.
    pub(super) async fn read(
        shared: &Shared,
        mut nodes: BTreeSet<ServerAddr>,
    ) -> RedisResult<Self> {
        if let Some(fixed) = Self::fixed(&shared.settings.servers) {
            return Ok(fixed);
        }
        if let Servers::Cluster(seeds) = &shared.settings.servers {
            nodes.extend(seeds.iter().cloned());
        }
        let mut asked: FuturesUnordered<_> =
            nodes.iter().map(|node| ask(&shared.dialer, node)).collect();
        let mut best: Option<(u64, Vec<SlotRange>)> = None;
        let mut failure = RedisError::from((ErrorKind::Io, "no node of the cluster is known"));
        while let Some(answer) = match best {
            None => asked.next().await,
            // A late reply counts as none.
            Some(_) => tokio::time::timeout(SECOND_OPINION, asked.next()).await.unwrap_or_default(),
        } {
            match answer {
                Ok((epoch, held)) if best.as_ref().is_none_or(|(newest, _)| epoch > *newest) => {
                    best = Some((epoch, held));
                }
                Ok(_) => {}
                Err(error) => failure = error,
            }
        }
        best.map(|(_, held)| Self::of_slots(&held, shared)).ok_or(failure)
    }

    fn of_slots(held: &[SlotRange], shared: &Shared) -> Self {
        let holder = |key: &str| {
            let slot = slot_of(key);
            let range = held.iter().find(|(slots, _)| slots.contains(&slot));
            range.map(|(_, node)| PrimaryLocator::At(node.clone()))
        };
        let budget = holder(&shared.keys.budget());
        let mut holders: BTreeMap<_, BTreeSet<PartitionId>> = BTreeMap::new();
        for partition in PartitionId::all() {
            if let Some(node) = holder(&shared.keys.epoch(partition)) {
                holders.entry(node).or_default().insert(partition);
            }
        }
        if let Some(node) = &budget {
            holders.entry(node.clone()).or_default();
        }
        Self { holders, budget }
    }
}

/// The cluster epoch that a node reports, and which node holds which slots then.
async fn ask(dialer: &Dialer, node: &ServerAddr) -> RedisResult<(u64, Vec<SlotRange>)> {
    let mut connection = dialer.connect(node).await?;
    let info: String = cmd("CLUSTER").arg("INFO").query_async(&mut connection).await?;
    let epoch = field(&info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
    let answer: Value = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let unexpected = (ErrorKind::UnexpectedReturnType, "CLUSTER SLOTS gave an unexpected answer");
    let slots = slots::read(&answer, node).ok_or_else(|| RedisError::from(unexpected))?;
    Ok((epoch.unwrap_or(0), slots))
}
