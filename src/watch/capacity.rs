//! The free slots of instances: what the ledger knows and, where that is too old, what ENS shows.
//! Reserves nothing. What is not known stays unknown, and has a reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;

use crate::admission::Peer;
use crate::ens::Ens;
use crate::failures::{Operation, attach, watch as failures};
use crate::ledger::apply::{Context, Slots};
use crate::ledger::{LedgerStore, MAX_CLOCK_DIFFERENCE, Snapshot};
use crate::model::{Failure, InstanceId, Timestamp};
use crate::observe::InstanceStates;
use crate::rate_limit::{Permit, PermitError};

use super::read::patience;
use super::{Hub, ReadCall};

/// Maximum wait for the permit of the call for all states.
const PERMIT_WITHIN: Duration = Duration::from_secs(1);
/// Maximum number of records that one call reads at once. Each takes a place among the reads.
pub const RECORDS_AT_ONCE: usize = 16;
/// Number of instances that one call describes at once.
const AT_ONCE: usize = 8;

/// The slots of one instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Capacity {
    /// The instance.
    pub instance: InstanceId,
    /// The limit in force.
    pub limit: usize,
    /// ENIs that use a slot in ENS.
    pub attached: Option<usize>,
    /// Slots of attaches in flight that ENS does not show yet.
    pub in_flight: Option<usize>,
    /// Free slots.
    pub free: Option<usize>,
    /// Number of tickets that wait for the lock.
    pub queue_length: usize,
    /// Its state in ENS, verbatim.
    pub status: Option<String>,
    /// When the describe behind `attached` was sent.
    pub observed_at: Option<Timestamp>,
    /// Why something is unknown, or older than the call permits.
    pub problem: Option<Failure>,
}

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// The slots of one instance.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if the ledger fails; `INSTANCE_NOT_FOUND`; the reason of a failed
    /// describe, if nothing is known.
    pub async fn capacity(
        self: &Arc<Self>,
        instance: &InstanceId,
        max_age: Duration,
        call: ReadCall,
    ) -> Result<Capacity, Failure> {
        let one = std::slice::from_ref(instance);
        let capacity = self.capacities(one, max_age, call).await.pop();
        let capacity = capacity.unwrap_or_else(|| Err(attach::unknown_instance()))?;
        match &capacity.problem {
            Some(problem) if capacity.attached.is_none() && capacity.status.is_none() => {
                Err(problem.clone())
            }
            _ => Ok(capacity),
        }
    }

    /// The slots of each instance, in this order, from describes sent within `max_age`. Each
    /// instance whose last describe is older is described, the oldest first, where the budget has a
    /// permit for a read at once. Then one call describes the states of all. All this takes half of
    /// the deadline at most.
    ///
    /// Each may have the error `COORDINATION_UNAVAILABLE`.
    pub async fn capacities(
        self: &Arc<Self>,
        instances: &[InstanceId],
        max_age: Duration,
        call: ReadCall,
    ) -> Vec<Result<Capacity, Failure>> {
        let until = patience(Some(call.deadline));
        let read = |(index, instance): (usize, &InstanceId)| {
            let (hub, instance) = (self.clone(), instance.clone());
            async move { (index, hub.read_record(&instance, call.deadline).await) }
        };
        // Only so many reads exist at once: each takes kilobytes.
        let reads = stream::iter(instances.iter().enumerate().map(read));
        let mut records: Vec<_> =
            reads.buffered(RECORDS_AT_ONCE).map(|(_, record)| record).collect().await;
        let mut old: Vec<_> = instances
            .iter()
            .zip(&records)
            .filter_map(|(instance, record)| {
                let snapshot = record.as_ref().ok()?;
                let observed_at = observed_at(snapshot);
                let is_old = observed_at.is_none_or(|at| snapshot.now.since(at) >= max_age);
                is_old.then(|| (observed_at, instance.clone()))
            })
            .collect();
        old.sort();
        let describes: BTreeMap<_, _> = stream::iter(old)
            .map(|(_, instance)| {
                let hub = self.clone();
                async move {
                    let describe = hub.discover(&instance, call.peer, Some(until)).await;
                    (instance, describe)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        // After the slots, because these are what a small budget should be used for.
        let (ours, permit) = ((&self.backends, &self.tasks), self.soon_read_permit(call.peer));
        let states = self.states.describe(ours, instances, max_age, permit, until).await;
        let described = |(_, instance): &(usize, &InstanceId)| {
            describes.get(*instance).is_some_and(Result::is_ok)
        };
        let rereads = stream::iter(instances.iter().enumerate().filter(described).map(read));
        let mut rereads = rereads.buffer_unordered(RECORDS_AT_ONCE);
        while let Some((index, record)) = rereads.next().await {
            records[index] = record;
        }
        let capacities = instances.iter().zip(records).map(|(instance, record)| {
            let last_describe = describes.get(instance);
            record.map(|snapshot| self.count(instance, &snapshot, last_describe, &states))
        });
        capacities.collect()
    }

    /// A permit for one describe of a read, for which it waits a second at most. One permit a
    /// second may be all that a small budget has for reads. Few calls wait: each holds places.
    fn soon_read_permit(
        self: &Arc<Self>,
        peer: Peer,
    ) -> impl Future<Output = Result<Permit, PermitError>> + Send + use<L, E> {
        let hub = self.clone();
        async move {
            let wait = match hub.try_read_permit(peer).await {
                Err(PermitError::DeadlineExceeded { wait }) if wait <= PERMIT_WITHIN => wait,
                permit => return permit,
            };
            match hub.permit_waits.acquire(1, Duration::ZERO, peer, None).await {
                Ok(_waits) => {
                    tokio::time::sleep(wait).await;
                    hub.try_read_permit(peer).await
                }
                Err(_) => Err(PermitError::DeadlineExceeded { wait }),
            }
        }
    }

    /// The slots by one record, after the describes.
    fn count(
        &self,
        instance: &InstanceId,
        snapshot: &Snapshot,
        last_describe: Option<&Result<Timestamp, Failure>>,
        states: &InstanceStates,
    ) -> Capacity {
        let bounds = &self.backends.ledger.bounds().among(snapshot.partition.shared);
        let Snapshot { record, partition, now, .. } = snapshot;
        let slots =
            Slots::of(record, Context { bounds, instance, partition, request: None, now: *now });
        let unknown = Capacity {
            instance: instance.clone(),
            limit: slots.limit,
            attached: None,
            in_flight: None,
            free: None,
            queue_length: snapshot.queue_length(),
            status: states.states.get(instance).cloned().flatten(),
            observed_at: None,
            problem: None,
        };
        if !states.may_exist(instance) {
            let problem = attach::unknown_instance().with("instanceId", instance);
            return Capacity { problem: Some(problem), ..unknown };
        }
        let sent_at = last_describe.and_then(|describe| describe.as_ref().ok()).copied();
        let observed_at = observed_at(snapshot).max(sent_at);
        // Sends that the ledger forgot may still arrive.
        let recovers_until = Some(partition.hold_down_until).filter(|until| now < until);
        let is_settled = recovers_until.is_none();
        let describe_error = last_describe.and_then(|describe| describe.as_ref().err()).cloned();
        let stateless = || {
            let error = states.error.as_ref().filter(|_| unknown.status.is_none());
            error.map(|error| Operation::Read(instance).not_observed(error))
        };
        let recovering = || recovers_until.map(|until| failures::recovering(instance, until, *now));
        Capacity {
            attached: observed_at.map(|_| slots.attached),
            in_flight: is_settled.then_some(slots.in_flight),
            free: observed_at.filter(|_| is_settled).map(|_| slots.free),
            observed_at,
            problem: describe_error.or_else(stateless).or_else(recovering),
            ..unknown
        }
    }
}

/// When the last describe that counts was sent. One from the future is of unknown age. One from a
/// hold-down that is over may be too early for an attach that the ledger lost.
fn observed_at(snapshot: &Snapshot) -> Option<Timestamp> {
    let Snapshot { partition, now, .. } = snapshot;
    let since = Some(partition.hold_down_until).filter(|until| until <= now).unwrap_or_default();
    let counts = |at: &Timestamp| *at >= since && *at <= *now + MAX_CLOCK_DIFFERENCE;
    snapshot.observed_at().filter(counts)
}
