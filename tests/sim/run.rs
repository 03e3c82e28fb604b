//! One run of one seed, from its first call to its verdict.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use eni_gateway::ledger::{Proposal, Record};
use eni_gateway::model::{InstanceId, Timestamp, random};
use eni_gateway::simulator::{self, Action, EniSpec, Fault, Instance, World, WorldFile};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::checks::{Checks, Clock, Violation};
use crate::history::{Account, History};
use crate::ledger::Server;
use crate::mutation::Mutation;
use crate::network::Quality;
use crate::node::Node;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::{callers, crowd, faults, final_checks, fleet, watchers};

/// Instances beyond the planned ones that a crowd's readers ask about.
pub(crate) const QUIET: usize = 40;

/// When every simulated clock begins.
const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// What all parts of one run share.
pub(crate) struct Simulation {
    pub(crate) plan: Plan,
    pub(crate) history: History,
    pub(crate) checks: Checks,
    pub(crate) progress: Progress,
    pub(crate) cloud: simulator::Cloud,
    /// Messages under way, and other work in the background.
    pub(crate) tasks: TaskTracker,
    /// What goes wrong now.
    pub(crate) faults: TaskTracker,
    /// Held while one replica becomes the primary.
    pub(crate) failing_over: tokio::sync::Mutex<()>,
    /// An attach is about to be sent.
    pub(crate) sending: Notify,
    /// A send was just recorded, and the reply to that is on its way.
    pub(crate) reserved: Notify,
    over: CancellationToken,
    clock: Server,
    primary: Mutex<Arc<Server>>,
    nodes: Mutex<Vec<Arc<Node>>>,
    conditions: Mutex<Conditions>,
}

/// What may change while it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions {
    /// Nothing goes wrong any more.
    pub(crate) calm: bool,
    /// No call reaches ENS.
    pub(crate) cloud_out: bool,
    /// ENS throttles everybody.
    pub(crate) throttled: bool,
    /// ENS takes the credentials' token for expired.
    pub(crate) token_expired: bool,
}

/// What a run came to.
#[derive(Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) plan: String,
    pub(crate) account: Account,
    pub(crate) violation: Option<Violation>,
}

/// Runs one plan that this seed draws.
pub(crate) fn run_drawn(seed: u64, draw: impl FnOnce(u64) -> Plan) -> Verdict {
    random::seeded(seed, || run_plan(draw(seed)))
}

/// Runs one seed.
pub(crate) fn run(seed: u64) -> Verdict {
    run_drawn(seed, Plan::draw)
}

fn run_plan(plan: Plan) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let text = format!("{plan:?}");
    let (account, violation) = runtime.block_on(async {
        let simulation = Simulation::begin(plan).await;
        let violation = simulation.checks.first(simulation.live()).await;
        (simulation.history.end(), violation)
    });
    Verdict { plan: text, account, violation }
}

pub(crate) fn instance(number: usize) -> String {
    format!("i-{number}")
}

pub(crate) fn eni(number: usize) -> String {
    format!("eni-{number}")
}

fn world(plan: &Plan) -> World {
    World::new(WorldFile {
        rules: plan.cloud.clone(),
        instances: (0..plan.instances + plan.crowd.as_ref().map_or(0, |_| QUIET))
            .map(|number| Instance::stopped(instance(number)))
            .collect(),
        enis: (0..plan.enis).map(|number| EniSpec::available(eni(number))).collect(),
    })
}

impl Simulation {
    async fn begin(plan: Plan) -> Arc<Self> {
        let simulation = Arc::new(Self {
            history: History::new(),
            checks: Checks::new(&plan),
            progress: Progress::default(),
            cloud: simulator::Cloud::new(world(&plan), simulator::Settings::default()),
            tasks: TaskTracker::new(),
            faults: TaskTracker::new(),
            failing_over: tokio::sync::Mutex::default(),
            sending: Notify::new(),
            reserved: Notify::new(),
            over: CancellationToken::new(),
            clock: Server::fresh(&plan, START),
            primary: Mutex::new(Arc::new(Server::fresh(&plan, START))),
            nodes: Mutex::default(),
            conditions: Mutex::new(Conditions {
                calm: false,
                cloud_out: false,
                throttled: false,
                token_expired: false,
            }),
            plan,
        });
        for index in 0..simulation.plan.gateways {
            let node = Node::start(&simulation, index, 0).await;
            simulation.nodes.lock().unwrap().push(node);
        }
        simulation
    }

    /// Calls, watches and faults for as long as planned; then calm, and the checks of its end
    /// all.
    async fn live(self: &Arc<Self>) {
        let mut callers: Vec<_> = (0..self.plan.callers)
            .map(|number| self.tasks.spawn(callers::call(self.clone(), number)))
            .collect();
        if let Some(crowd) = &self.plan.crowd {
            callers.extend(crowd::gather(self, crowd));
            let watched = self.clone();
            self.tasks.spawn(async move { watched.progress.watch(&watched).await });
        }
        let watchers: Vec<_> = (0..self.plan.watchers)
            .map(|number| self.tasks.spawn(watchers::watch(self.clone(), number)))
            .collect();
        let fleet_watchers: Vec<_> = (0..self.plan.fleet_watchers)
            .map(|number| self.tasks.spawn(fleet::watch(self.clone(), number)))
            .collect();
        self.tasks.spawn(faults::inject(self.clone()));
        let watched = self.clone();
        self.tasks.spawn(async move { watched.checks.watch_occupancy(&watched).await });
        tokio::time::sleep(self.plan.length).await;
        faults::end(self).await;
        for caller in callers {
            caller.await.unwrap();
        }
        final_checks::run(self, watchers).await;
        // It ends them.
        for watcher in fleet_watchers {
            fleet::judge(self, &watcher.await.unwrap());
        }
    }

    /// The one clock behind all others.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether callers attach to this instance.
    pub(crate) fn is_attached_to(&self, id: &InstanceId) -> bool {
        (0..self.plan.instances).any(|number| instance(number) == id.as_str())
    }

    /// Everything was seen: watchers leave.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    pub(crate) fn conditions(&self) -> Conditions {
        *self.conditions.lock().unwrap()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.conditions.lock().unwrap());
    }

    pub(crate) fn primary(&self) -> Arc<Server> {
        self.primary.lock().unwrap().clone()
    }

    pub(crate) fn set_primary(&self, server: Arc<Server>) {
        *self.primary.lock().unwrap() = server;
    }

    pub(crate) fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.lock().unwrap().clone()
    }

    pub(crate) fn any_node(&self) -> Arc<Node> {
        let nodes = self.nodes.lock().unwrap();
        nodes[random::between(0..nodes.len())].clone()
    }

    pub(crate) fn replace(&self, node: Arc<Node>) {
        let mut nodes = self.nodes.lock().unwrap();
        let index = node.index;
        nodes[index] = node;
    }

    pub(crate) fn ledger_network(&self) -> Quality {
        if self.conditions().calm { Quality::GOOD } else { self.plan.ledger_network }
    }

    pub(crate) fn cloud_network(&self, action: Action) -> Quality {
        let conditions = self.conditions();
        if conditions.calm {
            Quality::GOOD
        } else if conditions.cloud_out {
            Quality { lost: 0.9, ..self.plan.cloud_network }
        } else if action == Action::AttachNetworkInterface {
            // It may arrive for as long as its date is valid.
            Quality {
                slow: self.plan.late.unwrap_or(self.plan.cloud_network.slow),
                slowest: self.plan.bounds.validity + Duration::from_secs(5),
                ..self.plan.cloud_network
            }
        } else {
            self.plan.cloud_network
        }
    }

    pub(crate) fn cloud_fault(&self, action: Action, left: Option<Duration>) -> Option<Fault> {
        let conditions = self.conditions();
        if conditions.calm {
            return None;
        }
        if conditions.throttled {
            let effect = simulator::Effect::Throttle { retry_after: None };
            return Some(Fault::next(action, effect));
        }
        if conditions.token_expired && action == Action::AttachNetworkInterface {
            return Some(Fault::next(
                action,
                crate::cloud::refusal("InvalidSecurityToken.Expired"),
            ));
        }
        if let Some(left) = left
            && self.plan.hostile > 0.0
            && random::fraction() < self.plan.hostile
        {
            return Some(Fault::next(
                action,
                crate::cloud::draw_hostile(left.min(self.plan.spare)),
            ));
        }
        if self.plan.throttled > 0.0 && random::fraction() < self.plan.throttled {
            return Some(Fault::next(action, simulator::Effect::Throttle { retry_after: None }));
        }
        (random::fraction() < self.plan.cloud_faults)
            .then(|| crate::cloud::draw_fault(action, left))
    }

    /// A record was stored, on a server with this clock: checks it, and notifies its watchers.
    pub(crate) fn committed(
        self: &Arc<Self>,
        gateway: &str,
        proposal: &Proposal,
        before: &Record,
        clock: Clock,
    ) {
        self.checks.committed(self, gateway, proposal, before, clock);
        self.progress.committed(gateway, proposal, before, self.history.elapsed());
        if !proposal.effects.notify && !Mutation::hints_always(&self.plan) {
            return;
        }
        let deaf = if self.conditions().calm { 0.0 } else { self.plan.deaf };
        for node in self.nodes() {
            if deaf > 0.0 && random::fraction() < deaf {
                continue;
            }
            let (instance, delay) =
                (proposal.instance.clone(), Duration::from_micros(random::between(200..3_000)));
            self.tasks.spawn(async move {
                tokio::time::sleep(delay).await;
                node.link.hint(&instance);
            });
        }
    }
}
