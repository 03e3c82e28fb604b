//! The end of a run: with all calm, attempts and watchers must end, and promises must be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eni_gateway::grpc::proto::attachment::State;
use eni_gateway::grpc::proto::{Attachment, ListAttachmentsRequest};
use eni_gateway::ledger::Due;
use eni_gateway::simulator::{Call, EniStatus};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::callers::reason;
use crate::limits;
use crate::node::Node;
use crate::run::{Simulation, instance};
use crate::watchers::Seen;

/// Longest that an attempt may take to its end in a calm world: a recovery hold-down, three sends
/// with their grace periods, and the pauses between polls.
const PATIENCE: Duration = Duration::from_secs(400);
/// After this long without any call a list asks ENS again, and followed instances were described
/// again.
const REREAD: Duration = Duration::from_secs(80);

/// How often a list is asked for a complete answer, a second apart.
const LISTS: usize = 20;

/// Checks what is left.
pub(crate) async fn run(simulation: &Arc<Simulation>, watchers: Vec<JoinHandle<Seen>>) {
    if let Err(unfinished) = settled(simulation).await {
        return simulation.checks.violation(
            simulation,
            "A1",
            format!("not at an end: {unfinished}"),
        );
    }
    if simulation.plan.orphan {
        simulation.primary().plant(&orphan());
    }
    sleep(REREAD).await;
    let truth = truth(simulation);
    for node in simulation.nodes() {
        for number in 0..simulation.plan.instances {
            let instance = instance(number);
            let listed = match list(&node, &instance).await {
                Ok(attachments) => attachments,
                Err(why) => {
                    let what = format!("{} cannot list {instance}: {why}", node.name);
                    return simulation.checks.violation(simulation, "A1", what);
                }
            };
            let attached: Vec<_> = listed
                .iter()
                .filter(|attachment| attachment.state() == State::Attached)
                .map(|attachment| attachment.network_interface_id.clone())
                .collect();
            let there = truth.get(&instance).cloned().unwrap_or_default();
            if attached != there {
                let what = format!(
                    "{} shows {attached:?} on {instance}, where there are {there:?}",
                    node.name
                );
                return simulation.checks.violation(simulation, "A1", what);
            }
        }
    }
    sleep(Duration::from_secs(20)).await;
    simulation.end();
    for watcher in watchers {
        let seen = watcher.await.unwrap();
        watched(simulation, &seen);
    }
    simulation.checks.reported_effects(simulation);
    orphaned(simulation);
}

/// The attachments of an instance, by a complete answer. A read without a permit for its describe
/// does not wait for one: it is answered by what is known, or refused, and asked again.
async fn list(node: &Arc<Node>, instance: &str) -> Result<Vec<Attachment>, String> {
    let mut why = String::new();
    for _ in 0..LISTS {
        let request = ListAttachmentsRequest {
            instance_id: instance.to_owned(),
            ..ListAttachmentsRequest::default()
        };
        match node.client().list_attachments(request).await {
            Ok(listed) if !listed.get_ref().incomplete => {
                return Ok(listed.into_inner().attachments);
            }
            Ok(_) => "incomplete".clone_into(&mut why),
            Err(status) => why = reason(&status).0,
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err(why)
}

/// A due entry whose record is gone.
fn orphan() -> Due {
    Due { instance: "i-gone".parse().unwrap(), eni: "eni-gone".parse().unwrap() }
}

/// P3: a due entry without a record is dropped.
fn orphaned(simulation: &Simulation) {
    let orphan = orphan();
    let asked = simulation.cloud.world(|world, _| {
        let about = |call: &&Call| call.enis.iter().any(|eni| eni == orphan.eni.as_str());
        world.journal().calls.iter().filter(about).count()
    });
    if asked > limits::ORPHANED_DUE {
        let what = format!("ens was asked {asked} times about a due entry without a record");
        simulation.checks.violation(simulation, "P3", what);
    }
}

/// Waits until nothing is under way by the records; what is, if it does not end.
async fn settled(simulation: &Arc<Simulation>) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut unfinished = Vec::new();
        for number in 0..simulation.plan.instances {
            let record = simulation.primary().read(&instance(number).parse().unwrap(), None).record;
            let open = record.attempts.values().filter(|attempt| {
                attempt.is_reserved()
                    || attempt.state.due_at().is_some()
                    || !attempt.state.kind().is_terminal()
            });
            unfinished
                .extend(open.map(|attempt| format!("{} {:?}", attempt.eni, attempt.state.kind())));
        }
        if unfinished.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return Err(unfinished.join(", "));
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// What is in use, by instance, as ENS has it.
fn truth(simulation: &Simulation) -> BTreeMap<String, Vec<String>> {
    let mut truth: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let world = simulation.cloud.world(|world, _| world.snapshot());
    let primary = |id: &str| id.starts_with("eni-primary");
    for eni in world.enis.into_iter().filter(|eni| !primary(&eni.id)) {
        if let (EniStatus::InUse, Some(instance)) = (&eni.placement.status, eni.placement.instance)
        {
            truth.entry(instance).or_default().push(eni.id);
        }
    }
    truth
}

/// W1: each watcher saw the last state of everything.
fn watched(simulation: &Simulation, seen: &Seen) {
    let record = simulation.primary().read(&seen.instance.parse().unwrap(), None).record;
    for (eni, attempt) in record.attempts.iter() {
        if !seen.eni.is_empty() && seen.eni != eni.as_str() {
            continue;
        }
        let last = seen.attachments.get(eni.as_str()).map(|seen| seen.revision);
        if last != Some(attempt.revision.0) {
            let what = format!(
                "{} saw {eni} last at {last:?}, and it is at {}",
                seen.name, attempt.revision
            );
            return simulation.checks.violation(simulation, "W1", what);
        }
    }
}
