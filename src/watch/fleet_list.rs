//! Pages of the attachments of all instances, straight from the ledger.
//!
//! Within a partition the order is that of the last changes. So an instance that changes between
//! two pages may be shown again, in its newer state, but is never left out.

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::ens::Ens;
use crate::failures::watch as failures;
use crate::ledger::PartitionId;
use crate::ledger::{ChangedInstances, LedgerError, LedgerStore};
use crate::model::{Attachment, Failure, Position};

use super::Hub;
use super::fleet::{FleetFilter, FleetPage, ListPosition};
use super::read::patience;

/// Maximum number of instances in one list.
const LISTED: usize = 50;
/// Number of partitions, and of records, that one call reads at once.
const AT_ONCE: usize = 8;

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// A page of at most `size` wanted attachments of all instances. After half of the deadline it
    /// returns what it has. It never calls ENS.
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
        let late = |_| Err(LedgerError::not_applied("it did not answer in time"));
        let page = timeout_at(deadline, page).await.unwrap_or_else(late);
        page.map_err(|error| failures::fleet_unreadable(&error))
    }

    async fn page(
        &self,
        filter: &FleetFilter,
        from: ListPosition,
        size: usize,
        until: Instant,
    ) -> Result<FleetPage, LedgerError> {
        let store = self.backends.ledger.store();
        let mut page = FleetPage::default();
        let mut last = from.clone();
        let rest = PartitionId::all().skip(from.partition);
        let mut partitions = stream::iter(rest)
            .map(|partition| {
                let list = store.changed_since(partition, from.after(partition), LISTED);
                async move { (partition, list.await) }
            })
            .buffered(AT_ONCE);
        while let Some((partition, changed)) = partitions.next().await {
            let mut changed = changed?;
            loop {
                let is_last = changed.instances.len() < LISTED;
                for (position, attachments) in self.attachments(filter, changed).await? {
                    let here = ListPosition { partition: partition.index(), position, eni: None };
                    let seen = from.eni.as_ref().filter(|_| {
                        (from.partition, from.position) == (here.partition, here.position)
                    });
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
                    last = ListPosition {
                        partition: partition.index() + 1,
                        ..ListPosition::default()
                    };
                }
                if Instant::now() >= until {
                    page.next = Some(last);
                    return Ok(page);
                }
                if is_last {
                    break;
                }
                changed = store.changed_since(partition, last.position, LISTED).await?;
            }
        }
        Ok(page)
    }

    /// The wanted attachments of each of these instances.
    async fn attachments(
        &self,
        filter: &FleetFilter,
        changed: ChangedInstances,
    ) -> Result<Vec<(Position, Vec<Attachment>)>, LedgerError> {
        let store = self.backends.ledger.store();
        let read = stream::iter(changed.instances).map(|(position, instance)| async move {
            if !filter.has_instance(&instance) {
                return Ok((position, Vec::new()));
            }
            let _permit = self.list_reads.acquire().await;
            let record = store.read(&instance, None).await?.record;
            let attachments = record.attempts.values().map(|attempt| attempt.attachment());
            Ok((position, attachments.filter(|attachment| filter.has(attachment)).collect()))
        });
        let read: Vec<Result<_, LedgerError>> = read.buffered(AT_ONCE).collect().await;
        read.into_iter().collect()
    }
}
