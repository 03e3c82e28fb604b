//! What is due, attempts or reconciliations: a look into all partitions, and claiming by name what was seen.
//!
//! Two trips, for order over partitions, for no more claims than asked for, and so that the caller can get what it needs for a claim
//! in between. What another replica claimed meanwhile is left out; the next tick sees the rest. A server that cannot be reached keeps
//! nobody from what the others hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;

use crate::ledger::keys::{Keys, PartitionId, due_member, parse_due_member};
use crate::ledger::{Due, LedgerError};
use crate::model::InstanceId;
use crate::rate_limit::micros;

use super::Core;
use super::node::Node;
use super::node::connection::Operation;

/// The partitions' sorted sets of one kind, by the name of their keys.
type Queue = fn(&Keys, PartitionId) -> String;

/// A member, and when it was due.
struct Entry {
    at: f64,
    member: String,
}

impl Core {
    pub(super) async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        let members = self.due_in(Keys::due, most).await?;
        Ok(members.iter().filter_map(|member| parse_due_member(member)).collect())
    }

    pub(super) async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        let name = |due: &Due| (PartitionId::of(&due.instance), due_member(&due.instance, &due.eni));
        self.claim_in(Keys::due, due, name, visibility).await
    }

    pub(super) async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        let members = self.due_in(Keys::reconciliations, most).await?;
        Ok(members.iter().filter_map(|member| member.parse().ok()).collect())
    }

    pub(super) async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        let name = |instance: &InstanceId| (PartitionId::of(instance), instance.to_string());
        self.claim_in(Keys::reconciliations, due, name, visibility).await
    }

    /// The members that are due, earliest first.
    async fn due_in(&self, queue: Queue, most: usize) -> Result<Vec<String>, LedgerError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let nodes = self.route.nodes();
        let mut earliest = some(join_all(nodes.iter().map(|node| node.due(queue, most))).await)?;
        earliest.sort_unstable_by(|one, other| one.at.total_cmp(&other.at).then(one.member.cmp(&other.member)));
        earliest.truncate(most);
        Ok(earliest.into_iter().map(|entry| entry.member).collect())
    }

    /// Those of these that are still due, in the same order.
    async fn claim_in<T>(
        &self,
        queue: Queue,
        mut due: Vec<T>,
        name: impl Fn(&T) -> (PartitionId, String),
        visibility: Duration,
    ) -> Result<Vec<T>, LedgerError> {
        let mut members: BTreeMap<PartitionId, Vec<String>> = BTreeMap::new();
        for (partition, member) in due.iter().map(&name) {
            members.entry(partition).or_default().push(member);
        }
        let claims = members.into_iter().map(|(partition, members)| async move {
            let node = self.route.holder(partition)?;
            node.claim(queue, partition, members, visibility).await
        });
        let claimed: BTreeSet<String> = some(join_all(claims).await)?.into_iter().collect();
        due.retain(|one| claimed.contains(&name(one).1));
        Ok(due)
    }
}

/// What some servers answered; the failure if none did.
fn some<T>(answers: Vec<Result<Vec<T>, LedgerError>>) -> Result<Vec<T>, LedgerError> {
    let (answers, failures): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    match (answers.is_empty(), failures.into_iter().find_map(Result::err)) {
        (true, Some(failure)) => Err(failure),
        _ => Ok(answers.into_iter().flatten().flatten().collect()),
    }
}

impl Node {
    /// Up to `most` of each partition.
    async fn due(&self, queue: Queue, most: usize) -> Result<Vec<Entry>, LedgerError> {
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
            .connection
            .call(Operation::Due, |mut connection| async move {
                pipe.query_async(&mut connection).await
            })
            .await?;
        let entries = found.into_iter().flatten();
        Ok(entries.map(|(member, at)| Entry { at, member }).collect())
    }

    async fn claim(
        &self,
        queue: Queue,
        partition: PartitionId,
        members: Vec<String>,
        visibility: Duration,
    ) -> Result<Vec<String>, LedgerError> {
        let mut script = self.shared.scripts.claim.key(queue(&self.shared.keys, partition));
        script.arg(micros(visibility)).arg(members);
        self.connection
            .call(Operation::Claim, |mut connection| async move {
                script.invoke_async(&mut connection).await
            })
            .await
    }
}
