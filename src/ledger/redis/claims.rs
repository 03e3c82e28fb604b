//! Claiming what is due, attempts or comparisons: a look into all partitions, and then the earliest of them by name.
//!
//! Two trips, for order over partitions and for no more claims than asked for. What another replica claimed in between is left
//! out, so there may be fewer than are due; the next tick sees the rest. A server that cannot be reached keeps nobody from what
//! the others hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};

use crate::ledger::keys::{Keys, PartitionId, parse_due_member};
use crate::ledger::tokens::micros;
use crate::ledger::{Due, Unavailable};
use crate::model::InstanceId;

use super::Core;
use super::node::Node;
use super::node::link::Operation;

/// The partitions' sorted sets of one kind, by the name of their keys.
type Queue = fn(&Keys, PartitionId) -> String;

/// A member, when it was due, and where it stands.
struct Entry {
    at: f64,
    node: Arc<Node>,
    partition: PartitionId,
    member: String,
}

impl Core {
    pub(super) async fn claim(&self, most: usize, visibility: Duration) -> Result<Vec<Due>, Unavailable> {
        let members = self.claim_from(Keys::due, most, visibility).await?;
        Ok(members.iter().filter_map(|member| parse_due_member(member)).collect())
    }

    pub(super) async fn claim_comparisons(
        &self,
        most: usize,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, Unavailable> {
        let members = self.claim_from(Keys::comparisons, most, visibility).await?;
        Ok(members.iter().filter_map(|member| member.parse().ok()).collect())
    }

    /// The members that are due, earliest first.
    async fn claim_from(&self, queue: Queue, most: usize, visibility: Duration) -> Result<Vec<String>, Unavailable> {
        let nodes = self.route.nodes();
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut earliest = some(join_all(nodes.iter().map(|node| node.due(queue, most))).await)?;
        earliest.sort_unstable_by(|one, other| one.at.total_cmp(&other.at).then(one.member.cmp(&other.member)));
        earliest.truncate(most);
        if earliest.is_empty() {
            return Ok(Vec::new());
        }
        let claims = nodes.iter().filter_map(|node| {
            let mut members: BTreeMap<PartitionId, Vec<&str>> = BTreeMap::new();
            for entry in earliest.iter().filter(|entry| Arc::ptr_eq(&entry.node, node)) {
                members.entry(entry.partition).or_default().push(&entry.member);
            }
            (!members.is_empty()).then(|| node.claim(queue, members, visibility))
        });
        let claimed: BTreeSet<String> = some(join_all(claims).await)?.into_iter().collect();
        let members = earliest.into_iter().map(|entry| entry.member);
        Ok(members.filter(|member| claimed.contains(member)).collect())
    }
}

/// What some servers answered; the failure if none did.
fn some<T>(answers: Vec<Result<Vec<T>, Unavailable>>) -> Result<Vec<T>, Unavailable> {
    let (answers, failures): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    match (answers.is_empty(), failures.into_iter().find_map(Result::err)) {
        (true, Some(failure)) => Err(failure),
        _ => Ok(answers.into_iter().flatten().flatten().collect()),
    }
}

impl Node {
    /// Up to `most` of each partition.
    async fn due(self: &Arc<Self>, queue: Queue, most: usize) -> Result<Vec<Entry>, Unavailable> {
        let partitions = self.partitions();
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for &partition in partitions.iter() {
            let command = pipe.cmd("ZRANGEBYSCORE").arg(queue(&self.shared.keys, partition));
            command.arg("-inf").arg(self.clock.now().as_micros());
            command.arg("WITHSCORES").arg("LIMIT").arg(0).arg(most);
        }
        let found: Vec<Vec<(String, f64)>> = self
            .link
            .call(Operation::Due, |mut connection| async move {
                pipe.query_async(&mut connection).await
            })
            .await?;
        let found = partitions.iter().zip(found);
        let entries = found.flat_map(|(&partition, due)| {
            due.into_iter().map(move |(member, at)| Entry {
                at,
                node: self.clone(),
                partition,
                member,
            })
        });
        Ok(entries.collect())
    }

    async fn claim(
        &self,
        queue: Queue,
        members: BTreeMap<PartitionId, Vec<&str>>,
        visibility: Duration,
    ) -> Result<Vec<String>, Unavailable> {
        let claimed: Vec<Vec<String>> = self
            .link
            .call(Operation::Claim, |connection| {
                try_join_all(members.into_iter().map(move |(partition, members)| {
                    let mut connection = connection.clone();
                    async move {
                        let mut script = self.shared.scripts.claim.key(queue(&self.shared.keys, partition));
                        script.arg(micros(visibility)).arg(members);
                        script.invoke_async(&mut connection).await
                    }
                }))
            })
            .await?;
        Ok(claimed.into_iter().flatten().collect())
    }
}
