//! Faults of processes, servers, the cloud, and other parties.

use std::sync::Arc;
use std::time::Duration;

use eni_gateway::model::random;
use eni_gateway::simulator::{Action, EniStatus, Params, Placement};
use tokio::time::{sleep, timeout};

use crate::limits;
use crate::node::Node;
use crate::process_state::State;
use crate::run::{Conditions, Simulation, eni, instance};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A gateway dies, and is started again.
    Crash,
    /// A gateway's process stands still for a while.
    Pause,
    /// A gateway ends in order, and is started again.
    Drain,
    /// A gateway does not reach the ledger; at times none does.
    Unreachable,
    /// No gateway reaches the ledger from a moment on in which an attach is on its way.
    OutageInSend,
    /// The same, from a moment on in which the reply to a reservation is on its way.
    OutageInCommit,
    /// The ledger's server restarts with all it had.
    Restart,
    /// The ledger's server loses everything.
    Wipe,
    /// A replica that missed the last writes becomes the primary, and the gateways learn of it at
    /// different times.
    Failover,
    /// Somebody else attaches, without a check of free slots.
    ExternalAttach,
    /// Somebody else detaches.
    ExternalDetach,
    /// Hardly anything comes through to ENS and back.
    CloudOut,
    /// ENS throttles everybody.
    Throttle,
    /// ENS takes the credentials' token for expired, whatever is refreshed.
    TokenExpired,
    /// The clock of the ledger's server is set back.
    ClockBack,
    /// It is set forward.
    ClockForward,
}

impl Kind {
    pub(crate) const ALL: [Self; 11] = [
        Self::Crash,
        Self::Pause,
        Self::Drain,
        Self::Unreachable,
        Self::Restart,
        Self::Wipe,
        Self::Failover,
        Self::ExternalAttach,
        Self::ExternalDetach,
        Self::CloudOut,
        Self::Throttle,
    ];

    /// What the clock of the ledger's server does. Where it does so, that of the next primary
    /// differs as well.
    pub(crate) const CLOCK: [Self; 2] = [Self::ClockBack, Self::ClockForward];
}

/// A step of a clock: too small to differ from a slow answer, or larger than what the bounds have
/// to spare.
fn step() -> Duration {
    match random::between(0..4) {
        0 => seconds(0.05..SMALL_STEP.as_secs_f64()),
        1 => seconds(6.0..90.0),
        2 => Duration::from_secs(600),
        _ => Duration::from_secs(3600),
    }
}

/// Largest small step.
const SMALL_STEP: Duration = Duration::from_secs(1);

/// How long the next send is waited for.
const NEXT_SEND: Duration = Duration::from_secs(10);

fn seconds(range: std::ops::Range<f64>) -> Duration {
    Duration::from_secs_f64(random::between(range))
}

/// Injects the planned kinds now and then, until all is calm.
pub(crate) async fn inject(simulation: Arc<Simulation>) {
    let kinds = simulation.plan.faults.clone();
    loop {
        sleep(simulation.plan.calm.mul_f64(random::between(0.2..1.8))).await;
        if simulation.conditions().calm || kinds.is_empty() {
            return;
        }
        let kind = kinds[random::between(0..kinds.len())];
        simulation.faults.spawn(inject_one(simulation.clone(), kind));
    }
}

/// Waits until every fault is over, and nothing goes wrong any more.
pub(crate) async fn end(simulation: &Arc<Simulation>) {
    simulation.change(|conditions| conditions.calm = true);
    simulation.faults.close();
    simulation.faults.wait().await;
    simulation.history.note("all is calm");
}

/// Callers notice most of them: what they wait for meanwhile, and a while after, is excused.
async fn inject_one(simulation: Arc<Simulation>, kind: Kind) {
    let begins = match kind {
        Kind::OutageInSend => Some(&simulation.sending),
        Kind::OutageInCommit => Some(&simulation.reserved),
        _ => None,
    };
    if let Some(begins) = begins
        && timeout(NEXT_SEND, begins.notified()).await.is_err()
    {
        return;
    }
    let recovery = limits::recovery(kind, &simulation.plan);
    let outage = recovery.map(|_| simulation.progress.outage(simulation.history.elapsed()));
    apply(simulation.clone(), kind).await;
    if let (Some(outage), Some(recovery)) = (outage, recovery) {
        let ends = simulation.history.elapsed() + recovery;
        simulation.progress.outage_ends(outage, ends);
    }
}

async fn apply(simulation: Arc<Simulation>, kind: Kind) {
    let note = |what: String| simulation.history.note(format_args!("FAULT: {what}"));
    match kind {
        Kind::Crash => {
            let Some(node) = running(&simulation) else {
                return;
            };
            note(format!("{} dies", node.name));
            node.crash();
            sleep(seconds(0.0..15.0)).await;
            node.again(&simulation).await;
        }
        Kind::Drain => {
            let Some(node) = running(&simulation) else {
                return;
            };
            note(format!("{} ends in order", node.name));
            node.drain().await;
            sleep(seconds(0.0..5.0)).await;
            node.again(&simulation).await;
        }
        Kind::Pause => {
            let Some(node) = running(&simulation) else {
                return;
            };
            let pause = match random::between(0..3) {
                0 => seconds(0.05..2.0),
                1 => seconds(2.0..20.0),
                _ => seconds(20.0..80.0),
            };
            note(format!("{} stands still for {pause:?}", node.name));
            node.process.set(State::Paused);
            sleep(pause).await;
            node.process.set(State::Running);
            note(format!("{} continues", node.name));
            node.release();
        }
        Kind::Unreachable => {
            let all = random::fraction() < 0.4;
            let nodes = if all { simulation.nodes() } else { vec![simulation.any_node()] };
            let names: Vec<_> = nodes.iter().map(|node| &node.name).collect();
            let outage = seconds(0.2..20.0);
            note(format!("{names:?} do not reach the ledger for {outage:?}"));
            cut(&nodes, outage).await;
        }
        Kind::OutageInSend | Kind::OutageInCommit => {
            let outage = seconds(5.0..15.0);
            note(format!("the ledger is out of reach for {outage:?}"));
            cut(&simulation.nodes(), outage).await;
        }
        Kind::Restart => {
            note("the ledger restarts".to_owned());
            simulation.primary().restart();
            simulation.nodes().iter().for_each(|node| node.link.turn_to(node.link.server()));
        }
        Kind::Wipe => {
            note("the ledger loses everything".to_owned());
            simulation.checks.record_loss(&simulation, Duration::ZERO);
            simulation.primary().wipe();
            simulation.nodes().iter().for_each(|node| node.link.turn_to(node.link.server()));
        }
        Kind::Failover => failover(&simulation, note).await,
        Kind::ExternalAttach => external_attach(&simulation, note),
        Kind::ExternalDetach => {
            let eni = eni(random::between(0..simulation.plan.enis));
            let params = Params::from_iter([("NetworkInterfaceId", eni.as_str())]);
            let reply = simulation
                .cloud
                .world(|world, now| world.handle(Action::DetachNetworkInterface, &params, now));
            if reply.outcome.is_ok() {
                simulation.checks.detached(simulation.history.elapsed(), &eni);
            }
            note(format!("somebody detaches {eni}: {}", reply.code()));
        }
        Kind::CloudOut => {
            let outage = seconds(1.0..40.0);
            note(format!("hardly anything reaches ens for {outage:?}"));
            hold(&simulation, outage, |conditions| &mut conditions.cloud_out).await;
        }
        Kind::Throttle => {
            let outage = seconds(1.0..15.0);
            note(format!("ens throttles for {outage:?}"));
            hold(&simulation, outage, |conditions| &mut conditions.throttled).await;
        }
        Kind::TokenExpired => {
            let outage = seconds(1.0..20.0);
            note(format!("ens takes the token for expired for {outage:?}"));
            hold(&simulation, outage, |conditions| &mut conditions.token_expired).await;
        }
        Kind::ClockBack => {
            let step = step();
            note(format!("the ledger's clock is set back by {step:?}"));
            simulation.primary().step_clock(-micros(step));
        }
        Kind::ClockForward => {
            let step = step();
            note(format!("the ledger's clock is set forward by {step:?}"));
            simulation.primary().step_clock(micros(step));
            simulation.checks.record_expiry(&simulation);
        }
    }
}

/// These gateways do not reach the ledger for so long. Replies on their way are lost.
async fn cut(nodes: &[Arc<Node>], outage: Duration) {
    nodes.iter().for_each(|node| node.link.cut(true));
    sleep(outage).await;
    nodes.iter().for_each(|node| node.link.cut(false));
}

/// A condition is true for so long.
async fn hold(
    simulation: &Simulation,
    outage: Duration,
    condition: impl Fn(&mut Conditions) -> &mut bool,
) {
    simulation.change(|conditions| *condition(conditions) = true);
    sleep(outage).await;
    simulation.change(|conditions| *condition(conditions) = false);
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap()
}

/// A gateway that runs. No other fault affects it until it is released.
fn running(simulation: &Simulation) -> Option<Arc<Node>> {
    let node = simulation.any_node();
    node.take().then_some(node)
}

/// The last writes are lost: those of the time before, and those that the old primary still takes
/// after.
async fn failover(simulation: &Arc<Simulation>, note: impl Fn(String)) {
    let Ok(_one_at_a_time) = simulation.failing_over.try_lock() else {
        return;
    };
    let window = simulation.plan.bounds.failover_window.as_secs_f64() - 1.0;
    let before = random::between(0.0..window);
    let after = random::between(0.0..window - before);
    let old = simulation.primary();
    let replica = old.fork();
    sleep(Duration::from_secs_f64(before)).await;
    note(format!(
        "a replica becomes primary: writes of {before:.1} s are lost, and of up to \
         {after:.1} s to come"
    ));
    simulation.checks.record_loss(simulation, Duration::from_secs_f64(after));
    let new = Arc::new(old.promote(replica));
    if simulation.plan.faults.iter().any(|kind| Kind::CLOCK.contains(kind)) {
        let step = step();
        let ahead = random::fraction() < 0.5;
        note(format!("its clock is {step:?} {}", if ahead { "ahead" } else { "behind" }));
        new.step_clock(if ahead { micros(step) } else { -micros(step) });
    }
    simulation.set_primary(new.clone());
    for node in simulation.nodes() {
        let new = new.clone();
        let late = seconds(0.0..after.max(0.001));
        simulation.faults.spawn(async move {
            sleep(late).await;
            node.link.turn_to(new);
        });
    }
    sleep(Duration::from_secs_f64(after)).await;
}

/// An attach by another program, without a check of free slots.
fn external_attach(simulation: &Simulation, note: impl Fn(String)) {
    let (instance, eni) = (
        instance(random::between(0..simulation.plan.instances)),
        eni(random::between(0..simulation.plan.enis)),
    );
    let attached = simulation.cloud.world(|world, now| {
        let free = world
            .snapshot()
            .enis
            .iter()
            .any(|spec| spec.id == eni && spec.placement.status == EniStatus::Available);
        free && world.force(&eni, Placement::on(EniStatus::InUse, &instance), now).is_ok()
    });
    if attached {
        note(format!("somebody attaches {eni} to {instance}"));
        simulation.checks.external_attach(simulation, &instance, &eni);
    }
}
