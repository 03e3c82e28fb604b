//! One stream of the fleet: how far it has come in each partition, and timers.
//!
//! While it waits, it holds none of the readings. So streams whose callers do not read keep no old
//! states in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use tokio::time::{Duration, Instant, sleep_until};

use crate::drain::Phase;
use crate::ens::Ens;
use crate::failures::watch as failures;
use crate::ledger::{LedgerStore, PartitionId};
use crate::model::{Failure, InstanceId, Position, Timestamp};
use crate::telemetry::metrics::GaugeGuard;

use super::Hub;
use super::fleet::{
    Fleet, FleetEvent, FleetFilter, FleetScope, Mark, PartitionView, Readings, ResumeToken,
};
use super::limits::{Resume, StreamLimits, Watcher, messages};
use super::read::in_time;
use super::view::View;

/// Minimum time between two reads of the readings, so that a busy fleet wakes no stream for each
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
        let limits = StreamLimits::new(
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
        in_time(scope.until, fleet.answered(request), failures::fleet_unreadable).await?;
        let token = ResumeToken::resumed(scope.after.as_ref(), scope.digest);
        let watcher = FleetWatcher {
            snapshot: PartitionId::all().map(|_| Position::default()).collect(),
            progress: token.marks.iter().map(PartitionProgress::from).collect(),
            token,
            next_heartbeat: Instant::now() + self.settings.heartbeat,
            in_snapshot: true,
            pass: Pass::default(),
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
    limits: StreamLimits,
    fleet: Arc<Fleet>,
    /// The request for the present state that this stream made.
    request: u64,
    /// The positions up to which everything was sent.
    token: ResumeToken,
    /// For each partition, the position up to which the watcher holds nothing but what this stream
    /// sent.
    snapshot: Vec<Position>,
    /// One for each partition.
    progress: Vec<PartitionProgress>,
    /// Whether the initial instances are still being sent; a heartbeat ends them.
    in_snapshot: bool,
    pass: Pass,
    next_heartbeat: Instant,
    _open: GaugeGuard,
}

/// How far the stream has come in a partition. Records that cannot be read are left out, and the
/// token stays before the first of them. So a resumed stream sends them: another replica may be
/// able to read them.
struct PartitionProgress {
    /// The position up to which every instance was sent or left out. Above that of the token if one
    /// was left out.
    handled: Position,
    /// [`PartitionView::recoveries`] at the last pass.
    recoveries: u64,
}

impl From<&Mark> for PartitionProgress {
    fn from(mark: &Mark) -> Self {
        Self { handled: mark.position, recoveries: 0 }
    }
}

/// The changed instances of one partition that are still to be sent. A list that is fixed at first,
/// so that instances which change all the time do not hold up the others.
#[derive(Default)]
struct Pass {
    partition: PartitionId,
    /// The position up to which it lists the changes.
    through: Position,
    instances: VecDeque<(Position, InstanceId)>,
    /// Whether an instance after the token's position is left out. The token then stays there.
    leaves_out: bool,
}

impl Pass {
    fn new(
        partition: PartitionId,
        view: &PartitionView,
        after: Position,
        filter: &FleetFilter,
    ) -> Self {
        let changed = view.changed_since(after).filter(|(_, it)| filter.has_instance(it));
        let instances = changed.map(|(position, instance)| (position, instance.clone()));
        let through = view.position;
        Self { partition, through, instances: instances.collect(), ..Self::default() }
    }
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
            let version = match self.look() {
                Look::Message(message) => return message,
                Look::Nothing { version } => version,
            };
            let next_look = Instant::now() + BATCH;
            let newer = async {
                sleep_until(next_look).await;
                self.fleet.newer_than(version).await
            };
            tokio::select! {
                biased;
                () = self.hub.drain.reached(Phase::Draining) => {}
                newer = newer => {
                    if newer.is_err() {
                        return Some(Err(failures::unread()));
                    }
                }
                () = sleep_until(self.limits.ends()) => {}
                () = sleep_until(self.next_heartbeat) => {
                    return Some(Ok(self.heartbeat()));
                }
            }
        }
    }
}

/// What the stream does with the readings.
enum Look {
    /// It sends this, or ends.
    Message(Option<Result<FleetEvent, Failure>>),
    /// It waits for readings of another version.
    Nothing { version: u64 },
}

impl<L: LedgerStore, E: Ens> FleetWatcher<L, E> {
    fn look(&mut self) -> Look {
        let latest = self.fleet.latest();
        if let Some(event) = self.next_change(&latest) {
            return Look::Message(Some(Ok(event)));
        }
        let is_read = self.is_read(&latest);
        if self.in_snapshot && is_read {
            self.in_snapshot = false;
            return Look::Message(Some(Ok(self.heartbeat())));
        }
        if !self.scope.follow && self.has_ended(&latest) {
            let failed = latest.partitions.iter().find_map(|reading| reading.failed.as_ref());
            if let Some(error) = failed {
                return Look::Message(Some(Err(failures::fleet_unreadable(error))));
            }
            if is_read {
                return Look::Message(self.left_out(&latest).map(Err));
            }
        }
        Look::Nothing { version: latest.version }
    }

    /// Whether every partition was read since the call, and its last reading succeeded.
    fn is_read(&self, latest: &Readings) -> bool {
        let mut readings = latest.partitions.iter();
        readings.all(|reading| reading.answers >= self.request && reading.failed.is_none())
    }

    /// Why an instance in scope is left out, if one is.
    fn left_out(&self, latest: &Readings) -> Option<Failure> {
        let records = latest.partitions.iter().flat_map(|reading| reading.view.records());
        let mut left_out = records.filter_map(|(instance, record)| {
            let error = record.as_ref().err()?;
            let is_wanted = self.scope.filter.has_instance(instance);
            is_wanted.then(|| failures::fleet_incomplete(instance, error))
        });
        left_out.next()
    }

    fn heartbeat(&mut self) -> FleetEvent {
        let latest = self.fleet.latest();
        let is_complete =
            self.is_read(&latest) && self.left_out(&latest).is_none() && self.has_sent_all();
        let incomplete = self.in_snapshot || !is_complete;
        let interval = self.hub.settings.heartbeat;
        self.next_heartbeat = Instant::now() + interval;
        FleetEvent::Heartbeat { token: self.token.clone(), interval, incomplete }
    }

    /// Whether the stream has left out no instance that it has not sent since.
    fn has_sent_all(&self) -> bool {
        let mut all = self.token.marks.iter().zip(&self.progress);
        all.all(|(mark, progress)| mark.position == progress.handled)
    }

    /// Whether nothing in scope is known to be in flight or in doubt.
    fn has_ended(&self, latest: &Readings) -> bool {
        let filter = &self.scope.filter;
        let mut records = latest.partitions.iter().flat_map(|reading| reading.view.records());
        records.all(|(instance, record)| {
            // The policy last: it costs most, and almost everything has ended.
            let has_ended = |view: &Arc<View>| view.have_ended(|it| filter.has(it));
            record.as_ref().map_or(true, has_ended) || !filter.has_instance(instance)
        })
    }

    /// The next event, or `None` if everything in these readings was sent.
    fn next_change(&mut self, latest: &Readings) -> Option<FleetEvent> {
        if let Some(event) = self.next_of(latest) {
            return Some(event);
        }
        // The last one is the one before, which may have changed since its pass began.
        PartitionId::all().find_map(|_| {
            self.pass = self.pass_of(self.pass.partition.next(), latest);
            self.next_of(latest)
        })
    }

    /// A pass over a partition, which lists nothing before the partition was read for this stream.
    fn pass_of(&mut self, partition: PartitionId, latest: &Readings) -> Pass {
        let view = self.view_of(partition, latest);
        let (Some(view), Some(progress)) = (view, self.progress.get_mut(partition.index())) else {
            return Pass { partition, ..Pass::default() };
        };
        let mark = self.token.marks.get(partition.index()).copied().unwrap_or_default();
        let leaves_out = mark.position < progress.handled && progress.recoveries == view.recoveries;
        progress.recoveries = view.recoveries;
        // After a recovery, from the first instance that was left out.
        let after = if leaves_out { progress.handled } else { mark.position };
        Pass { leaves_out, ..Pass::new(partition, view, after, &self.scope.filter) }
    }

    /// The view of a partition, if it was read since the call. An older one may be of an older
    /// epoch than the token.
    fn view_of<'a>(
        &self,
        partition: PartitionId,
        latest: &'a Readings,
    ) -> Option<&'a PartitionView> {
        let reading = latest.partitions.get(partition.index())?;
        (reading.answers >= self.request).then_some(&*reading.view)
    }

    fn next_of(&mut self, latest: &Readings) -> Option<FleetEvent> {
        let partition = self.pass.partition;
        let view = self.view_of(partition, latest)?;
        let (life, filter) = (view.life?, &self.scope.filter);
        let mark = self.token.marks.get_mut(partition.index())?;
        let snapshot = self.snapshot.get_mut(partition.index())?;
        let progress = self.progress.get_mut(partition.index())?;
        if mark.life != Some(life) || progress.handled > view.position {
            let held = mark.life.is_some();
            *mark = Mark { life: Some(life), position: Position::default() };
            *snapshot = view.position;
            progress.handled = mark.position;
            self.pass = Pass::new(partition, view, mark.position, filter);
            if held {
                return Some(FleetEvent::Reset(partition));
            }
        }
        while let Some((position, instance)) = self.pass.instances.pop_front() {
            let is_change = position > progress.handled;
            progress.handled = progress.handled.max(position);
            // The state may be newer than the position. It is then sent once more.
            let seen = view.record(&instance);
            self.pass.leaves_out |= matches!(seen, Some(Err(_)));
            if !self.pass.leaves_out {
                mark.position = position;
            }
            let Some(Ok(seen)) = seen else {
                continue;
            };
            let attachments: Vec<_> =
                seen.attachments().filter(|it| filter.has(it)).cloned().collect();
            // The watcher may hold attachments of it that are not wanted any more.
            if attachments.is_empty() && position <= *snapshot {
                continue;
            }
            if is_change && !self.in_snapshot {
                // A position is the time of its change.
                let changed_at = Timestamp::from_micros(position.0);
                let now = self.hub.backends.ledger.store().now(&instance);
                self.hub.backends.metrics.watch_lagged(now.since(changed_at));
            }
            return Some(FleetEvent::Instance { instance, partition, attachments });
        }
        progress.handled = progress.handled.max(self.pass.through);
        if !self.pass.leaves_out {
            mark.position = progress.handled;
        }
        None
    }
}
