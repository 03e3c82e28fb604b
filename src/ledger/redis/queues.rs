//! The queues of due attempts and reconciliations: one read of all partitions, then claims by name.
//!
//! Two trips give an order over partitions, and no more claims than requested. Between them the
//! caller acquires what it needs for a claim. A member that another replica claimed meanwhile is
//! left out, and the next tick finds the rest. An unreachable server hides no members of the
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use crate::ledger::LedgerError;
use crate::ledger::keys::{Keys, PartitionId};
use crate::rate_limit::micros;

use super::node::{Node, RedisOperation};
use super::topology::Topology;

/// The partitions' sorted sets of one kind, by the name of their keys.
type QueueKey = fn(&Keys, PartitionId) -> String;

/// A member with its due time.
struct Entry {
    at: f64,
    member: String,
}

impl Topology {
    /// The members that are due, earliest first.
    pub(super) async fn due_members(
        &self,
        queue: QueueKey,
        most: usize,
    ) -> Result<Vec<String>, LedgerError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let nodes = self.nodes();
        let mut earliest = some(join_all(nodes.iter().map(|node| node.due(queue, most))).await)?;
        earliest.sort_unstable_by(|one, other| {
            one.at.total_cmp(&other.at).then(one.member.cmp(&other.member))
        });
        earliest.truncate(most);
        Ok(earliest.into_iter().map(|entry| entry.member).collect())
    }

    /// The members that are still due, in the same order.
    pub(super) async fn claim_members<T>(
        &self,
        queue: QueueKey,
        mut due: Vec<T>,
        name: impl Fn(&T) -> (PartitionId, String),
        visibility: Duration,
    ) -> Result<Vec<T>, LedgerError> {
        // Only a cluster demands that all keys of a script are in one of its slots.
        let is_cluster = self.is_cluster();
        let mut scripts: BTreeMap<Option<PartitionId>, Vec<_>> = BTreeMap::new();
        for (partition, member) in due.iter().map(&name) {
            let script = scripts.entry(is_cluster.then_some(partition)).or_default();
            script.push((partition, member));
        }
        let claims = scripts.into_values().map(|members| async move {
            let Some((partition, _)) = members.first() else {
                return Ok(Vec::new());
            };
            self.holder(*partition)?.claim(queue, members, visibility).await
        });
        let claimed: BTreeSet<String> = some(join_all(claims).await)?.into_iter().collect();
        due.retain(|one| claimed.contains(&name(one).1));
        Ok(due)
    }
}

/// The replies of the servers that answered. An error if none did.
fn some<T>(answers: Vec<Result<Vec<T>, LedgerError>>) -> Result<Vec<T>, LedgerError> {
    let (answers, failures): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    match (answers.is_empty(), failures.into_iter().find_map(Result::err)) {
        (true, Some(failure)) => Err(failure),
        _ => Ok(answers.into_iter().flatten().flatten().collect()),
    }
}

impl Node {
    /// Up to `most` members of each partition.
    async fn due(&self, queue: QueueKey, most: usize) -> Result<Vec<Entry>, LedgerError> {
        let partitions = self.partitions();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for &partition in partitions.iter() {
            let command = pipe.cmd("ZRANGEBYSCORE").arg(queue(&self.shared.keys, partition));
            command.arg("-inf").arg(self.epochs.now().as_micros());
            command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(most);
        }
        let found: Vec<Vec<(String, f64)>> = self
            .connection
            .call(RedisOperation::Due, |mut connection| async move {
                pipe.query_async(&mut connection).await
            })
            .await?;
        let entries = found.into_iter().flatten();
        Ok(entries.map(|(member, at)| Entry { at, member }).collect())
    }

    async fn claim(
        &self,
        queue: QueueKey,
        members: Vec<(PartitionId, String)>,
        visibility: Duration,
    ) -> Result<Vec<String>, LedgerError> {
        let queues = members.iter().map(|(partition, _)| queue(&self.shared.keys, *partition));
        let mut script = self.shared.scripts.claim.key(queues.collect::<Vec<_>>());
        script.arg(micros(visibility));
        for (_, member) in &members {
            script.arg(member);
        }
        self.connection
            .call(RedisOperation::Claim, |mut connection| async move {
                script.invoke_async(&mut connection).await
            })
            .await
    }
}
