//! One gateway's connection to the ledger: slow or lost messages, an unreachable or replaced
//! server, late or lost notifications.

mod server;
mod server_view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ledger::keys::PartitionId;
use eni_gateway::ledger::{
    BootInstant, ChangeNotifier, ChangedInstances, Due, LedgerError, LedgerHealth, LedgerStore,
    Partition, Proposal, RequestKey, Snapshot, Verdict,
};
use eni_gateway::model::{InstanceId, Outage, Position, Timestamp};
use eni_gateway::rate_limit::{RateLimitDecision, RateLimitRequest, RateLimitStore};
use tokio::time::Instant;

use crate::checks::Clock;
use crate::mutation::Mutation;
use crate::network::exchange;
use crate::process_state::ProcessState;
use crate::run::Simulation;

pub(crate) use server::Server;
use server_view::ServerView;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Time until a refused connection is known.
const REFUSED: Duration = Duration::from_millis(5);

/// One gateway's connection. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    simulation: Arc<Simulation>,
    process: ProcessState,
    gateway: String,
    view: Mutex<Arc<ServerView>>,
    /// Since when no server is reachable.
    cut: Mutex<Option<Instant>>,
    changes: ChangeNotifier,
    /// Each partition as it was seen last.
    seen: Mutex<BTreeMap<usize, Partition>>,
}

impl Link {
    pub(crate) fn new(
        simulation: Arc<Simulation>,
        process: ProcessState,
        gateway: String,
        server: Arc<Server>,
    ) -> Self {
        Self(Arc::new(Shared {
            simulation,
            process,
            gateway,
            view: Mutex::new(Arc::new(ServerView::new(server))),
            cut: Mutex::default(),
            changes: ChangeNotifier::default(),
            seen: Mutex::default(),
        }))
    }

    /// Goes to another server from now on, and reads again what may have changed there.
    pub(crate) fn turn_to(&self, server: Arc<Server>) {
        *self.0.view.lock().unwrap() = Arc::new(ServerView::new(server));
        self.0.changes.notify_all();
    }

    /// Cuts the connection, or mends it.
    pub(crate) fn cut(&self, cut: bool) {
        let since = {
            let mut since = self.0.cut.lock().unwrap();
            let now = cut.then(|| since.unwrap_or_else(Instant::now));
            std::mem::replace(&mut *since, now)
        };
        if !cut && since.is_some() {
            self.0.changes.notify_all();
        }
    }

    /// How long it has been cut by now; `None`: it is not.
    pub(crate) fn cut_for(&self) -> Option<Duration> {
        self.0.cut.lock().unwrap().map(|since| since.elapsed())
    }

    pub(crate) fn server(&self) -> Arc<Server> {
        self.view().server.clone()
    }

    fn view(&self) -> Arc<ServerView> {
        self.0.view.lock().unwrap().clone()
    }

    pub(crate) fn hint(&self, instance: &InstanceId) {
        self.0.changes.notify(instance);
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Link, &Server) -> T + Send + 'static,
    ) -> Result<T, LedgerError> {
        let Shared { simulation, process, gateway, .. } = &*self.0;
        if let Some(down_for) = self.cut_for() {
            process.pass().await;
            tokio::time::sleep(REFUSED).await;
            return Err(LedgerError::not_applied("connection refused").with_outage(down_for));
        }
        let (link, quality) = (self.clone(), simulation.ledger_network());
        let sent = BootInstant::now();
        let work = async move {
            let view = link.view();
            let answer = work(&link, &view.server);
            let written = view.server.now();
            (answer, written, view)
        };
        let answer = exchange(simulation, process, quality, PATIENCE, work).await;
        let (answer, written, view) =
            answer.map_err(|_| LedgerError::outcome_unknown("no answer in time"))?;
        if self.cut_for().is_some() {
            return Err(LedgerError::outcome_unknown("the connection was lost"));
        }
        view.learn(simulation, gateway, written, sent);
        Ok(answer)
    }

    fn calls(&self, instance: &InstanceId, request: Option<&RequestKey>) {
        let Shared { simulation, gateway, .. } = &*self.0;
        simulation.progress.calls_ledger(simulation, gateway, instance, request);
    }

    fn record_read(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        snapshot: &Snapshot,
    ) {
        let (index, partition) = (PartitionId::of(instance).index(), &snapshot.partition);
        if let Some(request) = request {
            self.0.simulation.checks.record_answer(request.id, &snapshot.record);
        }
        self.0.seen.lock().unwrap().insert(index, partition.clone());
        let Shared { simulation, .. } = &*self.0;
        let left = partition.hold_down_until.since(self.server().now());
        if !left.is_zero() && simulation.is_attached_to(instance) {
            let now = simulation.history.elapsed();
            simulation.progress.record_hold_down(instance, now, left, &simulation.plan.bounds);
        }
    }
}

impl RateLimitStore for Link {
    async fn take(&self, request: RateLimitRequest) -> Result<RateLimitDecision, Outage> {
        let Shared { simulation, gateway, .. } = &*self.0;
        let now = || simulation.history.elapsed();
        simulation.progress.ordered(gateway, request, now());
        if let Some(wait) = Mutation::starves(&simulation.plan, request) {
            return Ok(RateLimitDecision::Wait(wait));
        }
        let reply = self.ask(move |_, server| server.take(request)).await?;
        if let (RateLimitRequest::Take(bucket, _), RateLimitDecision::Probe) = (request, reply) {
            simulation.progress.probe(gateway, bucket, now());
            tokio::time::sleep(Mutation::keeps_probe(&simulation.plan)).await;
        }
        Ok(reply)
    }
}

impl LedgerStore for Link {
    async fn read_since(
        &self,
        instance: &InstanceId,
        request: Option<&RequestKey>,
        known: &Snapshot,
    ) -> Result<Snapshot, LedgerError> {
        self.calls(instance, request);
        let (id, key) = (instance.clone(), request.cloned());
        let stored = self.ask(move |_, server| server.read(&id, key.as_ref())).await?;
        let snapshot = stored.or_known(known);
        self.record_read(instance, request, &snapshot);
        Ok(snapshot)
    }

    async fn commit(&self, proposal: &Proposal) -> Result<Verdict, LedgerError> {
        self.calls(&proposal.instance, proposal.request.as_ref());
        let sent = proposal.clone();
        let verdict = self
            .ask(move |link, server| {
                let Shared { simulation, gateway, .. } = &*link.0;
                let commit = server.commit(&sent);
                if let Some(before) = &commit.before {
                    if writes_send(&sent) {
                        simulation.reserved.notify_waiters();
                    }
                    let lost = !std::ptr::eq(server, Arc::as_ptr(&simulation.primary()));
                    simulation.committed(gateway, &sent, before, Clock { now: server.now(), lost });
                }
                commit.verdict
            })
            .await?;
        if let Verdict::Conflict(found) = &verdict {
            self.record_read(&proposal.instance, proposal.request.as_ref(), found);
        }
        Ok(verdict)
    }

    async fn confirm(&self, _instance: &InstanceId, _epoch: &str) -> Result<(), LedgerError> {
        let Shared { simulation, .. } = &*self.0;
        tokio::time::sleep(Mutation::idles(&simulation.plan)).await;
        // Its replicas are not waited for: a failover that loses writes is followed by a hold-down.
        Ok(())
    }

    async fn due(&self, most: usize) -> Result<Vec<Due>, LedgerError> {
        self.ask(move |_, server| server.due(most)).await
    }

    async fn claim(&self, due: Vec<Due>, visibility: Duration) -> Result<Vec<Due>, LedgerError> {
        self.ask(move |_, server| server.claim(due, visibility)).await
    }

    async fn due_reconciliations(&self, most: usize) -> Result<Vec<InstanceId>, LedgerError> {
        self.ask(move |_, server| server.due_reconciliations(most)).await
    }

    async fn claim_reconciliations(
        &self,
        due: Vec<InstanceId>,
        visibility: Duration,
    ) -> Result<Vec<InstanceId>, LedgerError> {
        self.ask(move |_, server| server.claim_reconciliations(due, visibility)).await
    }

    async fn changed_since(
        &self,
        partition: PartitionId,
        after: Position,
        most: usize,
    ) -> Result<ChangedInstances, LedgerError> {
        self.ask(move |_, server| server.changed_since(partition, after, most)).await
    }

    fn changes(&self) -> &ChangeNotifier {
        &self.0.changes
    }

    fn now(&self, _instance: &InstanceId) -> Timestamp {
        self.view().now()
    }

    fn partition(&self, instance: &InstanceId) -> Partition {
        let seen = self.0.seen.lock().unwrap();
        seen.get(&PartitionId::of(instance).index()).cloned().unwrap_or_default()
    }

    fn health(&self) -> LedgerHealth {
        let up = self.cut_for().is_none();
        LedgerHealth { up, reached: true, ..LedgerHealth::default() }
    }
}

/// Whether it reserves a slot for a send.
fn writes_send(proposal: &Proposal) -> bool {
    let attempts = proposal.record.attempts.values();
    attempts.flat_map(|attempt| &attempt.sends).any(|send| send.at == proposal.now)
}
