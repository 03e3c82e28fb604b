//! Claiming what is due, attempts or comparisons: a look into all partitions, and then the earliest of them by name.
//!
//! Two trips, for order over partitions and for no more claims than asked for. What another replica claimed in between is left
//! out, so there may be fewer than are due; the next tick sees the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::ledger::keys::{Keys, PartitionId, parse_due_member};
use crate::ledger::tokens::micros;
use crate::ledger::{Due, Unavailable};
use crate::model::InstanceId;

use super::Core;
use super::link::Operation;

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

    /// The members of the partitions' sorted sets, as `queue` names these, that are due; earliest first.
    async fn claim_from(
        &self,
        queue: fn(&Keys, PartitionId) -> String,
        most: usize,
        visibility: Duration,
    ) -> Result<Vec<String>, Unavailable> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut earliest = self.due(queue, most).await?;
        earliest.sort_unstable_by(|(at, _, member), (other, _, than)| at.total_cmp(other).then(member.cmp(than)));
        earliest.truncate(most);
        if earliest.is_empty() {
            return Ok(Vec::new());
        }

        let mut members: BTreeMap<PartitionId, Vec<&str>> = BTreeMap::new();
        for (_, partition, member) in &earliest {
            members.entry(*partition).or_default().push(member);
        }
        let claimed: Vec<Vec<String>> = self
            .link
            .call(Operation::Claim, |connection| {
                try_join_all(members.into_iter().map(move |(partition, members)| {
                    let mut connection = connection.clone();
                    async move {
                        let mut script = self.scripts.claim.key(queue(&self.keys, partition));
                        script
                            .arg(micros(visibility))
                            .arg(members)
                            .invoke_async(&mut connection)
                            .await
                    }
                }))
            })
            .await?;
        let claimed: BTreeSet<String> = claimed.into_iter().flatten().collect();
        let members = earliest.into_iter().map(|(.., member)| member);
        Ok(members.filter(|member| claimed.contains(member)).collect())
    }

    /// Up to `most` of each partition, with when they were due.
    async fn due(
        &self,
        queue: fn(&Keys, PartitionId) -> String,
        most: usize,
    ) -> Result<Vec<(f64, PartitionId, String)>, Unavailable> {
        let mut pipe = redis::pipe();
        for partition in PartitionId::all() {
            let command = pipe.cmd("ZRANGEBYSCORE").arg(queue(&self.keys, partition)).arg("-inf");
            command
                .arg(self.clock.now().as_micros())
                .arg("WITHSCORES")
                .arg("LIMIT")
                .arg(0)
                .arg(most);
        }
        let found: Vec<Vec<(String, f64)>> = self
            .link
            .call(Operation::Due, |mut connection| async move {
                pipe.query_async(&mut connection).await
            })
            .await?;
        let found = PartitionId::all().zip(found);
        Ok(found
            .flat_map(|(at, due)| due.into_iter().map(move |(member, time)| (time, at, member)))
            .collect())
    }
}
