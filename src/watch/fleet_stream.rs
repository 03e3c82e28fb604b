//! One stream of the fleet: a mark for each partition, and timers.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::Stream;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use crate::drain::Phase;
use crate::ens::Ens;
use crate::failures::watch as failures;
use crate::ledger::{LedgerStore, PartitionId};
use crate::model::{Failure, Position, Timestamp};
use crate::telemetry::metrics::GaugeGuard;

use super::Hub;
use super::fleet::{Fleet, FleetEvent, FleetScope, Mark, Readings, ResumeToken};
use super::limits::{Limits, Resume, Watcher, messages};

/// Minimum time between two looks at the readings, so that a busy fleet wakes no stream for each
/// change.
const BATCH: Duration = Duration::from_millis(50);

impl<L: LedgerStore, E: Ens> Hub<L, E> {
    /// A stream of the attachments of all instances in scope: each instance that changed after
    /// `scope.after`, a heartbeat, then each that changes. Without `scope.follow` it ends with OK
    /// when nothing in scope is in flight. It never calls ENS.
    ///
    /// # Errors
    /// `COORDINATION_UNAVAILABLE` if no partition of the ledger can be read.
    ///
    /// The stream ends with `DRAINING`, `STREAM_TOO_OLD`, the code `DEADLINE_EXCEEDED`, or without
    /// `follow` with `COORDINATION_UNAVAILABLE` if a partition cannot be read.
    pub async fn watch_fleet(
        self: &Arc<Self>,
        scope: FleetScope,
    ) -> Result<impl Stream<Item = Result<FleetEvent, Failure>> + Send + use<L, E>, Failure> {
        let limits = Limits::new(
            Resume::Token,
            self.settings,
            self.drain.clone(),
            scope.until,
            Instant::now(),
        );
        if let Some(failure) = limits.end() {
            return Err(failure);
        }
        let fleet = self.fleet.of_with(&(), || Fleet::new(&self.backends.ledger, &self.tasks));
        let request = fleet.request();
        let answered = fleet.answered(request);
        let answered = match scope.until {
            None => answered.await,
            Some(until) => {
                let late = |_| failures::deadline(Resume::Token.field());
                timeout_at(until, answered).await.map_err(late)?
            }
        };
        answered.map_err(|error| failures::fleet_unreadable(&error))?;
        let watcher = FleetWatcher {
            token: ResumeToken::resumed(scope.after.as_ref(), scope.digest),
            snapshot: PartitionId::all().map(|_| Position::default()).collect(),
            latest: fleet.latest(),
            looked_at: Instant::now(),
            next_heartbeat: Instant::now() + self.settings.heartbeat,
            in_snapshot: true,
            next_partition: 0,
            _open: self.backends.metrics.watch_stream(),
            hub: self.clone(),
            scope,
            limits,
            fleet,
            request,
        };
        Ok(messages(watcher))
    }
}

/// The state of a stream.
struct FleetWatcher<L, E> {
    hub: Arc<Hub<L, E>>,
    scope: FleetScope,
    limits: Limits,
    fleet: Arc<Fleet>,
    /// The request for the present state that this stream made.
    request: u64,
    latest: Readings,
    looked_at: Instant,
    /// What was sent.
    token: ResumeToken,
    /// For each partition, the position up to which the watcher holds nothing but what this stream
    /// sent.
    snapshot: Vec<Position>,
    /// Whether the initial instances are still being sent; a heartbeat ends them.
    in_snapshot: bool,
    next_partition: usize,
    next_heartbeat: Instant,
    _open: GaugeGuard,
}

impl<L: LedgerStore, E: Ens> Watcher for FleetWatcher<L, E> {
    type Event = FleetEvent;

    async fn next(&mut self) -> Option<Result<FleetEvent, Failure>> {
        loop {
            if let Some(failure) = self.limits.end() {
                return Some(Err(failure));
            }
            if self.next_heartbeat <= Instant::now() {
                return Some(Ok(self.heartbeat()));
            }
            if let Some(event) = self.next_change() {
                return Some(Ok(event));
            }
            let is_current = self.is_current();
            if self.in_snapshot && is_current {
                self.in_snapshot = false;
                return Some(Ok(self.heartbeat()));
            }
            if !self.scope.follow && self.has_ended() {
                match self.unreadable() {
                    Some(failure) => return Some(Err(failure)),
                    None if is_current => return None,
                    None => {}
                }
            }
            let (fleet, latest, next_look) = (&self.fleet, &self.latest, self.looked_at + BATCH);
            let newer = async {
                sleep_until(next_look).await;
                fleet.newer_than(latest).await
            };
            tokio::select! {
                biased;
                () = self.hub.drain.reached(Phase::Draining) => {}
                newer = newer => {
                    if newer.is_err() {
                        return Some(Err(failures::unread()));
                    }
                    self.latest = self.fleet.latest();
                    self.looked_at = Instant::now();
                }
                () = sleep_until(self.limits.ends()) => {}
                () = sleep_until(self.next_heartbeat) => {
                    return Some(Ok(self.heartbeat()));
                }
            }
        }
    }
}

impl<L: LedgerStore, E: Ens> FleetWatcher<L, E> {
    /// Whether every partition was read since the call, and its last reading succeeded.
    fn is_current(&self) -> bool {
        let mut readings = self.latest.partitions.iter();
        readings.all(|reading| reading.answers >= self.request && reading.failed.is_none())
    }

    /// Why a partition cannot be read, if one cannot.
    fn unreadable(&self) -> Option<Failure> {
        let failed = self.latest.partitions.iter().find_map(|reading| reading.failed.as_ref());
        failed.map(failures::fleet_unreadable)
    }

    fn heartbeat(&mut self) -> FleetEvent {
        let incomplete = self.in_snapshot || !self.is_current();
        let interval = self.hub.settings.heartbeat;
        self.next_heartbeat = Instant::now() + interval;
        FleetEvent::Heartbeat { token: self.token.clone(), interval, incomplete }
    }

    /// Whether nothing in scope is in flight or in doubt.
    fn has_ended(&self) -> bool {
        let filter = &self.scope.filter;
        let readings = self.latest.partitions.iter();
        let mut instances = readings.flat_map(|reading| reading.view.instances.values());
        instances.all(|seen| {
            // The policy last: it costs most, and almost everything has ended.
            let has_ended = seen.view.have_ended(|attachment| filter.has(attachment));
            has_ended || !filter.has_instance(&seen.instance)
        })
    }

    fn next_change(&mut self) -> Option<FleetEvent> {
        let count = PartitionId::all().count();
        let from = self.next_partition;
        for partition in PartitionId::all().cycle().skip(from).take(count) {
            if let Some(event) = self.next_of(partition) {
                self.next_partition = partition.index();
                return Some(event);
            }
        }
        None
    }

    fn next_of(&mut self, partition: PartitionId) -> Option<FleetEvent> {
        let index = partition.index();
        let reading = self.latest.partitions.get(index)?;
        let mark = self.token.marks.get_mut(index)?;
        let snapshot = self.snapshot.get_mut(index)?;
        // An older view may be of an older epoch than the token.
        let view = Some(&reading.view).filter(|_| reading.answers >= self.request)?;
        let life = view.life?;
        if mark.life != Some(life) || mark.position > view.position {
            let held = mark.life.is_some();
            *mark = Mark { life: Some(life), position: Position::default() };
            *snapshot = view.position;
            if held {
                return Some(FleetEvent::Reset(partition));
            }
        }
        let filter = &self.scope.filter;
        let changed = (Bound::Excluded(mark.position), Bound::Unbounded);
        for (position, seen) in view.instances.range(changed) {
            mark.position = *position;
            if !filter.has_instance(&seen.instance) {
                continue;
            }
            let attachments = seen.view.attachments().filter(|attachment| filter.has(attachment));
            let attachments: Vec<_> = attachments.cloned().collect();
            // The watcher may hold attachments of it that are not wanted any more.
            if attachments.is_empty() && position <= snapshot {
                continue;
            }
            if !self.in_snapshot {
                // A position is the time of its change. What is left out has no other.
                let changed_at = Timestamp::from_micros(position.0);
                let now = self.hub.backends.ledger.store().now(&seen.instance);
                self.hub.backends.metrics.watch_lagged(now.since(changed_at));
            }
            let instance = seen.instance.clone();
            return Some(FleetEvent::Instance { instance, partition, attachments });
        }
        mark.position = mark.position.max(view.position);
        None
    }
}
