//! Pages of the attachments of all instances, straight from the ledger.
//!
//! Within a partition the order is that of the last changes. So an instance that changes between
//! two pages may be shown again, in its newer state, but is never left out. If the epoch changes,
//! the positions are void, and the partition is shown from its start.

use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::ens::Ens;
use crate::failures::watch as failures;
use crate::ledger::PartitionId;
use crate::ledger::{ChangedInstances, LedgerError, LedgerStore};
use crate::model::{Attachment, Failure, InstanceId, Position};

use super::Hub;
use super::fleet::{FleetFilter, FleetPage, Life, ListPosition, Mark, log_unreadable};
use super::read::{in_time, patience};

/// Maximum number of instances in one list.
const LISTED: usize = 50;
/// Number of partitions, and of records, that one call reads at once.
const AT_ONCE: usize = 8;

/// The attachments of one instance, or why its record cannot be read.
type ReadAttachments = Result<Vec<Attachment>, LedgerError>;

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// A page of at most `size` wanted attachments of all instances. After half of the deadline it
    /// returns what it has. It never calls ENS. An instance whose record cannot be read is left
    /// out and logged, and [`FleetPage::incomplete`] is set.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if a partition of the ledger cannot be read.
    pub async fn list_fleet(
        &self,
        filter: &FleetFilter,
        from: ListPosition,
        size: usize,
        deadline: Instant,
    ) -> Result<FleetPage, Failure> {
        let page = self.page(filter, from, size, patience(Some(deadline)));
        in_time(Some(deadline), page, failures::fleet_unreadable).await
    }

    async fn page(
        &self,
        filter: &FleetFilter,
        from: ListPosition,
        size: usize,
        until: Instant,
    ) -> Result<FleetPage, LedgerError> {
        let mut page = FleetPage::default();
        let mut last = from.clone();
        let rest = PartitionId::all().skip(from.partition);
        let mut partitions = stream::iter(rest)
            .map(|partition| {
                let list = self.changed_since(partition, from.after(partition));
                async move { (partition, list.await) }
            })
            .buffered(AT_ONCE);
        while let Some((partition, changed)) = partitions.next().await {
            let mut changed = changed?;
            loop {
                let is_last = changed.instances.len() < LISTED;
                let life = Some(Life::of(&changed.partition));
                for (position, instance, read) in self.attachments(filter, changed).await? {
                    let mark = Mark { life, position };
                    let here = ListPosition { mark, ..ListPosition::start_of(partition.index()) };
                    let is_resumed = (from.partition, from.mark) == (here.partition, mark);
                    let seen = from.eni.as_ref().filter(|_| is_resumed);
                    let attachments = match read {
                        Ok(attachments) => attachments,
                        Err(error) => {
                            // Here, because the next page may read what is behind this one again.
                            log_unreadable(&instance, &error);
                            page.incomplete = true;
                            last = here;
                            continue;
                        }
                    };
                    for attachment in attachments.into_iter().filter(|it| Some(&it.eni) > seen) {
                        if page.attachments.len() == size {
                            page.next = Some(last);
                            return Ok(page);
                        }
                        last = ListPosition { eni: Some(attachment.eni.clone()), ..here.clone() };
                        page.attachments.push(attachment);
                    }
                    last = here;
                }
                if is_last {
                    match ListPosition::behind(partition) {
                        Some(next) => last = next,
                        None => return Ok(page),
                    }
                }
                if Instant::now() >= until {
                    page.next = Some(last);
                    return Ok(page);
                }
                if is_last {
                    break;
                }
                changed = self.changed_since(partition, last.mark).await?;
            }
        }
        Ok(page)
    }

    /// The instances of a partition that changed after the mark, or all of them if the mark is of
    /// another epoch.
    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Mark,
    ) -> Result<ChangedInstances, LedgerError> {
        let store = self.backends.ledger.store();
        let changed = store.changed_since(partition, after.position, LISTED).await?;
        let is_same_life = after.life == Some(Life::of(&changed.partition));
        let is_start = after.position == Position::default();
        if is_start || (is_same_life && after.position <= changed.last) {
            return Ok(changed);
        }
        store.changed_since(partition, Position::default(), LISTED).await
    }

    /// The wanted attachments of each of these instances, or why its record cannot be read.
    async fn attachments(
        &self,
        filter: &FleetFilter,
        changed: ChangedInstances,
    ) -> Result<Vec<(Position, InstanceId, ReadAttachments)>, LedgerError> {
        let read = stream::iter(changed.instances).map(|(position, instance)| async move {
            let read = if filter.has_instance(&instance) {
                match self.attachments_of(filter, &instance).await {
                    Err(error) if error.is_unreadable() => Err(error),
                    attachments => Ok(attachments?),
                }
            } else {
                Ok(Vec::new())
            };
            Ok((position, instance, read))
        });
        let read: Vec<Result<_, LedgerError>> = read.buffered(AT_ONCE).collect().await;
        read.into_iter().collect()
    }

    async fn attachments_of(
        &self,
        filter: &FleetFilter,
        instance: &InstanceId,
    ) -> Result<Vec<Attachment>, LedgerError> {
        let _permit = self.list_reads.acquire().await;
        let record = self.backends.ledger.store().read(instance, None).await?.record;
        let attachments = record.attempts.values().map(|attempt| attempt.attachment());
        Ok(attachments.filter(|attachment| filter.has(attachment)).collect())
    }
}
